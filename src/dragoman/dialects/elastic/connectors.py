"""Routes of connectors: Kibana's public actions API, and the assistant's own list of those that are models (elastic
spec 3.5, 3.6; Q21)."""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET

from dragoman.core.connectors import (
    Connector,
    ConnectorGone,
    ConnectorList,
    ConnectorTypes,
    CreateConnector,
    DeleteConnector,
    ExecuteConnector,
    Executed,
    ListConnectors,
    ListConnectorTypes,
    ReadConnector,
    ReplaceConnector,
)
from dragoman.core.names import Scope
from dragoman.core.operations import Operation, ReadStatus, Status
from dragoman.dialects.elastic import connector_shapes as shapes
from dragoman.dialects.elastic.requests import INTERNAL, body, query, write
from dragoman.wire.dialect import Parameter, Reply, Request, Route, json_reply

ACTIONS = "/api/actions"
ONE = f"{ACTIONS}/connector/{{id}}"
ASSISTANT = f"{INTERNAL}/connectors"
CALLBACK = f"{ACTIONS}/connector/_oauth_callback"
SCRIPT = f"{CALLBACK}_script"

INFERENCE = ".inference"
HTML = "text/html; charset=utf-8"
SCRIPT_TYPE = "text/javascript; charset=utf-8"
"""kibana-py has no reader for application/javascript."""

# -- requests ----------------------------------------------------------------------------------------------------------


def list_all(request: Request) -> ListConnectors:
    query(request)
    return ListConnectors()


def list_models(request: Request) -> ListConnectors:
    query(request)
    return ListConnectors(models_only=True)


def read_one(request: Request) -> ReadConnector:
    query(request)
    return ReadConnector(request.params["id"])


def read_model(request: Request) -> ReadConnector:
    query(request)
    return ReadConnector(request.params["connectorId"], models_only=True)


def create(request: Request) -> CreateConnector:
    """With an id of the caller's in the path, or without."""
    query(request)
    given = body(request, shapes.NewConnector)
    return CreateConnector(
        given.connector_type_id, given.name, given.config or {}, given.secrets or {}, request.params.get("id", "")
    )


def replace(request: Request) -> ReplaceConnector:
    query(request)
    given = body(request, shapes.ConnectorReplacement)
    return ReplaceConnector(request.params["id"], given.name, given.config or {}, given.secrets or {})


def delete(request: Request) -> DeleteConnector:
    query(request)
    write(request)
    return DeleteConnector(request.params["id"])


def execute(request: Request) -> ExecuteConnector:
    query(request)
    return ExecuteConnector(request.params["id"], body(request, shapes.Execution).params)


def list_types(request: Request) -> ListConnectorTypes:
    return ListConnectorTypes(query(request, "feature_id").get("feature_id", ""))


def nothing(request: Request) -> ReadStatus:
    """For what is answered alike whoever asks: providers may add to the query what they like."""
    return ReadStatus(counted=False)


# -- replies -----------------------------------------------------------------------------------------------------------


def connector_body(connector: Connector) -> shapes.ConnectorBody:
    return shapes.ConnectorBody(
        connector.id,
        connector.name,
        connector.type,
        connector.config,
        is_preconfigured=connector.preconfigured,
        is_missing_secrets=connector.missing_secrets,
    )


def shown(connector: Connector, request: Request) -> Reply:
    return json_reply(connector_body(connector))


def listed(found: ConnectorList, request: Request) -> Reply:
    return json_reply([msgspec.structs.replace(connector_body(each), referenced_by_count=0) for each in found.items])


def gone(_: ConnectorGone, request: Request) -> Reply:
    return Reply(204, media_type="")


def executed(result: Executed, request: Request) -> Reply:
    if result.ok:
        data = UNSET if result.data is None else result.data
        return json_reply(shapes.ExecutionResult(result.id, "ok", data))
    said = shapes.ExecutionResult(
        result.id,
        "error",
        message=result.message,
        service_message=result.service_message or UNSET,
        retry=result.retry,
    )
    return json_reply(said)


def types(found: ConnectorTypes, request: Request) -> Reply:
    return json_reply(
        [
            shapes.ConnectorTypeBody(
                each.id,
                each.name,
                each.enabled,
                each.features,
                enabled_in_config=each.enabled,
                description=each.why or UNSET,
            )
            for each in found.items
        ]
    )


