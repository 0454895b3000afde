"""Clients as they are in the world: they ask, lose their connection, ask again with the same key, follow runs from
where they stopped, cancel, and look where they should not. Everything goes into the history.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import aiohttp
import msgspec

from tests.crash.history import History, Kind
from tests.crash.scripts import ASKED, LOCAL, Script, answer_to
from tests.crash.servers import Server

ANSWER_S = 60.0
FIRST_WAIT_S = 0.02
WAIT_MAX_S = 0.3
CONNECTION_ERRORS = (aiohttp.ClientError, ConnectionError, TimeoutError)
REFUSED = frozenset({400, 401, 403, 404, 405, 413, 415, 422, 429})
"""Statuses that say for certain that nothing was written."""
PATHS = {
    "blocking": "/api/v1/chat",
    "streaming": "/api/v1/chat/stream",
    "held": "/waits/turns",
    "elastic": "/api/observability_ai_assistant/chat/complete",
    "rowboat": "/api/v1/{project}/chat",
    "rowboat-stream": "/api/v1/{project}/chat",
}
STREAMED = ("streaming", "elastic", "rowboat-stream")
UNTIL_KNOWN = ("elastic", "rowboat", "rowboat-stream")  # they must know what to go on from
CHATS = "/api/cli/v1/chats"
HELD_S = 20.0
ENDS = ("run_completed", "run_failed", "run_cancelled")


class _Entry(msgspec.Struct):
    event: dict[str, Any]


_entries = msgspec.json.Decoder(list[_Entry])


class World:
    """What all clients of a trial share. `pick` waits for a server to send the next request to."""

    def __init__(self, servers: list[Server], credentials: Mapping[str, str], history: History, seed: str) -> None:
        self.servers = servers
        self.credentials = dict(credentials)
        self.history = history
        self.seed = seed
        self.over = asyncio.Event()
        """The storm has passed: nothing new is begun."""
        self.gave_up = asyncio.Event()
        """Nothing is waited for any longer."""
        self.session: aiohttp.ClientSession
        self.spawn: Callable[[Coroutine[Any, Any, None]], object]
        self.can_follow = True

    async def pick(self, rng: random.Random, preferred: Server | None = None) -> Server | None:
        """A server that is up, as far as we know; None when the trial is given up."""
        while not self.gave_up.is_set():
            if preferred is not None and preferred.up.is_set():
                return preferred
            up = [server for server in self.servers if server.up.is_set()]
            if up:
                return rng.choice(up)
            waiting = [asyncio.create_task(server.up.wait()) for server in self.servers]
            waiting.append(asyncio.create_task(self.gave_up.wait()))
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
        return None


class Client:
    def __init__(
        self, world: World, name: str, project: str, conversations: list[str], *, server: Server | None = None
    ) -> None:
        """`server`: the one it asks as long as it is up."""
        self._world = world
        self._server = server
        self.brings_to = server
        """Where its decisions and its tools' results go."""
        self._history = world.history
        self.name = name
        self.project = project
        self.canary = f"canary{project}"
        self._conversations = conversations
        self.rng = random.Random(f"{world.seed}/{name}")
        self._turns = 0
        self._readers = 0

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._world.credentials[self.project]}", "kbn-xsrf": "true"}

    def token(self) -> str:
        self._turns += 1
        return f"{self.name}.{self._turns}"

    async def live(
        self,
        draw: Callable[[random.Random, str, str], Script],
        *,
        followed: float,
        cancelled: float,
        pause_s: float = 0.0,
    ) -> None:
        """One turn after another until the storm is over. `followed`, `cancelled`: the share of turns it happens to;
        `pause_s`: the longest a client thinks before its next turn."""
        while not self._world.over.is_set():
            rng = self.rng
            script = draw(rng, self.token(), self.canary)
            await self.append(
                rng.choice(self._conversations),
                script,
                mode=rng.choice(("blocking", "streaming")),
                keyed=rng.random() < 0.5,
                followed=rng.random() < followed,
                cancelled=rng.random() < cancelled,
            )
            await asyncio.sleep(rng.uniform(0, pause_s))

    # -- asking ----------------------------------------------------------------------------------------------------

    async def append(
        self,
        conversation: str,
        script: Script,
        *,
        mode: str = "blocking",
        keyed: bool = True,
        followed: bool = False,
        cancelled: bool = False,
    ) -> bool:
        """Say something. With a key it is said again until somebody knows what became of it. Whether it was taken."""
        key = f"key-{script.token}" if keyed else ""
        wait_s = FIRST_WAIT_S
        while (server := await self._world.pick(self.rng, self._server)) is not None:
            turn = Saying(self, server, conversation, script, mode, key, followed=followed, cancelled=cancelled)
            verdict = await turn.take()
            if verdict != "again":
                return verdict == "taken"
            followed = cancelled = False
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, WAIT_MAX_S)
        return False

    # -- following -------------------------------------------------------------------------------------------------

    async def follow(self, run: str) -> None:
        """Read a run's entries to their end over as many connections as it takes, some of which we break ourselves."""
        self._readers += 1
        reader = f"{self.name}/reader{self._readers}"
        cursor, ended = 0, False
        how = self.rng.choice(("header", "from", "starting_after"))
        wait_s = FIRST_WAIT_S
        while not ended and (server := await self._world.pick(self.rng, self._server)) is not None:
            frames_max = self.rng.choice((1, 3, 10, 1000, 1000))
            before = cursor
            cursor, ended = await self._connect(server, run, reader, cursor, how, frames_max)
            if cursor == before and not ended:
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, WAIT_MAX_S)
            else:
                wait_s = FIRST_WAIT_S

    async def _connect(
        self, server: Server, run: str, reader: str, cursor: int, how: str, frames_max: int
    ) -> tuple[int, bool]:
        """One connection of a reader; its cursor after, and whether it has come to the end."""
        history, world = self._history, self._world
        headers, query = dict(self._headers), {}
        if cursor and how == "header":
            headers["Last-Event-ID"] = str(cursor)
        elif cursor:
            query[how] = str(cursor)
        number = history.invoke("follow", who=self.name, project=self.project, run=run, reader=reader, after=cursor)
        heard = b""
        try:
            async with world.session.get(
                f"{server.url}/api/runs/{run}/events", headers=headers, params=query
            ) as answer:
                if answer.status != 200:
                    kind: Kind = "fail" if answer.status in REFUSED else "info"
                    history.add(kind, "follow", number, status=answer.status, text=await answer.text())
                    return cursor, answer.status in REFUSED or answer.status == 410
                history.add("ok", "follow", number, status=200)
                frames = 0
                async for chunk in answer.content.iter_any():
                    heard += chunk
                    history.add("heard", "follow", number, text=chunk.decode("latin-1"))
                    whole, _, heard = heard.rpartition(b"\n\n")
                    for frame in whole.split(b"\n\n"):
                        if frame.startswith(b"id: "):
                            cursor = int(frame[4 : frame.index(b"\n")])
                            frames += 1
                            if b'"kind":"run_' in frame and b'"kind":"run_claimed"' not in frame:
                                return cursor, True
                    if frames >= frames_max:
                        return cursor, False
        except CONNECTION_ERRORS as error:
            history.add("info", "follow", number, text=repr(error))
        return cursor, False

    # -- other things ----------------------------------------------------------------------------------------------

    async def cancel(self, server: Server, run: str) -> None:
        number = self._history.invoke("cancel", who=self.name, project=self.project, run=run)
        try:
            url = f"{server.url}/api/runs/{run}/cancel"
            async with self._world.session.post(url, headers=self._headers) as answer:
                text = await answer.text()
                kind: Kind = "ok" if answer.status == 202 else "fail" if answer.status in REFUSED else "info"
                self._history.add(kind, "cancel", number, run=run, status=answer.status, text=text)
        except CONNECTION_ERRORS as error:
            self._history.add("info", "cancel", number, text=repr(error))

    async def bring(self, run: str, kind: str) -> None:
        """Approve the first call of a run that is asked about, or answer the first one that the client is to make, as
        soon as it is; until somebody knows. `kind` is the request's."""
        wait_s = FIRST_WAIT_S
        while (server := await self._world.pick(self.rng, self.brings_to)) is not None:
            entries = await self._entries(server, run)
            if any(entry.event["kind"] in ENDS for entry in entries):
                return
            asked = next((entry.event for entry in entries if entry.event["kind"] == kind), None)
            if asked is not None and await self._bring(server, run, asked):
                return
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, WAIT_MAX_S)

    async def _entries(self, server: Server, run: str) -> list["_Entry"]:
        try:
            async with self._world.session.get(f"{server.url}/waits/runs/{run}", headers=self._headers) as answer:
                return _entries.decode(await answer.read()) if answer.status == 200 else []
        except CONNECTION_ERRORS:
            return []

    async def _bring(self, server: Server, run: str, asked: Mapping[str, Any]) -> bool:
        """Whether it is known what became of it."""
        call = asked["call"]["id"]
        if asked["kind"] == "approval_requested":
            op, path = "approve", "decision"
            body = {"call": call, "arguments_hash": asked["arguments_hash"], "approved": True}
        else:
            op, path, body = "answer", "answer", {"call": call, "content": answer_to(call)}
        number = self._history.invoke(op, who=self.name, project=self.project, run=run, key=call)
        kind = await self._send("POST", f"{server.url}/waits/runs/{run}/{path}", body, op, number, run=run)
        return kind != "info"

    async def rename(self, conversation: str) -> None:
        """Give a conversation a name as soon as it is there, and share it; until somebody knows."""
        wait_s = FIRST_WAIT_S
        while (server := await self._world.pick(self.rng, self._server)) is not None:
            name = f"named by {self.token()}"
            number = self._history.invoke(
                "rename", who=self.name, project=self.project, conversation=conversation, text=name
            )
            body = {"name": name, "isPublic": True}
            if await self._send("PATCH", f"{server.url}{CHATS}/{conversation}", body, "rename", number) == "ok":
                return
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, WAIT_MAX_S)

    async def _send(self, method: str, url: str, body: object, op: str, number: int, run: str = "") -> Kind:
        """What became of a request that is done at once."""
        try:
            async with self._world.session.request(method, url, json=body, headers=self._headers) as answer:
                text = await answer.text()
                refused = answer.status in REFUSED or answer.status in (409, 410)
                kind: Kind = "ok" if answer.status == 200 else "fail" if refused else "info"
                self._history.add(kind, op, number, run=run, status=answer.status, text=text)
                return kind
        except CONNECTION_ERRORS as error:
            self._history.add("info", op, number, text=repr(error))
            return "info"

    async def peek(self, server: Server, run: str, *, path: str = "/events") -> None:
        """Look at a run of another project: it must not be there."""
        number = self._history.invoke("peek", who=self.name, project=self.project, run=run)
        try:
            async with self._world.session.get(f"{server.url}/api/runs/{run}{path}", headers=self._headers) as answer:
                heard = await answer.content.read(100_000)
                self._history.add("heard", "peek", number, status=answer.status, text=heard.decode("latin-1"))
        except CONNECTION_ERRORS as error:
            self._history.add("info", "peek", number, text=repr(error))


