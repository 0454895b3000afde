"""What any dialect may use: the contract it fills in, framing, and JSON parsing. Bytes in, bytes out; nothing waits."""
