"""Writes documents into an index of the configured Elasticsearch, with the connection's own key."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from dragoman.core.connectors import Executed
from dragoman.core.errors import BadRequest, ToolFailed
from dragoman.runtime.connectors import Opened
from dragoman.tools.connections.connection import Connection
from dragoman.tools.egress import Allowed, Egress

KIND = "elasticsearch"
DOCUMENTS_MAX = 1000
BODY_BYTES_MAX = 1024 * 1024
BULK = (Allowed("POST", "/_bulk"),)
LACKING = f'no Elasticsearch is configured; add a connection of kind "{KIND}" to the configuration'


class IndexParams(Struct, frozen=True, forbid_unknown_fields=True):
    documents: tuple[dict[str, Any], ...]


class _Bulk(Struct):
    errors: bool = False
    items: tuple[dict[str, dict[str, Any]], ...] = ()


def elasticsearch(connections: Sequence[Connection]) -> Connection | None:
    """Where documents go: the first one that is configured."""
    return next((connection for connection in connections if connection.kind == KIND), None)


async def execute_index(
    egress: Egress, connection: Connection | None, connector: Opened, params: IndexParams, *, at: str, key: str
) -> Executed:
    """`at` is the time for the field that the connector names for it. Raises BadRequest."""
    if connection is None:
        return _failed(connector.id, f"It cannot be done: {LACKING}.")
    if not 1 <= len(params.documents) <= DOCUMENTS_MAX:
        raise BadRequest(f"params.documents must hold 1 to {DOCUMENTS_MAX} documents.")
    body = _lines(connector.config, params.documents, at=at)
    if len(body) > BODY_BYTES_MAX:
        raise BadRequest(f"params.documents may have {BODY_BYTES_MAX // 1024} KiB of JSON in all.")
    refresh = "true" if connector.config.get("refresh") else "false"
    try:
        answer = await egress.request(
            connection.target(BULK),
            "POST",
            "/_bulk",
            params=(("refresh", refresh),),
            body=body,
            media_type="application/x-ndjson",
            key=key,
        )
    except ToolFailed as failed:
        return _failed(connector.id, failed.detail, retry=failed.code == "timeout")
    if answer.status != 200:
        return _failed(connector.id, f"{connection.name} answered with status {answer.status}")
    try:
        bulk = msgspec.json.decode(answer.body, type=_Bulk)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _failed(connector.id, f"{connection.name} did not answer as Elasticsearch does")
    reasons = [_reason(result) for item in bulk.items for result in item.values() if "error" in result]
    if bulk.errors or reasons:
        return _failed(connector.id, reasons[0] if reasons else "some documents were refused")
    return Executed(connector.id, True, data={"errors": False, "items": bulk.items})


def _lines(config: dict[str, Any], documents: Sequence[dict[str, Any]], *, at: str) -> bytes:
    action = msgspec.json.encode({"index": {"_index": config["index"]}})
    field = config.get("executionTimeField")
    stamp = {field: at} if field else {}
    return b"".join(b"%s\n%s\n" % (action, msgspec.json.encode({**each, **stamp})) for each in documents)


def _reason(result: dict[str, Any]) -> str:
    error = result["error"]
    return str(error.get("reason", "refused") if isinstance(error, dict) else error)[:300]  # pyright: ignore


def _failed(connector_id: str, said: str, *, retry: bool = False) -> Executed:
    return Executed(connector_id, False, message="error indexing documents", service_message=said, retry=retry)
