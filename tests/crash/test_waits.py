"""A real `kill -9` of a real server whose run waits for somebody: what was asked is not asked again, what was decided
and answered is not lost, and the tool runs once. A stop in order hands such a run on at once. And two servers over one
database: what comes to either is heard."""

import asyncio
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest

from tests.crash.forked import ForkedServer
from tests.crash.homes import POSTGRES, execute, why_no_postgres

pytestmark = pytest.mark.timeout(60)

CONFIG = """
[server]
drain = "20s"
[store]
url = "{store}"
lease = "{lease_s}s"
[models.main]
kind = "scripted"
file = "script.toml"
[agents.assistant]
ask = ["edit_file"]
approval = "1m"
[limits]
per_ip_rpm = 0
per_credential_rpm = 0
"""

SCRIPT = """
[[reply]]
match = "tick it"
times = 1
delay_s = 0.05
calls = [{ name = "edit_file", arguments = { path = "clock.txt", old = "tick", new = "ticktock" } }]
[[reply]]
match = "ask me"
times = 2
delay_s = 0.05
calls = [{ name = "local", arguments = {} }]
[[reply]]
match = "look at home"
times = 1
calls = [{ name = "files_list", arguments = { path = "/" } }]
[[reply]]
match = "."
text = "It is done."
"""

