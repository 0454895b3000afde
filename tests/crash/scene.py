"""A trial: servers, the outside world and clients set up together; a storm, a calm, and then the checker.

The storm is the campaign's. In the calm nothing fails any more, and within LIVENESS_S everything must have come to its
end and every conversation must take another turn.
"""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from msgspec import Struct, field

from tests.crash.checker import check
from tests.crash.clients import CONNECTION_ERRORS, Client, World
from tests.crash.evidence import Evidence, Reading, Violation
from tests.crash.history import History, write_lines
from tests.crash.homes import Home, Template, dump, integrity
from tests.crash.outside import Outside, outside_world
from tests.crash.scripts import ASKED, Script
from tests.crash.servers import NotStarted, Server, free_port

LIVENESS_S = 30.0
POLL_S = 0.02
QUIESCE_S = 5.0
LEASE_S = 2.0
"""Of the servers under test: the shortest that a loaded machine of two cores can keep."""
MADE_BY_SERVERS = {
    *("dragoman.db", "dragoman.db-wal", "dragoman.db-shm", "dragoman.db.lock"),
    *("workspace", "admin-credential"),
}


class Trial(Struct, frozen=True):
    """Everything that decides what happens: the same trial again is the same storm."""

    campaign: str
    seed: int
    engine: str = "sqlite"
    options: dict[str, Any] = {}


class Order(Struct, frozen=True):
    """What a campaign is to plan. `count` 0 = as the tier has it."""

    tier: str
    count: int
    engine: str
    rng: random.Random


class Result(Struct):
    trial: Trial
    violations: list[Violation] = field(default_factory=list[Violation])
    error: str = ""
    """What went wrong in the harness itself."""
    fuses: list[str] = field(default_factory=list[str])
    blown: bool = True
    """The fault that the trial is about came to pass."""
    kills: int = 0
    appends: int = 0
    acknowledged: int = 0
    lost: int = 0
    """Acknowledged turns that are not there."""
    duplicated: int = 0
    """Turns that stand twice, and `once` calls that took effect twice."""
    effects: int = 0
    starts_s: list[float] = field(default_factory=list[float])
    """From the start of a process until it listened."""
    takeovers_s: list[float] = field(default_factory=list[float])
    """From a kill until each run that it interrupted was claimed again."""
    measured: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """What only this campaign measures."""
    checked: int = 0
    """Times the database was looked through after a kill and found whole."""
    seconds: float = 0.0
    folder: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.violations or self.error)


def shares(order: Order, campaign: str, option: str, usual: int, at_once: int) -> list[Trial]:
    """Trials that together do something `order.count` or `usual` times, each at most `at_once` times between calms."""
    left = order.count or usual
    trials: list[Trial] = []
    while left > 0:
        trials.append(Trial(campaign, order.rng.getrandbits(32), options={option: min(left, at_once)}))
        left -= at_once
    return trials


