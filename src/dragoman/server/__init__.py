"""The composition root: config, assembly, start and stop."""