HEARD_S = 1.0
"""Between the commit of a decision at one server and the call at the other, which drives the run."""
DIRECT = "/api/cli/v1"
COMES_S = 20.0
POLL_S = 0.01
LEASE_S = 10
AT_ONCE_S = 5.0
"""A stop that waits for nobody, on a busy machine; its drain would be four times as long."""


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The URL of an empty store."""
    if request.param == "sqlite":
        yield "sqlite:dragoman.db"
        return
    async for url in database():
        yield url


@pytest.fixture
async def shared() -> AsyncIterator[str]:
    async for url in database():
        yield url


async def database() -> AsyncIterator[str]:
    if why := await why_no_postgres():
        pytest.skip(why)
    name = f"waits_{secrets.token_hex(6)}"
    await execute(POSTGRES, f'create database "{name}"')
    yield urlunsplit(urlsplit(POSTGRES)._replace(path=f"/{name}"))
    await execute(POSTGRES, f'drop database "{name}" with (force)')


def server_of(home: Path, store: str, fuses: str = "", *, lease_s: int = 1) -> ForkedServer:
    (home / "workspace").mkdir(parents=True, exist_ok=True)
    if not (home / "script.toml").exists():
        (home / "workspace" / "clock.txt").write_text("tick\n")
        (home / "script.toml").write_text(SCRIPT)
    return ForkedServer(home, CONFIG.format(store=store, lease_s=lease_s), fuses=fuses)


class Caller:
    def __init__(self, server: ForkedServer) -> None:
        self._server = server
        self.run = ""

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer's body; None if the server was gone before it could answer."""
        try:
            answer = httpx.post(f"{self._server.url}{path}", headers=self._server.headers, json=body, timeout=10)
        except httpx.TransportError:
            return None
        assert answer.status_code == 200, answer.text
        return answer.json()

    def say(self, message: str) -> str:
        body = {"conversation": "c", "message": message, "held_s": 60.0 if message.startswith("ask me") else 0.0}
        self.run = self.post("/waits/turns", body)["run"]
        return self.run

    def tunnel(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """The status, and what was answered."""
        url = f"{self._server.url}{DIRECT}/tunnel/{path}"
        answer = httpx.post(url, headers=self._server.headers, json=body or {}, timeout=10)
        return answer.status_code, answer.json().get("data")

    def tunnel_request(self) -> dict[str, Any]:
        """What a program behind the tunnel is to do, once there is something."""
        deadline = time.monotonic() + COMES_S
        while time.monotonic() < deadline:
            _, data = self.tunnel("poll", {"tools_hash": "h"})
            if "request" in data:
                return data["request"]
        raise AssertionError("nothing is asked of the tunnel")

    def chat(self, prompt: str) -> str:
        """A turn of a new chat; its run."""
        url = f"{self._server.url}{DIRECT}/assistant/chats"
        answer = httpx.post(url, headers=self._server.headers, json={"prompt": prompt}, timeout=10)
        return answer.raise_for_status().headers["x-run-id"]

    def events(self, run: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self._server.url}/waits/runs/{run}", headers=self._server.headers, timeout=10)
        return [{"at": entry["at"], **entry["event"]} for entry in answer.raise_for_status().json()]

    def once(self, run: str, kind: str) -> dict[str, Any]:
        """The run's only event of a kind, once it is there."""
        deadline = time.monotonic() + COMES_S
        while time.monotonic() < deadline:
            found = [event for event in self.events(run) if event["kind"] == kind]
            if found:
                (event,) = found
                return event
        raise AssertionError(f"no {kind}: {[event['kind'] for event in self.events(run)]}")

    def approve(self, run: str) -> Any:
        asked = self.once(run, "approval_requested")
        decision = {"call": asked["call"]["id"], "arguments_hash": asked["arguments_hash"], "approved": True}
        return self.post(f"/waits/runs/{run}/decision", decision)

    def answer(self, run: str) -> Any:
        asked = self.once(run, "client_tool_requested")
        return self.post(f"/waits/runs/{run}/answer", {"call": asked["call"]["id"], "content": "mine"})


def stopped(server: ForkedServer) -> float:
    """Stop it in order; how long that took."""
    began = time.monotonic()
    assert server.stop() == 0
    return time.monotonic() - began


def heard_until_sent_away(server: ForkedServer, run: str) -> tuple[threading.Thread, list[str]]:
    """A reader of a run's entries, and what it hears until its stream ends."""
    lines: list[str] = []

    def read() -> None:
        url = f"{server.url}/api/runs/{run}/events"
        with httpx.stream("GET", url, headers=server.headers, timeout=COMES_S) as answer:
            lines.extend(answer.iter_lines())

    reader = threading.Thread(target=read)
    reader.start()
    return reader, lines


async def test_a_run_that_waits_survives_kills_and_does_what_was_decided_once(tmp_path: Path, store: str) -> None:
    """Each life of the server ends at another point; all of them are of one home."""
    clock = tmp_path / "workspace" / "clock.txt"
    with server_of(tmp_path, store, "approval.requested=kill") as server:
        edit = Caller(server).say("tick it")
        assert server.wait() == -9
    assert clock.read_text() == "tick\n"
    with server_of(tmp_path, store, "approval.decided=kill") as server:
        assert Caller(server).approve(edit) is None
        assert server.wait() == -9
    assert clock.read_text() == "tick\n"
    with server_of(tmp_path, store, "clienttool.requested=kill") as server:
        caller = Caller(server)
        caller.once(edit, "run_completed")
        caller.once(edit, "tool_started")
        assert not caller.once(edit, "tool_returned").get("is_error", False)
        assert caller.approve(edit) == {"repeated": True}
        assert clock.read_text() == "ticktock\n"
        local = caller.say("ask me")
        assert server.wait() == -9
    with server_of(tmp_path, store, "clienttool.answered=kill") as server:
        assert Caller(server).answer(local) is None
        assert server.wait() == -9
    with server_of(tmp_path, store) as server:
        caller = Caller(server)
        caller.once(local, "run_completed")
        assert caller.once(local, "tool_returned")["content"] == "mine"
        assert caller.answer(local) == {"repeated": True}
        # Nothing was told, and somebody else comes with something: it is new.
        second = caller.say("tick it")
        assert caller.approve(second) == {"repeated": False}
        caller.once(second, "run_completed")
        assert clock.read_text() == "ticktocktock\n"
        assert stopped(server) < AT_ONCE_S


async def test_a_server_that_stops_hands_on_what_only_waits_and_sends_its_readers_away(tmp_path: Path) -> None:
    with server_of(tmp_path, "sqlite:dragoman.db") as server:
        caller = Caller(server)
        run = caller.say("tick it")
        asked = caller.once(run, "approval_requested")
        reader, heard = heard_until_sent_away(server, run)
        while not any("approval_requested" in line for line in heard):
            assert reader.is_alive(), heard
            time.sleep(POLL_S)
        assert stopped(server) < AT_ONCE_S
        reader.join()
        assert heard[-2:] == ["retry: 2000", ""]
    with server_of(tmp_path, "sqlite:dragoman.db") as server:
        caller = Caller(server)
        assert caller.approve(run) == {"repeated": False}
        caller.once(run, "run_completed")
        assert caller.once(run, "approval_requested") == asked


async def test_what_comes_to_another_server_than_the_one_that_waits_is_heard_at_once(
    tmp_path: Path, shared: str
) -> None:
    with server_of(tmp_path / "a", shared, lease_s=LEASE_S) as owner:
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        with server_of(tmp_path / "b", shared, lease_s=LEASE_S) as other:
            run = Caller(owner).say("tick it")
            assert Caller(other).approve(run) == {"repeated": False}
            Caller(other).once(run, "run_completed")
            decided, started = (Caller(other).once(run, kind) for kind in ("approval_decided", "tool_started"))
            assert started["at"] - decided["at"] < HEARD_S
            assert epochs(Caller(other).events(run)) == [1]
            run = Caller(owner).say("ask me")
            assert Caller(other).answer(run) == {"repeated": False}
            Caller(owner).once(run, "run_completed")
            # The owner stops while it waits: the other waits on, before the owner's lease could have run out.
            run = Caller(owner).say("ask me again")
            Caller(other).once(run, "client_tool_requested")
            began = time.monotonic()
            assert stopped(owner) < AT_ONCE_S
            while epochs(Caller(other).events(run)) != [1, 2]:
                assert time.monotonic() - began < LEASE_S
            assert Caller(other).answer(run) == {"repeated": False}
            Caller(other).once(run, "run_completed")


async def test_what_a_tunnel_at_one_server_lends_serves_a_run_of_another_and_outlives_that(
    tmp_path: Path, shared: str
) -> None:
    with server_of(tmp_path / "a", shared) as owner:
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        with server_of(tmp_path / "b", shared) as other:
            here, there = Caller(other), Caller(owner)
            assert here.tunnel("poll", {"tools_hash": "h"}) == (200, {"send_tools": True})
            lent = {"tools_hash": "h", "tools": [{"name": "files_list", "description": "List files."}]}
            assert here.tunnel("tools", lent) == (200, {"tools": 1})
            run = there.chat("look at home")
            asked = here.tunnel_request()
            assert (asked["tool"], asked["action"], asked["input"]) == ("files", "list", {"path": "/"})
            claims = await asyncio.gather(
                *(asyncio.to_thread(each.tunnel, f"requests/{asked['id']}/claim") for each in (here, there) * 3)
            )
            assert sorted(status for status, _ in claims) == [200, 409, 409, 409, 409, 409]
            owner.kill()
            assert here.tunnel(f"requests/{asked['id']}/result", {"result": "a b c"})[0] == 200
            assert here.tunnel(f"requests/{asked['id']}/result", {"result": "a b c"})[0] == 200
            assert here.tunnel(f"requests/{asked['id']}/result", {"result": "x y z"})[0] == 409
            here.once(run, "run_completed")
            assert here.once(run, "client_tool_requested")["call"]["name"] == "files_list"
            assert here.once(run, "tool_returned")["content"] == "a b c"
            assert here.tunnel("poll", {"tools_hash": "h"}) == (200, {})


def epochs(events: list[dict[str, Any]]) -> list[int]:
    return [event["epoch"] for event in events if event["kind"] == "run_claimed"]
