"""Carries connectors out, each by its type. Fits `runtime.connectors.Executor`."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from dragoman.core.connectors import Executed
from dragoman.core.errors import BadRequest
from dragoman.core.names import Clock
from dragoman.runtime.connectors import Opened
from dragoman.runtime.reach import Reach
from dragoman.tools.connections.connection import Connection
from dragoman.tools.connectors.blotting import without_secrets
from dragoman.tools.connectors.index import LACKING, IndexParams, elasticsearch, execute_index
from dragoman.tools.connectors.posting import Posting
from dragoman.tools.connectors.webhook import (
    SLACK_API,
    SlackApiParams,
    SlackParams,
    WebhookParams,
    execute_slack,
    execute_slack_api,
    execute_webhook,
)
from dragoman.tools.egress import Egress

logger = logging.getLogger("dragoman.connectors")

LOG_CHARS_MAX = 4000
LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}

P = TypeVar("P", bound=Struct)


class ServerLogParams(Struct, frozen=True, forbid_unknown_fields=True):
    message: str
    level: str = "info"


class ConnectorExecutor:
    """Make it anywhere, use it on one event loop, close it there. `egress` is somebody else's to close."""

    def __init__(
        self,
        *,
        reach: Reach,
        clock: Clock,
        egress: Egress,
        connections: Sequence[Connection] = (),
        email_domains: Sequence[str] = ("*",),
        slack_api: str = SLACK_API,
    ) -> None:
        self._reach = reach
        self._clock = clock
        self._egress = egress
        self._elasticsearch = elasticsearch(connections)
        self._email_domains = tuple(email_domains)
        self._slack_api = slack_api
        self._posting = Posting(reach, clock)

    def lacking(self, type_id: str) -> str:
        """See the port."""
        return LACKING if type_id == ".index" and self._elasticsearch is None else ""

    async def execute(self, connector: Opened, params: Mapping[str, Any], *, key: str) -> Executed:
        """See the port. What comes back holds none of the connector's secrets."""
        return without_secrets(await self._execute(connector, params, key=key), connector)

    async def _execute(self, connector: Opened, params: Mapping[str, Any], *, key: str) -> Executed:
        match connector.type:
            case ".webhook":
                return await execute_webhook(self._posting, connector, _typed(params, WebhookParams), key=key)
            case ".slack":
                return await execute_slack(self._posting, connector, _typed(params, SlackParams))
            case ".slack_api":
                wanted = _typed(params, SlackApiParams)
                return await execute_slack_api(self._posting, connector, wanted, url=self._slack_api)
            case ".email":
                return await self._email(connector, params, key=key)
            case ".index":
                documents = _typed(params, IndexParams)
                at = datetime.fromtimestamp(self._clock.now(), UTC).isoformat(timespec="milliseconds")
                at = at.replace("+00:00", "Z")
                return await execute_index(self._egress, self._elasticsearch, connector, documents, at=at, key=key)
            case ".server-log":
                return _log(connector, _typed(params, ServerLogParams))
            case _:
                raise BadRequest(f"A connector of type {connector.type} cannot be executed.")

    async def _email(self, connector: Opened, params: Mapping[str, Any], *, key: str) -> Executed:
        from dragoman.tools.connectors.email import EmailParams, execute_email  # noqa: PLC0415 most servers send none

        return await execute_email(
            connector,
            _typed(params, EmailParams),
            reach=self._reach,
            domains=self._email_domains,
            clock=self._clock,
            key=key,
        )

    async def close(self) -> None:
        await self._posting.close()


def _log(connector: Opened, params: ServerLogParams) -> Executed:
    level = LEVELS.get(params.level)
    if level is None:
        raise BadRequest(f"params.level must be one of {', '.join(LEVELS)}.")
    # One line, whatever it holds: else a message could look like further lines of our log.
    text = "".join(char if char.isprintable() else " " for char in params.message[:LOG_CHARS_MAX])
    logger.log(level, "connector %s: %s", connector.id, text)
    return Executed(connector.id, True)


def _typed(params: Mapping[str, Any], shape: type[P]) -> P:
    try:
        return msgspec.convert(params, shape)
    except msgspec.ValidationError as error:
        said = str(error).replace("`", "").replace("$.", "params.")
        raise BadRequest(f"The parameters do not fit this type of connector: {said}.") from None
