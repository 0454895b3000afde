"""What a server says of itself to anybody, as an operation: no credential is asked for."""

from msgspec import Struct

from dragoman.core.operations import Operation


class ServerAbout(Struct, frozen=True):
    """`agents` are names, the default one first; there is always one."""

    version: str
    agents: tuple[str, ...]


class AboutServer(Operation[ServerAbout], frozen=True):
    """Which program this is, and whom one can talk to."""
