"""The machine: devices, processes, and the state of an interrupted training."""
