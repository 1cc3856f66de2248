"""Numbers from confusion matrices; NumPy only."""
