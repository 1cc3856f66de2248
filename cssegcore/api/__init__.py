"""The door of the library for notebooks and scripts: models and steps from arrays, without files.

Images are uint8 RGB arrays (h, w, 3). Labels are uint8 arrays (h, w): 0 background, then the
classes in the order in which the steps learn them, from 1; 255 void. All these names are in
`cssegcore` itself, too: `from cssegcore import load, predict`.
"""

from cssegcore.api.exported import export_file as export_file
from cssegcore.api.prediction import LoadedModel as LoadedModel
from cssegcore.api.prediction import Prediction as Prediction
from cssegcore.api.prediction import load as load
from cssegcore.api.prediction import predict as predict
from cssegcore.api.scores import compute_confusion as compute_confusion
from cssegcore.api.scores import compute_metrics as compute_metrics
from cssegcore.api.step import train_step as train_step
