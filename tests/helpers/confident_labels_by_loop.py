"""SSUL's rule for pseudo-labels, one pixel at a time."""

import math

import numpy as np


def plain_labels(logits, labels, threshold, first_class, scores):
    """The rule of SSUL, one pixel at a time."""
    found = labels.copy()
    for b, y, x in np.ndindex(labels.shape):
        z = [float(v) for v in logits[b, :, y, x]]
        if scores == "sigmoid":
            probabilities = [1 / (1 + math.exp(-v)) for v in z]
        else:
            total = math.fsum(math.exp(v) for v in z)
            probabilities = [math.exp(v) / total for v in z]
        best = max(range(len(z)), key=probabilities.__getitem__)
        sure = best >= first_class and probabilities[best] >= threshold
        if labels[b, y, x] < first_class and sure:
            found[b, y, x] = best
    return found
