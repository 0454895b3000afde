"""A house with websites: projects that have a client id and a secret, and visitors that chat through the widget.

A configured agent answers in the place of a workflow: what is looked at here is who may say what, and what it is told.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from dragoman.access.pepper import Pepper
from dragoman.access.ports import Project
from dragoman.access.widget_sessions import WidgetSessions
from dragoman.core.names import CallId, Principal, ProjectId, Scope
from dragoman.core.operations import StartTurn
from dragoman.dialects.elastic import DIALECT as ELASTIC
from dragoman.dialects.grafana import DIALECT as GRAFANA
from dragoman.dialects.grip import DIALECT as GRIP
from dragoman.dialects.rowboat import DIALECT as ROWBOAT
from dragoman.dialects.rowboat.widget import PREFIX
from dragoman.edge.asgi import App
from dragoman.edge.authenticate import Door, Limits
from dragoman.edge.desk import Desk, Facts
from dragoman.edge.house import HOUSE
from dragoman.edge.metrics import Metrics
from dragoman.edge.watching import Watch
from dragoman.runtime.counters import Counters
from dragoman.runtime.widget import WidgetChats
from dragoman.server.house import House
from dragoman.stores.memory import MemoryStore
from tests.parts import LedgerTools, ScriptedReplies, house_of, open_config, text_reply
from tests.streaming_client import Client, Response
from tests.support import FixedClock

PEPPER = Pepper("p1", b"k" * 32)
OURS, THEIRS = ProjectId("default"), ProjectId("other")
OTHERS = (ELASTIC, GRAFANA, GRIP)
"""Wires that know of no visitors."""
UNLIMITED = Limits(
    per_address_rpm=0, per_credential_rpm=0, per_project_rpm=0, body_bytes_max=100_000, readers_per_conversation=10
)


class Site(Struct, frozen=True):
    """What a project keeps for its websites."""

    client_id: str
    secret: str


class Sites:
    """Those of every project, in a dict. `reads` counts look-ups by what was looked up."""

    def __init__(self, **sites: Site) -> None:
        self.kept = {ProjectId(project): site for project, site in sites.items()}
        self.reads: Counter[str] = Counter()

    async def project_of_client(self, client_id: str, /) -> ProjectId | None:
        self.reads[client_id] += 1
        return next((project for project, site in self.kept.items() if site.client_id == client_id), None)

    async def of(self, project: ProjectId, /) -> Site:
        return self.kept[project]

    def rotate(self, project: ProjectId, client_id: str) -> None:
        self.kept[project] = replace(self.kept[project], client_id=client_id)


class Visit:
    """What tests call the house with."""

    def __init__(self, house: House, app: App, sites: Sites, model: ScriptedReplies, clock: FixedClock) -> None:
        self.house = house
        self.app = app
        self.sites = sites
        self.model = model
        self.clock = clock

    async def send(
        self, method: str, path: str, body: Any = None, *, session: str = "", headers: Mapping[str, str] = {}
    ) -> Response:
        """`path` is below the widget's, or, with `/api` before it, any."""
        known = {"authorization": f"Bearer {session}"} if session else {}
        raw = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        where = path if path.startswith("/api") else PREFIX + path
        return await Client(self.app).request(method, where, headers={**known, **headers}, body=raw)

    async def call(
        self, method: str, path: str, body: Any = None, *, session: str = "", headers: Mapping[str, str] = {}
    ) -> tuple[int, Any]:
        answer = await self.send(method, path, body, session=session, headers=headers)
        return answer.status, msgspec.json.decode(answer.body)

    async def guest(self, project: ProjectId = OURS) -> str:
        client = {"x-client-id": self.sites.kept[project].client_id}
        status, opened = await self.call("POST", "/session/guest", headers=client)
        assert status == 200
        return opened["sessionId"]

    async def chat(self, session: str) -> str:
        """A new chat, later than all others."""
        self.clock.move(1)
        status, chat = await self.call("POST", "/chats", {}, session=session)
        assert status == 200
        return chat["id"]

    async def say(self, session: str, chat: str, message: str = "hi") -> tuple[int, Any]:
        return await self.call("POST", f"/chats/{chat}/turn", {"message": message}, session=session)


@asynccontextmanager
async def visit(
    home: Path, *, model: ScriptedReplies | None = None, limits: Limits = UNLIMITED
) -> AsyncIterator[Visit]:
    clock = FixedClock()
    store: Any = MemoryStore(clock)
    model = model or ScriptedReplies(text_reply("It is ", "fine."))
    sites = Sites(default=Site("ours-client", "5" * 64), other=Site("their-client", "7" * 64))
    async with house_of(
        home, model, store=store, access=store, tools=LedgerTools({}), clock=clock, dialects=OTHERS
    ) as house:
        await store.put_project(Project(THEIRS, "other", 0.0))
        guests = count(1)
        sessions = WidgetSessions(sites, store, PEPPER, clock, new_guest=lambda: f"{next(guests):032x}")
        app = _app(house, sessions, WidgetChats(house.records, house.conversations, clock), limits)
        yield Visit(house, app, sites, model, clock)


def _app(house: House, sessions: WidgetSessions, chats: WidgetChats, limits: Limits) -> App:
    async def stage(principal: Principal, turn: StartTurn) -> StartTurn:
        return replace(await chats.prepare(principal, turn), workflow=None)

    async def check(principal: Principal, conversation: Any) -> None:
        raise AssertionError("nothing here is followed")

    entropy = count(1)
    config = open_config()
    agents = {name: table.spec(name) for name, table in config.agents.items()}
    desk = Desk(
        runs=house.runs[0],
        ephemeral=house.runs[1],
        conversations=house.conversations,
        tools=house.tools,
        agents=agents,
        counters=Counters(),
        facts=Facts("0", 0.0, config.defaults.model, config.defaults.agent, (), house.home, 10, 1000),
        clock=house.clock,
        new_call=lambda: CallId("c"),
        models=house.models,
        stage=stage,
        handlers=chats.handlers(),
        open_handlers=sessions.open_handlers(),
    )
    return App(
        dialects=(*OTHERS, ROWBOAT),
        house=HOUSE,
        open_endpoints={},
        desk=desk,
        door=Door(house.authenticator, limits, house.clock, sessions=sessions),
        watch=Watch(house.authenticator, check),
        limits=limits,
        metrics=Metrics(Counters(), gauges={}),
        clock=house.clock,
        entropy=lambda: f"{next(entropy):013x}".ljust(44, "0"),
    )


async def credential_of(house: House, *scopes: Scope) -> str:
    return (await house.mint.create("c", OURS, scopes=scopes, rpm=0)).text
