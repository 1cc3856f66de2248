"""Training one step: the loop and what it needs."""
