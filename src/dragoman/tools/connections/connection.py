"""Connections: outside systems by name, as the configuration gives them."""

from collections.abc import Sequence
from difflib import get_close_matches

from msgspec import Struct

from dragoman.core.errors import ToolFailed
from dragoman.tools.egress import Allowed, Target, base_url

NAMES_SHOWN_MAX = 20


class Connection(Struct, frozen=True):
    """One outside system. `name` is also its uid; `kind` is what it speaks, such as `prometheus`.

    `headers` go with every request and may hold secrets. `allow` narrows or widens what may be asked; () = what the
    tools of its kind need.
    """

    name: str
    kind: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    allow: tuple[Allowed, ...] = ()

    def __repr__(self) -> str:
        return f"Connection({self.name!r}, {self.kind!r})"

    @property
    def host(self) -> str:
        """Host, and port unless it is the usual one, of the address: without path or anything secret."""
        return base_url(self.url, name=self.name).host_port_subcomponent or ""

    def target(self, allow: tuple[Allowed, ...]) -> Target:
        """What to ask through `Egress`; `allow` counts where the configuration says nothing."""
        return Target(self.name, self.url, self.allow or allow, self.headers)


class Connections:
    """All of them, in the configuration's order."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        """Raises ValueError, with a sentence, for a name given twice, an unusable url or an unusable header."""
        self._by_name: dict[str, Connection] = {}
        for connection in connections:
            if connection.name in self._by_name:
                raise ValueError(f"connection {connection.name!r} is configured twice")
            base_url(connection.url, name=connection.name)
            if any(char in text for pair in connection.headers for text in pair for char in "\r\n\0"):
                raise ValueError(f"connection {connection.name!r}: a header may not contain a line end")
            self._by_name[connection.name] = connection

    def all(self, kind: str = "") -> tuple[Connection, ...]:
        """Those whose kind contains `kind`, upper or lower case."""
        return tuple(one for one in self._by_name.values() if kind.lower() in one.kind.lower())

    def named(self, uid: str) -> Connection:
        """Raises ToolFailed naming what there is."""
        connection = self._by_name.get(uid)
        if connection is not None:
            return connection
        closest = get_close_matches(uid, self._by_name, n=1, cutoff=0.5)
        hint = f"Did you mean {closest[0]}?" if closest else self._there_are()
        raise ToolFailed(f"There is no datasource {uid[:100]!a}. {hint}")

    def only(self, kind: str, *, uid: str) -> Connection:
        """The one of a kind that `uid` names; "" is enough where there is just one. Raises ToolFailed."""
        if uid:
            connection = self.named(uid)
            if connection.kind != kind:
                raise ToolFailed(f"{uid} is a datasource of type {connection.kind}, not {kind}.")
            return connection
        fitting = [one for one in self._by_name.values() if one.kind == kind]
        if len(fitting) == 1:
            return fitting[0]
        names = ", ".join(one.name for one in fitting[:NAMES_SHOWN_MAX])
        detail = f"Say which one with datasourceUid: {names}." if names else f"No {kind} datasource is configured."
        raise ToolFailed(detail)

    def _there_are(self) -> str:
        names = ", ".join(list(self._by_name)[:NAMES_SHOWN_MAX])
        return f"There are: {names}." if names else "None is configured."
