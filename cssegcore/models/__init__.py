"""Networks: feature extractors, heads, and the files they are saved in."""
