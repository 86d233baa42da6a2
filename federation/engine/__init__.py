"""The embedded engine: all nodes of a run on this machine, behind Flower's own `Grid`."""
