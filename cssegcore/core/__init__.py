"""Ground that every other package stands on; it imports no torch but in `precision`."""
