"""The connectors tools as models see them: what can be told something, and telling it (elastic spec 4.5)."""

from typing import Any

import msgspec
from msgspec import Struct

from dragoman.core.agents import Repeat, ToolSpec
from dragoman.core.errors import BadRequest, NotFound, ToolFailed
from dragoman.runtime.connector_checks import KINDS
from dragoman.runtime.connectors import Connectors
from dragoman.runtime.tool_ports import CallContext
from dragoman.tools.arguments import schema_of, typed
from dragoman.tools.connectors.posting import TOTAL_S
from dragoman.tools.registry import Registry

TOOLSET = "connectors"
LOOK_UP_S = 5.0
EXECUTE_S = TOTAL_S + 30.0
"""Above the clients' own limits, whose sentences say more."""

PARAMS = {
    ".webhook": {"body": "text, most often JSON"},
    ".slack": {"message": "text"},
    ".slack_api": {"subAction": "postMessage", "subActionParams": {"channels": ["name"], "text": "text"}},
    ".email": {"to": ["address"], "cc": ["address"], "bcc": ["address"], "subject": "text", "message": "text"},
}
"""What to give for each type that a model may use."""


class GetConnectorInfo(Struct, frozen=True):
    pass


class ExecuteConnectorCall(Struct, frozen=True):
    id: str
    params: dict[str, Any]


GET_CONNECTOR_INFO = ToolSpec(
    "get_connector_info",
    "List the connectors that can be told something (Slack, e-mail, webhooks) with id, type, name, and the params that "
    "execute_connector takes for each. Use it before execute_connector.",
    schema_of(GetConnectorInfo),
    repeat=Repeat.PURE,
    toolset=TOOLSET,
    timeout_s=LOOK_UP_S,
    examples=("Which connectors are there?", "Where can you send a message to?", "List the connectors"),
    keywords=("connectors", "connector", "slack", "email", "webhook", "list"),
)
EXECUTE_CONNECTOR = ToolSpec(
    "execute_connector",
    "Send a message or a request through one connector: post to Slack, send an e-mail, call a webhook. id is the "
    "connector's, params are its type's: see get_connector_info. Only when the user asks for it.",
    schema_of(ExecuteConnectorCall),
    repeat=Repeat.ONCE,
    toolset=TOOLSET,
    timeout_s=EXECUTE_S,
    examples=("Send this to Slack through the connector alerts", "Execute the connector on-call with this body"),
    keywords=("execute", "connector", "send", "notify", "slack", "email", "webhook"),
)


def register_connectors(registry: Registry, connectors: Connectors) -> None:
    """Offer both tools. A model may use what is `lent`: neither models, nor indices, nor the server's log."""

    async def info(_: GetConnectorInfo, context: CallContext) -> str:
        kept = [each for each in await connectors.all_kept(context.project) if each.kind.lent]
        found = [
            {"id": each.id, "type": each.body.type, "name": each.body.name, "params": PARAMS[each.body.type]}
            for each in kept
        ]
        return msgspec.json.encode({"connectors": found}).decode()

    async def execute(asked: ExecuteConnectorCall, context: CallContext) -> str:
        kept = await connectors.kept(context.project, asked.id)
        if kept is None:
            raise ToolFailed(f"There is no connector {asked.id[:100]!a}. See get_connector_info for those there are.")
        if not kept.kind.lent:
            lent = ", ".join(kind.id for kind in KINDS.values() if kind.lent)
            raise ToolFailed(f"The connector {asked.id} is of type {kept.body.type}; only {lent} can be executed.")
        try:
            executed = await connectors.use(context.project, asked.id, asked.params, key=context.key)
        except (BadRequest, NotFound) as error:
            raise ToolFailed(error.detail) from None
        if not executed.ok:
            said = f": {executed.service_message}" if executed.service_message else ""
            raise ToolFailed(f"{executed.message}{said}. Tell the user what was not sent.")
        return msgspec.json.encode({"status": "ok", "connector_id": executed.id, "data": executed.data}).decode()

    registry.register(GET_CONNECTOR_INFO, typed(GetConnectorInfo, info))
    registry.register(EXECUTE_CONNECTOR, typed(ExecuteConnectorCall, execute))
