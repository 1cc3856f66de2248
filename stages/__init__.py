"""The pipeline's commands: read parameters, call the library, write outputs."""
