"""The performance harness: what a chat costs over a bare relay on the same stack. `README.md` says how to read it."""
