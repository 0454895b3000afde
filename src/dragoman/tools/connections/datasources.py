"""`list_datasources` and `get_datasource`: which connections there are. Named as mcp-grafana names them."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from dragoman.core.errors import ToolFailed
from dragoman.tools.connections.connection import Connection, Connections

LIST_LIMIT_DEFAULT = 50
LIST_LIMIT_MAX = 100


class ListDatasources(Struct, frozen=True, forbid_unknown_fields=True):
    type: Annotated[str, Meta(description="Only those of this type, such as prometheus. Leave out for all.")] = ""
    limit: Annotated[int, Meta(ge=1, le=LIST_LIMIT_MAX, description="How many to return at most.")] = LIST_LIMIT_DEFAULT
    offset: Annotated[int, Meta(ge=0, le=1_000_000, description="How many to skip.")] = 0


class GetDatasource(Struct, frozen=True, forbid_unknown_fields=True):
    uid: Annotated[str, Meta(description="The uid, as list_datasources gives it. Counts before name.")] = ""
    name: Annotated[str, Meta(description="The name, if the uid is not known.")] = ""


class _Datasource(Struct, frozen=True):
    uid: str
    name: str
    type: str
    host: str


class _Listing(Struct, frozen=True, rename="camel"):
    """Spelled as mcp-grafana spells it. `total` counts those of the type, shown or not."""

    total: int
    datasources: tuple[_Datasource, ...]
    has_more: bool


def list_datasources(connections: Connections, asked: ListDatasources) -> str:
    fitting = connections.all(asked.type)
    page = fitting[asked.offset : asked.offset + asked.limit]
    listing = _Listing(len(fitting), tuple(map(_shown, page)), asked.offset + len(page) < len(fitting))
    return msgspec.json.encode(listing).decode()


def get_datasource(connections: Connections, asked: GetDatasource) -> str:
    """A connection's uid is its name, so either finds it; with neither, the only one there is."""
    name = asked.uid or asked.name
    if name:
        return msgspec.json.encode(_shown(connections.named(name))).decode()
    known = connections.all()
    if len(known) == 1:
        return msgspec.json.encode(_shown(known[0])).decode()
    raise ToolFailed("Say which datasource with uid or name; list_datasources shows them all.")


def _shown(connection: Connection) -> _Datasource:
    """What a model may know: not the path, and no header, which may be secret."""
    return _Datasource(connection.name, connection.name, connection.kind, connection.host)
