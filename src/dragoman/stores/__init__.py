"""Where tapes are kept: memory, sqlite."""
