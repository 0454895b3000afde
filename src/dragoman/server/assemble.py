"""The composition root: the only file that names every concrete class, and the only one that touches the wall clock."""

import asyncio
import logging
import os
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

from dragoman import __version__
from dragoman.access.credentials import Authenticator
from dragoman.access.minting import Mint
from dragoman.access.pepper import Pepper, load_pepper
from dragoman.access.widget_sessions import WidgetSessions
from dragoman.core.agents import AgentSpec
from dragoman.core.errors import DragomanError
from dragoman.core.names import CallId, ConversationId, ProjectId, RunId
from dragoman.dialects import installed
from dragoman.edge.asgi import App
from dragoman.edge.authenticate import Door, Limits
from dragoman.edge.desk import Desk, Facts
from dragoman.edge.front import Front
from dragoman.edge.house import HOUSE, OpenEndpoints
from dragoman.edge.limits import networks
from dragoman.edge.metrics import Metrics
from dragoman.edge.pages import pages
from dragoman.edge.readiness import Readiness
from dragoman.edge.watching import Watch
from dragoman.runtime.attending import Attending
from dragoman.runtime.conversations import Conversations
from dragoman.runtime.counters import Counters
from dragoman.runtime.driver import Driver
from dragoman.runtime.ports import Store
from dragoman.runtime.pruning import Pruning
from dragoman.runtime.recovery import SWEEP_EVERY_S, Recovery
from dragoman.runtime.runs import Changed, Runs
from dragoman.server.answerers import Answerers, open_handlers, reading
from dragoman.server.config import BadConfig, files_folder, store_file, workspace_folder
from dragoman.server.config_shapes import Config
from dragoman.server.conversation_files import ConversationFileWriter
from dragoman.server.equipping import equip
from dragoman.server.house import NO_PARTS, House, Parts
from dragoman.server.lifespan import Lifespan, lifespan
from dragoman.server.staging_parts import agents_of
from dragoman.server.tool_patterns import unmatched
from dragoman.server.workflow_tables import workflow_warnings
from dragoman.stores.memory import MemoryStore
from dragoman.stores.sqlite.store import open_store
from dragoman.tools.mcp.toolset import register_mcp
from dragoman.tools.registry import Registry
from dragoman.wire.dialect import ConversationFiles, Dialect

logger = logging.getLogger("dragoman.server")

EPHEMERAL_TAPES_MAX = 10_000
TOUCH_EVERY_S = 5.0


class SystemClock:
    """The real time."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


@asynccontextmanager
async def open_house(
    config: Config, home: Path, *, writer: bool = True, take_up: bool = True, parts: Parts = NO_PARTS
) -> AsyncGenerator[House]:
    """Open the store, put everything together, take up what a dead process left behind; close it all on leaving.

    `writer=False` opens beside a running server: conversations can be read and credentials made, no turn can be taken.
    `take_up=False` leaves it to the caller to call `House.take_up` once nothing can keep it from serving any more.
    Raises errors of the tree: Conflict when another process writes this store and only one may.
    """
    home = _made(home)
    house = House(config, home, parts.clock or SystemClock())
    async with AsyncExitStack() as stack:
        await _open_stores(house, stack, parts, writer=writer)
        pepper = load_pepper(home, env=os.environ, random_bytes=os.urandom)
        house.authenticator = Authenticator(house.access, pepper, house.clock)
        house.mint = Mint(house.access, pepper, house.clock, os.urandom)
        house.dialects = _dialects(config, parts)
        counters = Counters()
        equip(house, stack, parts, counters, pepper)
        house.sessions = WidgetSessions(
            house.settings, house.access, pepper, house.clock, new_guest=lambda: str(uuid4())
        )
        if parts.tools is None and isinstance(house.tools, Registry) and house.mcp.configured:
            await register_mcp(house.tools, house.mcp.pins, house.mcp, tuple(house.mcp.configured.values()))
        slips = unmatched(config.agents, house.tools.specs(("*",)), house.workflows.configured)
        house.warnings = (*slips, *workflow_warnings(config))
        span = await stack.enter_async_context(lifespan())
        _build_runtime(house, span, counters, pepper, writer=writer)
        _build_edge(house, span, counters)
        sweep_every_s = min(SWEEP_EVERY_S, float(config.store.lease_s) / 3)
        recovery = Recovery(house.store, house.runs[0], counters, sweep_every_s=sweep_every_s)
        house.take_up = partial(_take_up, house, span, recovery)
        if writer:
            span.spawn(_write_touches(house))
            span.spawn(house.watch.keep_looking())
            for runs, store in zip(house.runs, (house.store, house.ephemeral), strict=True):
                attending = Attending(store, runs, house.clock, lease_s=float(config.store.lease_s))
                span.spawn(attending.keep_attending())
            pruning = Pruning(house.store, house.records, house.clock, kept_s=float(config.limits.replay_s))
            span.spawn(pruning.keep_pruning())
            if take_up:
                await house.take_up()
        yield house


async def _take_up(house: House, span: Lifespan, recovery: Recovery) -> None:
    house.recovered = await recovery.sweep()
    span.spawn(recovery.keep_sweeping())


def _made(home: Path) -> Path:
    """The home's absolute path, made if need be. Only its owner may look inside: it holds the pepper, credentials and
    everything that was said."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return home.absolute()


