"""Datasets, their index and splits, and batches."""
