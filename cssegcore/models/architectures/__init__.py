"""Architectures: a backbone and a decoder, one module each, found by name."""
