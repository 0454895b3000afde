"""A house whose one dialect has the routes of login and service accounts, and nothing but memory under it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from dragoman.access.ports import Project
from dragoman.core.errors import DragomanError, NotAuthenticated
from dragoman.core.names import Scope
from dragoman.dialects.grafana import login, service_accounts
from dragoman.dialects.grafana.errors import fail
from dragoman.server.assemble import open_house
from dragoman.server.config_shapes import Config, Server
from dragoman.server.house import House, Parts
from dragoman.stores.memory import MemoryStore
from dragoman.wire.dialect import Dialect, Reply, Request
from tests.parts import ADMIN, LedgerTools, ScriptedReplies, open_config
from tests.streaming_client import Client, Response
from tests.support import FixedClock

BASE = service_accounts.BASE


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, text = headers.get("authorization", "").partition(" ")
    if scheme != "Bearer":
        raise NotAuthenticated("Authentication required")
    return text


def _fail(error: DragomanError, request: Request | None) -> Reply:
    return login.as_page(fail(error, request), error, request)


DIALECT = Dialect(
    name="grafana",
    title="Grafana",
    prefixes=(BASE, "/a/", "/api/cli/"),
    routes=(*login.routes(), *service_accounts.routes()),
    credential=_bearer,
    fail=_fail,
)


class Callers:
    """What tests call the house with."""

    def __init__(self, house: House, clock: FixedClock, credential: str) -> None:
        self.house = house
        self.clock = clock
        self.credential = credential

    async def send(
        self, method: str, path: str, body: Any = None, *, credential: str = "", headers: Mapping[str, str] = {}
    ) -> Response:
        known = {"authorization": f"Bearer {credential}"} if credential else {}
        raw = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        return await Client(self.house.app).request(method, path, headers={**known, **headers}, body=raw)

    async def call(self, method: str, path: str, body: Any = None, *, credential: str = "") -> tuple[int, Any]:
        """Status and JSON of what an admin, or whoever is named, gets."""
        answer = await self.send(method, path, body, credential=credential or self.credential)
        return answer.status, msgspec.json.decode(answer.body)


@asynccontextmanager
async def callers(home: Path, *, per_ip_rpm: int = 0, **server: Any) -> AsyncIterator[Callers]:
    """`server` are keys of the configuration's table of that name."""
    clock = FixedClock()
    store = MemoryStore(clock)
    config: Config = msgspec.structs.replace(open_config(per_ip_rpm=per_ip_rpm), server=Server(**server))
    parts = Parts(
        clock=clock,
        store=store,
        access=store,
        models={config.defaults.model: ScriptedReplies()},
        tools=LedgerTools({}),
        dialects=(DIALECT,),
    )
    async with open_house(config, home, parts=parts) as house:
        await house.access.put_project(Project(ADMIN.project, "default", 0.0))
        minted = await house.mint.create("admin", ADMIN.project, scopes=(Scope.ADMIN,), rpm=0)
        yield Callers(house, clock, minted.text)
