"""What tests of connectors' execution share: an executor, and a handler that notes what reaches it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from dragoman.core.connectors import Executed
from dragoman.runtime.connectors import Opened
from dragoman.runtime.reach import Reach
from dragoman.tools.connectors.execute import ConnectorExecutor
from dragoman.tools.egress import Egress
from tests.support import FixedClock

CLOSED = "http://127.0.0.1:9/"
"""Nobody listens there."""


class Rig:
    """An executor, and how to use it."""

    def __init__(self, **options: Any) -> None:
        self.egress = Egress()
        wanted: dict[str, Any] = {"reach": Reach(), "clock": FixedClock(), "egress": self.egress} | options
        self.executor = ConnectorExecutor(**wanted)

    async def __call__(
        self, type_id: str, config: dict[str, Any], secrets: dict[str, Any], key: str = "run:call", **params: Any
    ) -> Executed:
        return await self.executor.execute(Opened("c", type_id, config, secrets), params, key=key)

    async def close(self) -> None:
        await self.executor.close()
        await self.egress.close()


@asynccontextmanager
async def rigged(**options: Any) -> AsyncIterator[Rig]:
    rig = Rig(**options)
    try:
        yield rig
    finally:
        await rig.close()


class Notes:
    """A handler that notes each request and answers what it was told."""

    def __init__(self, *answers: web.Response) -> None:
        self.seen: list[tuple[str, str, dict[str, str], str]] = []
        self._answers = list(answers)

    async def take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append((request.method, request.path_qs, headers, await request.text()))
        return self._answers.pop(0) if self._answers else web.json_response({"taken": True})
