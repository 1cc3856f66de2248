"""Training of one incremental step: its setup, its loop, its objective and its optimizers."""
