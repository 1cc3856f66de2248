"""Labels as annotation tools write them, made into the folder layout: one module a form."""