async def _open_stores(house: House, stack: AsyncExitStack, parts: Parts, *, writer: bool) -> None:
    if parts.store is None or parts.access is None:
        await (_open_postgres(house, stack) if house.config.store.is_postgres else _open_sqlite(house, stack, writer))
    house.store = parts.store or house.store
    house.access = parts.access or house.access
    house.records = house.store.records


async def _open_sqlite(house: House, stack: AsyncExitStack, writer: bool) -> None:
    store = await open_store(
        store_file(house.config, house.home), house.clock, writer=writer, lease_s=float(house.config.store.lease_s)
    )
    stack.push_async_callback(store.close)
    house.store = house.access = store
    if writer:
        house.announce = store.announce


async def _open_postgres(house: House, stack: AsyncExitStack) -> None:
    try:
        from dragoman.stores.postgres import store as postgres  # noqa: PLC0415 an extra that most servers do without
    except ModuleNotFoundError as error:
        raise BadConfig(
            "store.url names PostgreSQL, whose driver is not installed: pip install 'dragoman[postgres]'"
        ) from error
    table = house.config.store
    store = await postgres.open_store(
        table.url, password=str(table.password), lease_s=float(table.lease_s), wakeups=table.wakeups
    )
    stack.push_async_callback(store.close)
    house.store = house.access = store
    told = "1 while other servers' news reach this one at once; 0 = it looks once a second."
    house.gauges["wakeups_listening"] = (told, lambda: store.listening)
    house.gauges["wakeups_lost"] = ("News that nobody told, found by looking.", lambda: store.wakeups_lost)


def _dialects(config: Config, parts: Parts) -> tuple[Dialect, ...]:
    found = installed() if parts.dialects is None else parts.dialects
    wanted = config.server.dialects
    return tuple(dialect for dialect in found if not wanted or dialect.name in wanted)


def _build_runtime(house: House, span: Lifespan, counters: Counters, pepper: Pepper, *, writer: bool) -> None:
    config = house.config
    agents = agents_of(config, house.workflows.configured)
    wanted = _files(house) if writer else []
    writers: list[ConversationFileWriter] = []

    async def changed(project: ProjectId, conversation: ConversationId) -> None:
        for each in writers:
            await each.changed(project, conversation)

    copied = changed if wanted else None

    def runs_over(store: Store, changed: Changed | None) -> Runs:
        driver = Driver(
            store,
            house.models,
            house.tools,
            agents,
            default_agent=config.defaults.agent,
            workflows=house.workflows,
            configured=house.workflows.configured,
            workflow_tools=house.workflow_tools,
            budget=config.limits.run.budget,
            clock=house.clock,
            counters=counters,
            lease_s=float(config.store.lease_s),
        )
        return Runs(
            store,
            driver,
            spawn=span.spawn,
            new_id=new_run_id,
            queue_max=config.limits.queue_per_conversation,
            changed=changed,
            lasting=store is house.store,
        )

    durable = runs_over(house.store, copied)
    # An ephemeral conversation has no file, also if a kept one goes by the same id.
    house.ephemeral = MemoryStore(house.clock, tapes_max=EPHEMERAL_TAPES_MAX)
    ephemeral = runs_over(house.ephemeral, None)
    house.runs = (durable, ephemeral)
    house.conversations = Conversations(house.store, durable, new_id=new_run_id, changed=copied)
    for dialect, files in wanted:
        folder = files_folder(config, house.home, dialect.name)
        file_writer = ConversationFileWriter(files, folder, house.conversations, house.project)
        writers.append(file_writer)
        span.spawn(file_writer.keep_up())
    _seat(house, agents, counters, pepper, copied)


