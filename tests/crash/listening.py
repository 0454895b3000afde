"""R10: readers of chats and of tasks, on the wire that has both, while servers are killed and connections cut.

A chat's reader hears every id once over all its connections, in order; the newest it was told of each message is what
the chat says afterwards; each turn is told to begin and to end once. A task's reader hears, over all its connections,
byte for byte what one hears who reads the task in one go when all is over. And nobody waits for ever.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from tests.crash.clients import CHATS, CONNECTION_ERRORS, FIRST_WAIT_S, REFUSED, WAIT_MAX_S, Client, World
from tests.crash.homes import PROJECTS, Template
from tests.crash.scene import Order, Result, Scene, Trial, scene, shares
from tests.crash.scripts import draw
from tests.crash.servers import Server

KILLS = {"P": 3, "N": 60}
KILLS_AT_ONCE = 3
CHATS_EACH = 3
CANCELLED = 0.15
FOLLOWED = 0.7
PAUSE_S = 0.1
ALIVE_S = (0.4, 1.2)
DEAD_S = (0.0, 0.2)
TOLD_POLL_S = 0.1
FRAMES = (1, 2, 4, 8, 1000, 1000)
"""After one of these many frames a reader cuts its own connection."""
EVENTS = "/api/plugins/grafana-assistant-app/resources/api/events/chats"
AGENT = "/api/cli/v1/a2a/agents/assistant"
EXTENSIONS = "https://grafana.com/extensions/token-streaming/v1"
ENDS = ("AGENT_EXECUTION_COMPLETED", "AGENT_EXECUTION_FAILED")


def plan(order: Order) -> list[Trial]:
    return shares(order, "R10", "kills", KILLS[order.tier], KILLS_AT_ONCE)


async def run(trial: Trial, folder: Path, template: Template) -> Result:
    replicas = 2 if trial.engine == "postgres" else 1
    async with scene(trial, folder, template, replicas=replicas) as stage:
        await asyncio.gather(*map(stage.start, stage.servers))
        stage.result.measured["cuts"] = [0.0]
        owner, other = stage.servers[0], stage.servers[-1]
        for number in range(CHATS_EACH):
            project, chat = PROJECTS[number % 2], f"chat-{number}"
            client = Listener(stage, f"c{number}", project, [chat], server=owner)
            stage.enter(client, [chat])
            saying = stage.begin(
                client.live(partial(draw, slow=True), followed=FOLLOWED, cancelled=CANCELLED, pause_s=PAUSE_S)
            )
            for how in ("header", "query"):
                stage.begin(ChatReader(stage, f"c{number}/{how}", project, how, other).read(chat, saying))
        for _ in range(trial.options["kills"]):
            await asyncio.sleep(stage.rng.uniform(*ALIVE_S))
            server = stage.rng.choice(stage.servers)
            await stage.kill(server)
            await stage.check_database()
            await asyncio.sleep(stage.rng.uniform(*DEAD_S))
            await stage.start(server)
    return stage.result


class Listener(Client):
    """Its runs are followed as tasks, at the other server if there is one."""

    def __init__(self, stage: Scene, name: str, project: str, chats: list[str], *, server: Server) -> None:
        super().__init__(stage.world, name, project, chats, server=server)
        self._stage = stage

    async def follow(self, run: str) -> None:
        reader = TaskReader(self._stage, f"{self.name}/task", self.project, "header", self._stage.servers[-1])
        await reader.read(run)


class Frame(msgspec.Struct):
    id: str
    data: bytes

    @property
    def place(self) -> tuple[int, float]:
        """`12.1` and `12.2` come before `12`."""
        seq, dot, part = self.id.partition(".")
        return int(seq), float(part) if dot else float("inf")


class _Reader:
    """What readers of both kinds do alike: connect, be cut, connect again."""

    def __init__(self, stage: Scene, name: str, project: str, how: str, preferred: Server | None) -> None:
        self._stage = stage
        self._world: World = stage.world
        self._name = name
        self._project = project
        self._how = how
        self._preferred = preferred
        self._rng = random.Random(f"{stage.world.seed}/{name}/{how}")
        self._headers = {"Authorization": f"Bearer {stage.world.credentials[project]}"}
        self._cursor = ""
        self._frames: list[Frame] = []
        self._wronged = False
        """It need not go on."""

    async def _frames_of(self, answer: aiohttp.ClientResponse, number: int) -> AsyncIterator[Frame]:
        """Whole frames that have an id."""
        heard = b""
        async for chunk in answer.content.iter_any():
            heard += chunk
            self._world.history.add("heard", "listen", number, text=chunk.decode("latin-1"))
            whole, _, heard = heard.rpartition(b"\n\n")
            for frame in whole.split(b"\n\n"):
                if frame.startswith(b"id: "):
                    id_line, _, data = frame.partition(b"\ndata: ")
                    yield Frame(id_line[4:].decode(), data)

    def _take(self, frame: Frame) -> None:
        last = self._frames[-1] if self._frames else None
        self._frames.append(frame)
        self._cursor = frame.id
        if last is not None and frame.place <= last.place:
            self._wrong(f"heard {frame.id} after {last.id}")

    def _wrong(self, text: str) -> None:
        self._wronged = True
        self._stage.violated("R10", f"{self._name} {text}")

    def _cut(self) -> None:
        self._stage.result.measured["cuts"][0] += 1

    async def _wait(self, wait_s: float) -> float:
        await asyncio.sleep(wait_s)
        return min(wait_s * 2, WAIT_MAX_S)


class ChatReader(_Reader):
    def __init__(self, stage: Scene, name: str, project: str, how: str, preferred: Server | None) -> None:
        super().__init__(stage, name, project, how, preferred)
        self._told: dict[str, Any] = {}
        """What each message was said to be last."""
        self._begun: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self._cancelled: set[str] = set()
        """Of these some were never begun."""
        self._created: Counter[str] = Counter()
        self._missing: list[dict[str, Any]] = []
        """What the chat says and this reader has not heard, when it was last looked at."""

    async def read(self, chat: str, saying: "asyncio.Task[Any]") -> None:
        """Until nothing more is said and all of it was told."""
        reading = asyncio.create_task(self._read(chat))
        try:
            await self._until_told(chat, saying)
        except asyncio.CancelledError:
            self._wrong(f"waits behind {self._cursor} and has not heard of {self._missing}")
            raise
        finally:
            reading.cancel()
            await asyncio.wait({reading})
        if not reading.cancelled():
            reading.result()

    async def _read(self, chat: str) -> None:
        wait_s = FIRST_WAIT_S
        while not self._wronged and (server := await self._world.pick(self._rng, self._preferred)) is not None:
            before = self._cursor
            await self._connect(server, chat)
            wait_s = FIRST_WAIT_S if self._cursor != before else await self._wait(wait_s)

    async def _connect(self, server: Server, chat: str) -> None:
        headers, query = dict(self._headers), dict[str, str]()
        if self._cursor and self._how == "header":
            headers["Last-Event-ID"] = self._cursor
        elif self._cursor:
            query["lastEventId"] = self._cursor
        world, frames_max = self._world, self._rng.choice(FRAMES)
        number = world.history.invoke("listen", who=self._name, project=self._project, conversation=chat)
        frames = 0
        try:
            url = f"{server.url}{EVENTS}/{chat}"
            async with world.session.get(url, headers=headers, params=query) as answer:
                if answer.status != 200:
                    text = await answer.text()
                    world.history.add("info", "listen", number, status=answer.status, text=text)
                    if answer.status in REFUSED and (answer.status != 404 or self._cursor):
                        self._wrong(f"was refused behind {self._cursor!r}: {text}")
                    return
                async for frame in self._frames_of(answer, number):
                    self.take(frame)
                    frames += 1
                    if frames >= frames_max or self._wronged:
                        self._cut()
                        return
        except CONNECTION_ERRORS as error:
            world.history.add("info", "listen", number, text=repr(error))
            self._cut()

    def take(self, frame: Frame) -> None:
        self._take(frame)
        told = msgspec.json.decode(frame.data)
        kind, data = told["type"], told["data"]
        if kind.startswith("MESSAGE_"):
            data.pop("chatId")
            self._created[data["id"]] += kind == "MESSAGE_CREATED"
            self._told[data["id"]] = data
        elif kind == "AGENT_EXECUTION_STARTED":
            self._begun[data["taskId"]] += 1
        elif kind in ENDS:
            self._ended[data["taskId"]] += 1
            if data.get("error") == "cancelled":
                self._cancelled.add(data["taskId"])

    # -- the verdict -----------------------------------------------------------------------------------------------

    async def _until_told(self, chat: str, saying: "asyncio.Task[Any]") -> None:
        """Look at the chat once nothing more is said, until its reader knows it all; then judge."""
        await asyncio.wait({saying})
        while not self._wronged and not self._world.gave_up.is_set():
            said = await self._messages(chat)
            if said is not None and self.knows(said):
                self.judge(said)
                return
            self._missing = [each for each in said or () if self._told.get(each["id"]) != each]
            await asyncio.sleep(TOLD_POLL_S)

    async def _messages(self, chat: str) -> list[dict[str, Any]] | None:
        """None while nobody can say, or a turn is at work or waits."""
        server = await self._world.pick(self._rng)
        if server is None:
            return None
        try:
            url = f"{server.url}{CHATS}/{chat}"
            async with self._world.session.get(url, headers=self._headers) as answer:
                return (await answer.json())["data"]["messages"] if answer.status == 200 else None
        except CONNECTION_ERRORS:
            return None

    def knows(self, said: list[dict[str, Any]]) -> bool:
        """Whether nothing of what the chat says need be waited for any more."""
        told = all(self._told.get(each["id"]) == each for each in said)
        return told and (not said or self._ended[_run_of(said[-1])] > 0)

    def judge(self, said: list[dict[str, Any]]) -> None:
        for told in sorted(self._told.keys() - {each["id"] for each in said}):
            if not self._told[told]["hidden"]:
                self._wrong(f"was told of the message {told}, which the chat has not")
        for message, count in self._created.items():
            if count != 1:
                self._wrong(f"was told {count} times that {message} was created")
        runs = list(dict.fromkeys(map(_run_of, said)))
        while runs and not self._begun[runs[0]] and not self._ended[runs[0]]:  # over before it came
            runs.pop(0)
        executed = [(max(self._begun[run], run in self._cancelled), self._ended[run]) for run in runs]
        if any(each != (1, 1) for each in executed):
            self._wrong(f"was told of turns' beginnings and ends: {executed}")


def _run_of(message: dict[str, Any]) -> str:
    return message["id"].rpartition("-")[0]


class TaskReader(_Reader):
    async def read(self, run: str) -> None:
        wait_s = FIRST_WAIT_S
        while (server := await self._world.pick(self._rng, self._preferred)) is not None:
            before = self._cursor
            if await self._connect(server, run, self._rng.choice(FRAMES)):
                break
            wait_s = FIRST_WAIT_S if self._cursor != before else await self._wait(wait_s)
        heard, self._frames, self._cursor = self._frames, [], ""
        while (server := await self._world.pick(self._rng)) is not None:
            if await self._connect(server, run, 1_000_000):
                break
            self._frames, self._cursor = [], ""
            wait_s = await self._wait(wait_s)
        if server is not None and not self._wronged and heard != self._frames:
            told = [(frame.id, frame.data[:200]) for frame in heard if frame not in self._frames]
            kept = [(frame.id, frame.data[:200]) for frame in self._frames if frame not in heard]
            self._wrong(f"of {run} heard {told}, and in one go {kept}")

    async def _connect(self, server: Server, run: str, frames_max: int) -> bool:
        """Whether its end was heard."""
        world = self._world
        headers = {**self._headers, "X-A2A-Extensions": EXTENSIONS}
        if self._cursor:
            headers["Last-Event-ID"] = self._cursor
        body = {"jsonrpc": "2.0", "id": "1", "method": "tasks/resubscribe", "params": {"id": run}}
        number = world.history.invoke("listen", who=self._name, project=self._project, run=run)
        frames = 0
        try:
            async with world.session.post(f"{server.url}{AGENT}", headers=headers, json=body) as answer:
                if answer.status != 200:
                    world.history.add("info", "listen", number, status=answer.status, text=await answer.text())
                    return False
                async for frame in self._frames_of(answer, number):
                    self._take(frame)
                    if self._wronged or b'"final":true' in frame.data:
                        return True
                    frames += 1
                    if frames >= frames_max:
                        self._cut()
                        return False
        except CONNECTION_ERRORS as error:
            world.history.add("info", "listen", number, text=repr(error))
            self._cut()
        return False
