"""Every fault that we know how to make, made on purpose, and what came of it."""