class Scene:
    def __init__(self, trial: Trial, folder: Path, homes: list[Home], outside: Outside, *, lease_s: float) -> None:
        self.trial = trial
        self.lease_s = lease_s
        self.result = Result(trial)
        self.rng = random.Random(f"{trial.campaign}/{trial.seed}")
        self.history = History()
        self.outside = outside
        self.servers = [
            Server(home, free_port(self.rng), effects=outside.url, log=folder / f"server{number}.log")
            for number, home in enumerate(homes)
        ]
        self.world = World(self.servers, homes[0].credentials, self.history, f"{trial.campaign}/{trial.seed}")
        self.settled = False
        self.evidence: Evidence | None = None
        self.names_before = {path.name for path in homes[0].path.iterdir()}
        self._folder = folder
        self._conversations: dict[tuple[str, str], Client] = {}
        self._group: asyncio.TaskGroup
        self._clients: list[asyncio.Task[Any]] = []

    # -- the storm's means -----------------------------------------------------------------------------------------

    def client(self, name: str, project: str, conversations: list[str], *, server: Server | None = None) -> Client:
        client = Client(self.world, name, project, conversations, server=server)
        self.enter(client, conversations)
        return client

    def enter(self, client: Client, conversations: list[str]) -> None:
        """These must take another turn in the calm, which the client says that came first."""
        for conversation in conversations:
            self._conversations.setdefault((client.project, conversation), client)

    def begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A client's work; the calm waits for it."""
        task = self._group.create_task(work)
        self._clients.append(task)
        return task

    async def start(self, server: Server, fuses: str = "") -> bool:
        """Start a server and note how long it took; False if it was killed before it listened."""
        await self.launch(server, fuses)
        return await self.listens(server)

    async def launch(self, server: Server, fuses: str = "") -> None:
        """Once this returns there is a process, and it can be killed."""
        if fuses:
            self.result.fuses.append(fuses)
        self.history.add("note", "start", who=server.url, text=fuses)
        await server.launch(fuses)

    async def listens(self, server: Server) -> bool:
        try:
            took_s = await server.listens()
        except NotStarted as error:
            if server.code != -signal.SIGKILL:
                self.violated("G8", f"a server did not start: {error}")
            return False
        self.result.starts_s.append(took_s)
        self.history.add("note", "ready", who=server.url)
        return True

    def died(self, server: Server) -> None:
        """A server is dead, by a fuse or by us."""
        self.result.kills += 1
        self.history.add("note", "kill", who=server.url)

    def freeze(self, server: Server) -> None:
        """SIGSTOP: it does nothing and does not know it. Clients notice only that it is silent."""
        self.result.kills += 1
        server.up.clear()
        self.history.add("note", "freeze", who=server.url)
        server.freeze()

    def thaw(self, server: Server) -> None:
        self.history.add("note", "thaw", who=server.url)
        server.thaw()
        server.up.set()

    async def kill(self, server: Server) -> None:
        server.kill()
        self.died(server)
        if (code := await server.wait()) != -signal.SIGKILL:
            self.violated("G8", f"a server ended by itself, exit {code}: {server.last_words()}")

    async def check_database(self) -> None:
        """Look through the database as the dead process left it."""
        if self.trial.engine != "sqlite":
            return
        said = await integrity(self.servers[0].home)
        if said != "ok":
            self.violated("integrity", said)
        self.result.checked += 1

    def violated(self, invariant: str, text: str) -> None:
        self.result.violations.append(Violation(invariant, text))

    # -- the calm --------------------------------------------------------------------------------------------------

    async def calm(self) -> None:
        """Faults are over: everybody must come to an end, and every conversation must take another turn."""
        self.world.over.set()
        began = time.monotonic()
        try:
            async with asyncio.timeout(LIVENESS_S):
                for server in self.servers:
                    server.thaw()
                    if not server.alive:
                        await self.start(server)
                await self.finished()
                await asyncio.gather(*(self._probe(*key) for key in self._conversations))
                await self.finished()
                await self._quiet()
            self.settled = True
        except TimeoutError:
            waiting = sum(not task.done() for task in self._clients)
            self.violated("liveness", f"after {LIVENESS_S:g} s of calm {waiting} clients still wait")
        self.world.gave_up.set()
        for task in self._clients:
            task.cancel()
        self.result.measured["calm"] = [time.monotonic() - began]

    async def finished(self) -> None:
        """Until all clients are done, those included that were begun meanwhile."""
        while waiting := [task for task in self._clients if not task.done()]:
            await asyncio.wait(waiting)

    async def _probe(self, project: str, conversation: str) -> None:
        client = self._conversations[project, conversation]
        script = Script(client.token(), client.canary, words=1)
        if not await client.append(conversation, script) and not self.world.gave_up.is_set():
            self.violated("liveness", f"{project}/{conversation} takes no turn any more ({script.token})")

    async def _quiet(self) -> None:
        """Until no server drives a run."""
        credential = next(iter(self.world.credentials.values()))
        headers = {"Authorization": f"Bearer {credential}"}
        for server in self.servers:
            while True:
                try:
                    async with self.world.session.get(f"{server.url}/api/server", headers=headers) as answer:
                        if answer.status == 200 and (await answer.json())["live_runs"] == 0:
                            break
                except CONNECTION_ERRORS:
                    if not server.alive:
                        self.violated("liveness", f"a server died in the calm: {server.last_words()}")
                        return
                await asyncio.sleep(POLL_S)

    # -- afterwards ------------------------------------------------------------------------------------------------

    async def judge(self) -> None:
        """Stop everything, collect the evidence, and have it checked."""
        codes = await asyncio.gather(*(server.stop() for server in self.servers))
        if self.settled and any(codes):
            self.violated("G12", f"exit codes after SIGTERM: {codes}: {self.servers[0].last_words()}")
        for server in self.servers:
            for told, count in server.tracebacks().items():
                self.violated("log", f"{count} tracebacks in a server's log: {told}")
        leftovers = await self._leftovers()
        self.evidence = Evidence(
            self.history.records,
            await dump(self.servers[0].home),
            self.outside.effects.lines,
            self.outside.bills.lines,
            leftovers,
            calm=self.settled,
            shared_lease_s=self.lease_s if self.trial.engine == "postgres" else 0.0,
        )
        self.result.violations += check(self.evidence)
        self._count(Reading(self.evidence))

    async def _leftovers(self) -> list[str]:
        deadline = time.monotonic() + QUIESCE_S
        found = ["not looked yet"]
        while found and time.monotonic() < deadline:
            found = [orphan for server in self.servers for orphan in server.orphans()]
            if self.outside.connections:
                found.append(f"{self.outside.connections} sockets to the model or tools are still open")
            if found:
                await asyncio.sleep(POLL_S)
        for server in self.servers:
            names = {path.name for path in server.home.path.iterdir()}
            strange = names - MADE_BY_SERVERS - self.names_before
            found += [f"file {name} in {server.home.path.name}" for name in sorted(strange)]
        return found

    def _count(self, reading: Reading) -> None:
        result = self.result
        result.appends = len(reading.turns)
        result.acknowledged = sum(turn.acknowledged for turn in reading.turns.values())
        result.effects = len(self.outside.effects.lines)
        result.lost = sum(turn.acknowledged and not reading.places.get(token) for token, turn in reading.turns.items())
        result.duplicated = sum(max(len(places) - 1, 0) for places in reading.places.values())
        keys = [effect.key for effect in self.outside.effects.lines if effect.tool in ("count_once", ASKED)]
        result.duplicated += len(keys) - len(set(keys))
        result.takeovers_s = [after_s for _, _, after_s in reading.takeovers()]

    def write(self) -> None:
        """Keep what the checker saw beside the servers' logs and the ledgers."""
        self.history.write(self._folder / "history.jsonl")
        if self.evidence is not None:
            write_lines(self._folder / "tapes.jsonl", self.evidence.dump.tapes)
            write_lines(self._folder / "runs.jsonl", self.evidence.dump.runs.values())


@asynccontextmanager
async def scene(
    trial: Trial, folder: Path, template: Template, *, replicas: int = 1, lease_s: float = LEASE_S
) -> AsyncIterator[Scene]:
    """Set up; the campaign's storm runs inside; then the calm and the checker."""
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    async with outside_world(folder) as outside:
        homes = await template.homes(folder, upstream=outside.url, lease_s=lease_s, count=replicas)
        scene = Scene(trial, folder, homes, outside, lease_s=lease_s)
        try:
            timeout = aiohttp.ClientTimeout(total=60, sock_connect=5)
            connector = aiohttp.TCPConnector(force_close=True, limit=0)
            async with aiohttp.ClientSession(timeout=timeout, connector=connector) as scene.world.session:
                async with asyncio.TaskGroup() as scene._group:
                    scene.world.spawn = scene.begin
                    yield scene
                    await scene.calm()
            await scene.judge()
        finally:
            for server in scene.servers:
                server.thaw()
                server.kill()
                await server.wait()
            scene.result.seconds = time.monotonic() - began
            if scene.result.failed or trial.options.get("keep"):
                scene.write()
            await template.discard(homes[0])
