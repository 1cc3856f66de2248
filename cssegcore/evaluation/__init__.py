"""Testing a model, and the files that a test leaves."""
