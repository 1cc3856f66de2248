"""Continual (class-incremental) semantic segmentation, one recipe a method."""