def _seat(
    house: House, agents: Mapping[str, AgentSpec], counters: Counters, pepper: Pepper, copied: Changed | None
) -> None:
    """Put somebody at the desk."""
    answering = Answerers(house, agents, pepper, new_id=new_run_id, changed=copied)
    durable, ephemeral = house.runs
    house.desk = Desk(
        runs=durable,
        ephemeral=ephemeral,
        conversations=house.conversations,
        models=house.models,
        tools=house.tools,
        agents=agents,
        counters=counters,
        facts=_facts(house),
        clock=house.clock,
        new_call=lambda: CallId(f"call_{secrets.token_hex(8)}"),
        stage=answering.stage,
        prepare=answering.prepare,
        retell=answering.retell,
        handlers=answering.handlers(),
        open_handlers=open_handlers(house, pepper),
    )


def _facts(house: House) -> Facts:
    config = house.config
    return Facts(
        version=__version__,
        started_at=house.clock.now(),
        default_model=config.defaults.model,
        default_agent=config.defaults.agent,
        models=tuple(config.models),
        workspace=workspace_folder(config, house.home),
        steps_max=config.limits.run.steps,
        message_chars_max=config.limits.message_chars,
    )


def new_run_id() -> RunId:
    """Begins with the time, so that new ids go to the end of a store's index; the rest cannot be guessed."""
    return RunId(f"r_{time.time_ns() // 1_000_000:011x}{secrets.token_hex(8)}")


def _files(house: House) -> list[tuple[Dialect, ConversationFiles]]:
    """The dialects whose conversation files are to be kept up to date."""
    wanted = house.config.dialects
    return [
        (dialect, dialect.files)
        for dialect in house.dialects
        if dialect.files is not None and dialect.name in wanted and wanted[dialect.name].session_files
    ]


def _build_edge(house: House, span: Lifespan, counters: Counters) -> None:
    config = house.config
    limits = Limits(
        per_address_rpm=config.limits.per_ip_rpm,
        per_credential_rpm=config.limits.per_credential_rpm,
        per_project_rpm=config.limits.per_project_rpm,
        body_bytes_max=config.limits.body_bytes_max,
        readers_per_conversation=config.limits.readers_per_conversation,
    )
    server = config.server
    proxies = networks(server.trusted_proxies)
    door = Door(house.authenticator, limits, house.clock, trusted_proxies=proxies, sessions=house.sessions)
    readiness = Readiness(
        draining=lambda: house.app.draining, probe=lambda: house.store.probe(), spawn=span.spawn, clock=house.clock
    )
    house.gauges["ready"] = ("1 if the last look said that turns can be taken.", lambda: readiness.ready)
    metrics = Metrics(counters, gauges=house.gauges)
    endpoints = OpenEndpoints(door, metrics, readiness)
    house.watch = Watch(house.authenticator, reading(house))
    house.app = App(
        dialects=house.dialects,
        house=HOUSE,
        open_endpoints={**endpoints.table(), **pages((*house.dialects, HOUSE), version=__version__)},
        desk=house.desk,
        door=door,
        watch=house.watch,
        limits=limits,
        metrics=metrics,
        clock=house.clock,
        entropy=lambda: secrets.token_hex(22),
        front=Front(public_url=server.public_url, base_path=server.base_path, trusted_proxies=proxies),
        cors_origins=server.cors_origins,
    )


async def _write_touches(house: House) -> None:
    """Write when credentials were last used, now and then and off every request's path."""
    while True:
        await asyncio.sleep(TOUCH_EVERY_S)
        for touch in house.authenticator.take_due():
            try:
                await house.access.touch_credential(touch.credential_id, at=touch.at)
            except DragomanError as error:
                logger.warning("when credential %s was last used could not be written: %s", touch.credential_id, error)
