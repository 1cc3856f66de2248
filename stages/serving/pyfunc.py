"""The code of an MLflow model of ours: it travels with the model and needs cssegcore beside it.

Photographs in, uint8 RGB (b, h, w, 3); labels (b, h, w) and their scores out.
"""

from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class SegmentationModel(PythonModel):
    """Labels photographs as `cssegcore.predict` does."""

    def load_context(self, context: PythonModelContext) -> None:
        import cssegcore

        self._model = cssegcore.load(context.artifacts["model"])

    def predict(  # type: ignore[override]
        self,
        context: PythonModelContext,
        model_input,  # noqa: ANN001 - MLflow makes a schema of what is said here
        params: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        import numpy as np

        import cssegcore

        predictions = cssegcore.predict(self._model, np.asarray(model_input, np.uint8))
        return {
            "labels": np.stack([one.labels for one in predictions]),
            "confidences": np.stack([one.confidences for one in predictions]),
        }


set_model(SegmentationModel())
