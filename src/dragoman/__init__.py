"""Dragoman: one assistant server that every existing assistant client can talk to unchanged."""

__version__ = "0.1.0"
