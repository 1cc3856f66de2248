"""A method: a recipe, and the parts it names, one folder a slot."""
