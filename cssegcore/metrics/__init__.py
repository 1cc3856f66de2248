"""Numbers from confusion matrices; NumPy only, but for `counting`."""