class Saying:
    """One try to say something."""

    def __init__(
        self,
        client: Client,
        server: Server,
        conversation: str,
        script: Script,
        mode: str,
        key: str,
        *,
        followed: bool,
        cancelled: bool,
        body: Mapping[str, Any] | None = None,
        token: str = "",
    ) -> None:
        """`body`, `token`: of a turn that is not simply the script's message."""
        self._client = client
        self._server = server
        self._world = client._world
        self._history = client._history
        self._body: Mapping[str, Any] = body or {"message": script.message(), "session_key": conversation}
        if mode == "held":
            self._body = {"message": script.message(), "conversation": conversation, "held_s": HELD_S}
        self._token = token or script.token
        self.heard = b""
        """Of its last try."""
        self.run = self.named = ""
        """The run it was told, and the conversation."""
        self._conversation = conversation
        self._script = script
        self._mode = mode
        self._key = key
        self._followed = followed
        self._cancelled = cancelled

    async def take(self) -> str:
        """taken, lost (nobody knows, and it was said without a key), refused, or again."""
        client, history = self._client, self._history
        number = history.invoke(
            "append",
            who=client.name,
            project=client.project,
            conversation=self._conversation,
            token=self._token,
            key=self._key,
            mode=self._mode,
            text=self._script.message(),
        )
        path = PATHS[self._mode].format(project=client.project)
        headers = client._headers | ({"Idempotency-Key": self._key} if self._key else {})
        lost = "again" if self._key else "lost"
        acknowledged = False
        try:
            async with self._world.session.post(self._server.url + path, json=self._body, headers=headers) as answer:
                run = answer.headers.get("x-run-id", "")
                if answer.status != 200:
                    return await self._not_taken(number, answer, run)
                if self._mode in STREAMED:
                    acknowledged = True
                    self.run, self.named = run, answer.headers.get("x-conversation-id", "")
                    history.add("ok", "append", number, run=run, status=200, conversation=self.named)
                    self._spawn_others(run)
                    self.heard = b""
                    async for chunk in answer.content.iter_any():
                        self.heard += chunk
                        history.add("heard", "append", number, text=chunk.decode("latin-1"))
                else:
                    self.run, self.heard = run, await answer.read()
                    history.add("ok", "append", number, run=run, status=200)
                    history.add("heard", "append", number, text=self.heard.decode("latin-1"))
                    self._spawn_others(run)
                return "taken"
        except aiohttp.ClientConnectorError as error:
            history.add("fail", "append", number, text=repr(error))  # nothing was sent
            self._server_is_away()
            return "again"
        except CONNECTION_ERRORS as error:
            history.add("note" if acknowledged else "info", "append", number, text=repr(error))
            # Who has a key may ask again for what it was told only half of, and gets the same turn.
            whole = self._mode in UNTIL_KNOWN or (self._key != "" and client.rng.random() < 0.5)
            return lost if not acknowledged or whole else "taken"

    async def _not_taken(self, number: int, answer: aiohttp.ClientResponse, run: str) -> str:
        text = await answer.text()
        status = answer.status
        kind: Kind = "fail" if status in REFUSED else "info"
        self._history.add(kind, "append", number, run=run, status=status, text=text)
        if status == 429 or (self._key and status in (409, 503)):
            return "again"
        return "refused" if kind == "fail" else "lost"

    def _spawn_others(self, run: str) -> None:
        client, world = self._client, self._world
        if not run:
            return
        if self._followed and world.can_follow:
            world.spawn(client.follow(run))
        if self._cancelled:
            world.spawn(client.cancel(self._server, run))
        if any(ASKED in step for step in self._script.steps):
            world.spawn(client.bring(run, "approval_requested"))
        if any(LOCAL in step for step in self._script.steps):
            world.spawn(client.bring(run, "client_tool_requested"))

    def _server_is_away(self) -> None:
        if not self._server.alive:
            self._server.up.clear()
