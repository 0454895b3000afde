"""What the connectors, status and space routes take and give, spelled as on the wire (elastic spec 3.5, 3.6)."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

# -- connectors, as Kibana's actions API has them ----------------------------------------------------------------------


class NewConnector(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    connector_type_id: str
    config: dict[str, Any] | None = None
    secrets: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"NewConnector({self.connector_type_id!r})"


class ConnectorReplacement(Struct, frozen=True, forbid_unknown_fields=True):
    """What is left out is empty from then on; the type stays."""

    name: str
    config: dict[str, Any] | None = None
    secrets: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return "ConnectorReplacement(…)"


class Execution(Struct, frozen=True, forbid_unknown_fields=True):
    params: dict[str, Any]


class ConnectorBody(Struct, frozen=True):
    """Never holds secrets. `referenced_by_count` is in lists only, and 0: nothing here refers to connectors."""

    id: str
    name: str
    connector_type_id: str
    config: dict[str, Any]
    is_preconfigured: bool
    is_missing_secrets: bool
    is_deprecated: bool = False
    is_system_action: bool = False
    referenced_by_count: int | UnsetType = UNSET


class ExecutionResult(Struct, frozen=True):
    connector_id: str
    status: Literal["ok", "error"]
    data: Any = UNSET
    message: str | UnsetType = UNSET
    service_message: str | UnsetType = UNSET
    retry: bool | UnsetType = UNSET


class ConnectorTypeBody(Struct, frozen=True):
    """`description` is there for a type that is not enabled, and says why."""

    id: str
    name: str
    enabled: bool
    supported_feature_ids: tuple[str, ...]
    enabled_in_config: bool
    enabled_in_license: bool = True
    minimum_license_required: str = "basic"
    is_system_action_type: bool = False
    is_deprecated: bool = False
    description: str | UnsetType = UNSET


# -- connectors, as the assistant sees them ----------------------------------------------------------------------------


class Capabilities(Struct, frozen=True):
    contextWindowSize: int | UnsetType = UNSET


class AssistantConnector(Struct, frozen=True):
    type: str
    name: str
    connectorId: str
    config: dict[str, Any]
    capabilities: Capabilities
    isInferenceEndpoint: bool
    isPreconfigured: bool
    isDeprecated: bool = False
    isConnectorTypeDeprecated: bool = False
    isMissingSecrets: bool = False


# -- status and spaces -------------------------------------------------------------------------------------------------


class Version(Struct, frozen=True):
    number: str
    build_flavor: str = "traditional"
    build_snapshot: bool = False


class Level(Struct, frozen=True):
    level: str
    summary: str


class Overall(Struct, frozen=True):
    overall: Level


class StatusBody(Struct, frozen=True):
    name: str
    version: Version
    status: Overall


class Space(Struct, frozen=True):
    id: str
    name: str
    description: str
    disabledFeatures: tuple[str, ...]
    reserved: bool | UnsetType = field(default=UNSET, name="_reserved")
