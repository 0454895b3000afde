"""The engine without a disk: for ephemeral conversations and for tests. It keeps every promise but to survive."""

from dragoman.stores.memory.store import MemoryStore

__all__ = ["MemoryStore"]
