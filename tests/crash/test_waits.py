"""A real `kill -9` of a real server whose run waits for somebody: what was asked is not asked again, what was decided
and answered is not lost, and the tool runs once. And two servers over one database: what comes to either is heard."""

import secrets
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest

from tests.crash.homes import POSTGRES, execute, why_no_postgres
from tests.server_process import ServerProcess

pytestmark = pytest.mark.timeout(60)

CONFIG = """
[server]
drain = "200ms"
[store]
url = "{store}"
lease = "1s"
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
delay_s = 0.2
calls = [{ name = "edit_file", arguments = { path = "clock.txt", old = "tick", new = "ticktock" } }]
[[reply]]
match = "ask me"
times = 1
delay_s = 0.2
calls = [{ name = "local", arguments = {} }]
[[reply]]
match = "."
text = "It is done."
"""

PROGRAM = ("-m", "tests.crash.waiting_server")
HEARD_S = 1.0
"""Between the commit of a decision at one server and the call at the other, which drives the run."""
COMES_S = 20.0


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


def server_of(home: Path, store: str, fuses: str = "") -> ServerProcess:
    (home / "workspace").mkdir(parents=True, exist_ok=True)
    if not (home / "script.toml").exists():
        (home / "workspace" / "clock.txt").write_text("tick\n")
        (home / "script.toml").write_text(SCRIPT)
    return ServerProcess(home, CONFIG.format(store=store), env={"DRAGOMAN_FUSES": fuses}, program=PROGRAM)


class Caller:
    def __init__(self, server: ServerProcess) -> None:
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
        body = {"conversation": "c", "message": message, "held_s": 60.0 if message == "ask me" else 0.0}
        self.run = self.post("/waits/turns", body)["run"]
        return self.run

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

    def bring(self, run: str, point: str) -> Any:
        return self.approve(run) if point.startswith("approval") else self.answer(run)


@pytest.mark.parametrize(
    "point", ["approval.requested", "approval.decided", "clienttool.requested", "clienttool.answered"]
)
async def test_a_run_that_waits_survives_a_kill_and_does_what_was_decided_once(
    tmp_path: Path, store: str, point: str
) -> None:
    brought = point in ("approval.decided", "clienttool.answered")
    with server_of(tmp_path, store, f"{point}=kill") as server:
        caller = Caller(server)
        run = caller.say("tick it" if point.startswith("approval") else "ask me")
        if brought:
            assert caller.bring(run, point) is None
        assert server.wait() == -9
    clock = tmp_path / "workspace" / "clock.txt"
    assert clock.read_text() == "tick\n"
    with server_of(tmp_path, store) as server:
        caller = Caller(server)
        assert caller.bring(run, point) == {"repeated": brought}
        caller.once(run, "run_completed")
        returned = caller.once(run, "tool_returned")
        if point.startswith("approval"):
            caller.once(run, "tool_started")
            assert clock.read_text() == "ticktock\n" and not returned.get("is_error", False)
        else:
            assert returned["content"] == "mine"
        assert caller.bring(run, point) == {"repeated": True}
        assert server.stop() == 0


async def test_a_run_that_waits_is_handed_on_by_a_server_that_stops(tmp_path: Path, store: str) -> None:
    home = tmp_path
    with server_of(home, store) as server:
        caller = Caller(server)
        run = caller.say("tick it")
        asked = caller.once(run, "approval_requested")
        assert server.stop() == 0
    with server_of(home, store) as server:
        caller = Caller(server)
        assert caller.approve(run) == {"repeated": False}
        caller.once(run, "run_completed")
        assert caller.once(run, "approval_requested") == asked
        assert server.stop() == 0


async def test_what_comes_to_another_server_than_the_one_that_waits_is_heard_at_once(
    tmp_path: Path, shared: str
) -> None:
    with server_of(tmp_path / "a", shared) as owner:
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        with server_of(tmp_path / "b", shared) as other:
            run = Caller(owner).say("tick it")
            assert Caller(other).approve(run) == {"repeated": False}
            Caller(other).once(run, "run_completed")
            decided, started = (Caller(other).once(run, kind) for kind in ("approval_decided", "tool_started"))
            assert started["at"] - decided["at"] < HEARD_S
            assert [event["epoch"] for event in Caller(other).events(run) if event["kind"] == "run_claimed"] == [1]
            run = Caller(owner).say("ask me")
            assert Caller(other).answer(run) == {"repeated": False}
            Caller(owner).once(run, "run_completed")
