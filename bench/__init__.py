"""Commands behind every figure in README and docs."""