def assistant_connector(connector: Connector) -> shapes.AssistantConnector:
    """What the configuration sets up and no provider stands behind is an endpoint of the server's own."""
    window = connector.config.get("contextWindowLength")
    return shapes.AssistantConnector(
        connector.type,
        connector.name,
        connector.id,
        connector.config,
        shapes.Capabilities(int(window) if isinstance(window, int | float) else UNSET),
        isInferenceEndpoint=connector.preconfigured and connector.type == INFERENCE,
        isPreconfigured=connector.preconfigured,
        isMissingSecrets=connector.missing_secrets,
    )


def assistant_shown(connector: Connector, request: Request) -> Reply:
    return json_reply(assistant_connector(connector))


def assistant_listed(found: ConnectorList, request: Request) -> Reply:
    return json_reply([assistant_connector(each) for each in found.items])


PAGE = b"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Connector login</title></head>
<body>
<p>This server does not log in to outside systems with OAuth. No connector was connected.</p>
<p>Give the connector a key in its secrets instead. You can close this window.</p>
<script src="_oauth_callback_script"></script>
</body>
</html>
"""
"""Nothing of the request stands in it."""
PAGE_HEADERS = (("content-security-policy", "default-src 'none'; script-src 'self'; frame-ancestors 'none'"),)
"""Its script is this server's."""
COMPLETION = b"""// Tells the page that opened the login window that it is over.
if (window.opener) {
  const over = { type: "oauth_flow_completed", status: "error", error: "not_offered" };
  window.opener.postMessage(over, window.location.origin);
}
"""


def callback_page(_: Status, request: Request) -> Reply:
    return Reply(200, PAGE, HTML, PAGE_HEADERS)


def callback_script(_: Status, request: Request) -> Reply:
    return Reply(200, COMPLETION, SCRIPT_TYPE)


# -- the table ---------------------------------------------------------------------------------------------------------


def _row(
    method: str,
    path: str,
    decode: Callable[[Request], Operation[Any]],
    answer: Callable[[Any, Request], Reply],
    summary: str,
    *scopes: Scope,
    **more: Any,
) -> Route[Any]:
    allowed = (Scope.CHAT_RUN, *scopes)
    return Route(method, path, decode, answer=answer, scopes=allowed, summary=summary, **more)


_BODY, _WRITE = shapes.ConnectorBody, Scope.RESOURCES_WRITE
_FEATURE = Parameter("feature_id", "Only types that support this feature, such as alerting")

ROUTES: tuple[Route[Any], ...] = (
    _row("GET", f"{ACTIONS}/connectors", list_all, listed, "All connectors", gives=tuple[_BODY, ...]),
    _row(
        "GET",
        f"{ACTIONS}/connector_types",
        list_types,
        types,
        "Types of connectors, and which of them this server can do",
        gives=tuple[shapes.ConnectorTypeBody, ...],
        asks=(_FEATURE,),
    ),
    _row(
        "POST",
        f"{ACTIONS}/connector",
        create,
        shown,
        "Set up a connector",
        _WRITE,
        takes=shapes.NewConnector,
        gives=_BODY,
    ),
    _row(
        "POST",
        ONE,
        create,
        shown,
        "Set up a connector under an id of your own",
        _WRITE,
        takes=shapes.NewConnector,
        gives=_BODY,
    ),
    _row("GET", ONE, read_one, shown, "A connector, without its secrets", gives=_BODY),
    _row(
        "PUT",
        ONE,
        replace,
        shown,
        "Replace a connector's name, config and secrets",
        _WRITE,
        takes=shapes.ConnectorReplacement,
        gives=_BODY,
    ),
    _row("DELETE", ONE, delete, gone, "Delete a connector", _WRITE, status=204),
    _row(
        "POST",
        f"{ONE}/_execute",
        execute,
        executed,
        "Have a connector do what it is for",
        Scope.TOOLS_USE,
        takes=shapes.Execution,
        gives=shapes.ExecutionResult,
    ),
    _row(
        "GET",
        CALLBACK,
        nothing,
        callback_page,
        "Where an OAuth login ends: says that there is none",
        gives=str,
        gives_media_type=HTML,
    ),
    _row("GET", SCRIPT, nothing, callback_script, "The script of that page", gives=str, gives_media_type=SCRIPT_TYPE),
    _row(
        "GET",
        ASSISTANT,
        list_models,
        assistant_listed,
        "Connectors that can answer",
        gives=tuple[shapes.AssistantConnector, ...],
    ),
    _row(
        "GET",
        f"{ASSISTANT}/{{connectorId}}",
        read_model,
        assistant_shown,
        "A connector that can answer",
        gives=shapes.AssistantConnector,
    ),
)
