"""Connectors: outside systems that people set up while the server runs. A connector of a model *is* a model; one of a
notifier can be told something.

They belong to a project. `config` is open; `secrets` are sealed before they reach a store and never read back.
Models of the configuration file show up as connectors too, *preconfigured*: to be used, not to be changed.
"""

from typing import Any

from msgspec import Struct, field

from dragoman.core.operations import Operation


class Connector(Struct, frozen=True):
    """One as it stands. `type` begins with a dot, such as `.gen-ai`."""

    id: str
    type: str
    name: str
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    preconfigured: bool = False
    missing_secrets: bool = False
    """It needs secrets that are not there, or that this server cannot open: they were kept under another key."""
    model: bool = False
    """It can answer turns: its id is a model's name."""
    created_at: float = 0.0
    updated_at: float = 0.0


class ConnectorType(Struct, frozen=True):
    """A kind of connector. `enabled` False: known, and not to be had on this server; `why` says what is missing."""

    id: str
    name: str
    features: tuple[str, ...]
    enabled: bool = True
    why: str = ""


class ConnectorList(Struct, frozen=True):
    items: tuple[Connector, ...]


class ListConnectors(Operation[ConnectorList], frozen=True):
    """By name, then by id; preconfigured ones among them. `models_only`: those that can answer turns."""

    models_only: bool = False


class ReadConnector(Operation[Connector], frozen=True):
    """Raises NotFound(what="connector"), also if `models_only` and it is none."""

    id: str
    models_only: bool = False


class CreateConnector(Operation[Connector], frozen=True):
    """`id` "" = one is made up. Raises BadRequest (unknown type, bad config, id too long), Conflict if the id is taken,
    NotAllowed without resources:write, NotOffered for a type this server cannot do."""

    type: str
    name: str
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    secrets: dict[str, Any] = field(default_factory=dict[str, Any])
    id: str = ""

    def __repr__(self) -> str:
        return f"CreateConnector({self.id!r}, {self.type!r})"


class ReplaceConnector(Operation[Connector], frozen=True):
    """Name, config and secrets anew; the type stays. Raises NotFound, BadRequest (also for a preconfigured one),
    NotAllowed."""

    id: str
    name: str
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    secrets: dict[str, Any] = field(default_factory=dict[str, Any])

    def __repr__(self) -> str:
        return f"ReplaceConnector({self.id!r})"


class ConnectorGone(Struct, frozen=True):
    id: str


class DeleteConnector(Operation[ConnectorGone], frozen=True):
    """Raises NotFound; BadRequest for a preconfigured one; NotAllowed."""

    id: str


class Executed(Struct, frozen=True):
    """What came of it. `ok` False: the outside system did not take it; `message` says why."""

    id: str
    ok: bool
    data: Any = None
    message: str = ""
    service_message: str = ""
    retry: bool = False


class ExecuteConnector(Operation[Executed], frozen=True):
    """Have a connector do what it is for. Raises NotFound; BadRequest if the parameters are not its type's; NotAllowed
    without tools:use."""

    id: str
    params: dict[str, Any]


class ConnectorTypes(Struct, frozen=True):
    items: tuple[ConnectorType, ...]


class ListConnectorTypes(Operation[ConnectorTypes], frozen=True):
    """`feature` "" = all."""

    feature: str = ""
