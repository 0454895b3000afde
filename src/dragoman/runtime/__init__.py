"""The agent runtime: decides the next step from the tape, carries it out through ports, writes before it speaks."""
