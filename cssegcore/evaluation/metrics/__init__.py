"""Optional metrics, beside the metrics of every step: one module each, found by name."""

from cssegcore.evaluation.metrics._base import Metric, MetricValue, PredictedBatch, by_group

__all__ = ["Metric", "MetricValue", "PredictedBatch", "by_group"]
