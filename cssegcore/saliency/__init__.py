"""What stands out in a photograph: the maps behind the unknown class."""
