"""The library held against reference vectors: `python -m tests.conformance DIR`."""
