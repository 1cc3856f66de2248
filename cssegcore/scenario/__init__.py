"""Which class arrives when, and which image belongs to which step."""
