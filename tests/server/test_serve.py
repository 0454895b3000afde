"""Serving: from the first byte of a start to the exit code. In process where it can be seen, in a process of its own
where a signal, a socket family or the size of a process is what is tested."""

import asyncio
import json
import re
import resource
import socket
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from dragoman.access.projects import ensure_project
from dragoman.core.errors import Conflict, Unavailable
from dragoman.core.messages import said
from dragoman.core.names import ConversationId
from dragoman.core.operations import ReadConversation, StartTurn
from dragoman.edge import http as edge_http
from dragoman.edge.http import SEND_BUFFER_BYTES
from dragoman.server import serve as serve_module
from dragoman.server.assemble import open_house
from dragoman.server.config import BadConfig, Config
from dragoman.server.config_shapes import Seconds, Server
from dragoman.server.house import Parts
from dragoman.server.serve import CLOSE_S, FILES_MAX, Serving, bind, serve, url_of
from dragoman.stores.sqlite.lock import TapeLock
from tests.parts import ADMIN, Gate, ScriptedReplies, open_config, text_reply
from tests.runtime.scene import until, within
from tests.server_process import ServerProcess

CHAT = "/api/v1/chat"
STREAM = "/api/v1/chat/stream"
ASK = {"message": "hello", "session_key": "k"}
START_TO_ANSWER_S = 3.0
"""Generous, for a machine that is busy with other tests; `make bench` holds the figure that is promised."""
RSS_MIB_MAX = 90.0


# -- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("listen", ["8080", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", "::1:80", ""])
def test_what_is_no_address_is_said_to_be_none(listen: str) -> None:
    with pytest.raises(BadConfig, match="is not an address; write HOST:PORT"):
        bind(listen)


def test_an_address_that_is_taken_is_said_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = rf"Cannot listen on 127\.0\.0\.1:{port}: Address already in use\. Choose another with --listen\."
        with pytest.raises(Unavailable, match=sentence):
            bind(f"127.0.0.1:{port}")


def test_a_name_that_no_address_belongs_to_cannot_be_listened_on() -> None:
    with pytest.raises(Unavailable, match=r"Cannot listen on nowhere\.invalid:80: "):
        bind("nowhere.invalid:80")


def test_nobody_can_connect_before_the_server_listens() -> None:
    with bind("127.0.0.1:0") as listener:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url_of(listener))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(listener.getsockname())


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback address")


@needs_ipv6
def test_an_ipv6_address_is_shown_in_brackets() -> None:
    with bind("[::1]:0") as listener:
        assert re.fullmatch(r"http://\[::1\]:\d+", url_of(listener))


def test_a_stop_fits_into_thirty_seconds() -> None:
    assert Config().server.drain_s + CLOSE_S < 30


# -- starts that fail ------------------------------------------------------------------------------------------------


async def leave_a_run_behind(home: Path) -> None:
    model = ScriptedReplies(text_reply("never"))
    model.gate = Gate()
    async with open_house(open_config(), home, parts=Parts(models={"offline": model})) as house:
        await ensure_project(house.access, house.project, at=0.0)
        await house.desk.answer(ADMIN, StartTurn(ConversationId("k"), (said("user", "hello"),)))
        await until(lambda: bool(model.prompts))


async def attempts(home: Path) -> int:
    async with open_house(open_config(), home, writer=False) as house:
        (view,) = await house.store.unfinished()
        return view.epoch


def test_a_server_that_cannot_listen_leaves_unfinished_runs_alone(tmp_path: Path) -> None:
    asyncio.run(leave_a_run_behind(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match="Address already in use"):
            serve(open_config(), tmp_path, listen=f"127.0.0.1:{port}")
    assert asyncio.run(attempts(tmp_path)) == 1


def test_a_server_that_others_could_reach_without_a_credential_leaves_unfinished_runs_alone(tmp_path: Path) -> None:
    asyncio.run(leave_a_run_behind(tmp_path))
    with pytest.raises(BadConfig, match="there is no credential yet"):
        serve(open_config(), tmp_path, listen="0.0.0.0:0")
    assert asyncio.run(attempts(tmp_path)) == 1


def test_a_second_server_on_one_home_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    lock = TapeLock.take(tmp_path / "dragoman.db")
    lock.announce("http://127.0.0.1:1234")
    try:
        with pytest.raises(Conflict, match=r"in use by process \d+ \(listening on http://127\.0\.0\.1:1234\)"):
            serve(open_config(), tmp_path, listen="127.0.0.1:0")
    finally:
        lock.release()


# -- in process ------------------------------------------------------------------------------------------------------


class Served:
    """A server in this process, with a model whose words are let through one by one."""

    def __init__(self, house: Any, serving: Serving, client: httpx.AsyncClient, model: Any) -> None:
        self.house = house
        self.serving = serving
        self.client = client
        self.model = model
        self.running: asyncio.Task[None]

    async def stopped(self) -> None:
        await within(asyncio.shield(self.running))


@asynccontextmanager
async def served(home: Path, *, drain_s: float = 25.0) -> AsyncGenerator[Served]:
    model = ScriptedReplies(text_reply("It is ", "fine."))
    model.gate = Gate()
    config = msgspec.structs.replace(open_config(), server=Server(drain_s=Seconds(drain_s)))
    async with open_house(config, home, parts=Parts(models={"offline": model})) as house:
        await ensure_project(house.access, house.project, at=0.0)
        minted = await house.mint.create("t", house.project, scopes=tuple(ADMIN.scopes))
        listener = bind("127.0.0.1:0")
        headers = {"Authorization": f"Bearer {minted.text}"}
        async with httpx.AsyncClient(base_url=url_of(listener), headers=headers, timeout=5, trust_env=False) as client:
            s = Served(house, Serving(house, listener), client, model)
            s.running = asyncio.create_task(s.serving.run())
            await until(lambda: s.serving._server.started)
            try:
                yield s
            finally:
                s.serving.ask_to_stop()
                s.serving.ask_to_stop()
                await s.stopped()
                listener.close()


class Following:
    """Somebody who reads a stream."""

    def __init__(self, s: Served) -> None:
        self._s = s
        self.text = ""
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> str:
        async with self._s.client.stream("POST", STREAM, json=ASK) as answer:
            async for text in answer.aiter_text():
                self.text += text
        return self.text

    async def until(self, text: str) -> None:
        await until(lambda: text in self.text)


STOPPED_STREAM = 'event: error\ndata: {"detail": "'


async def test_while_it_drains_what_is_live_ends_and_what_is_new_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as s:
        reader = Following(s)
        await reader.until("event: start")
        s.serving.ask_to_stop()
        await until(lambda: s.house.app.draining)
        ready, refused, alive = [
            await s.client.request(method, path, json=ASK)
            for method, path in (("GET", "/ready"), ("POST", CHAT), ("GET", "/health"))
        ]
        assert (ready.status_code, refused.status_code, alive.status_code) == (503, 503, 200)
        assert not s.running.done()
        s.model.gate.open()
        text = await within(reader.task)
        assert text.count("event: done") == 1 and text.endswith("\n\n")
        await s.stopped()


async def test_a_blocking_answer_that_is_awaited_when_the_stop_comes_is_given(tmp_path: Path) -> None:
    async with served(tmp_path) as s:
        asking = asyncio.create_task(s.client.post(CHAT, json=ASK))
        await until(lambda: bool(s.model.prompts))
        s.serving.ask_to_stop()
        await until(lambda: s.house.app.draining)
        s.model.gate.open()
        answer = await within(asking)
        assert (answer.status_code, answer.json()["response"]) == (200, "It is fine.")
        await s.stopped()


async def test_who_still_waits_when_the_drain_is_over_is_told_so_and_the_run_goes_on_at_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path, drain_s=0.05) as s:
        reader = Following(s)
        await reader.until("event: start")
        s.model.gate.release()
        await reader.until("It is ")
        waiting = asyncio.create_task(s.client.post(CHAT, json=ASK))
        await until(lambda: len(s.house.runs[0]._line._waiting) == 2)
        s.serving.ask_to_stop()
        answer = await within(waiting)
        assert (answer.status_code, int(answer.headers["retry-after"]) >= 1) == (503, True)
        assert STOPPED_STREAM in await within(reader.task)
        await s.stopped()
    assert "1 runs did not end in 0.05 s" in caplog.text
    assert not [record for record in caplog.records if record.exc_info]
    model = ScriptedReplies(text_reply("It is ", "fine."))
    async with open_house(open_config(), tmp_path, parts=Parts(models={"offline": model})) as house:
        assert house.recovered == 1
        await within(house.runs[0].settled())
        view = await house.desk.answer(ADMIN, ReadConversation(ConversationId("k")))
    assert [turn.answered[-1].text for turn in view.turns] == ["It is fine.", "It is fine."]


async def test_asked_a_second_time_it_waits_for_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with served(tmp_path) as s:
        reader = Following(s)
        await reader.until("event: start")
        s.serving.ask_to_stop()
        await until(lambda: s.house.app.draining)
        began = time.monotonic()
        s.serving.ask_to_stop()
        await s.stopped()
        assert time.monotonic() - began < CLOSE_S
        assert STOPPED_STREAM in await within(reader.task)
        assert [view.status for view in await s.house.store.unfinished()] == ["running"]
    assert not [record for record in caplog.records if record.exc_info]


async def test_without_anything_to_do_it_stops_at_once(tmp_path: Path) -> None:
    async with served(tmp_path) as s:
        assert (await s.client.get("/health")).status_code == 200  # a connection that stays open
        s.serving.ask_to_stop()
        await s.stopped()


async def test_a_request_that_never_arrives_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_module, "CHECK_EVERY_S", 0.005)
    monkeypatch.setattr(edge_http, "HEAD_TIMEOUT_S", 0.01)
    async with served(tmp_path) as s:
        port = s.client.base_url.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n")
        assert await within(reader.read()) == b""
        writer.close()
        assert (await s.client.get("/health")).status_code == 200


async def test_connections_are_made_with_small_buffers_and_little_patience(tmp_path: Path) -> None:
    async with served(tmp_path) as s:
        assert (await s.client.get("/health")).status_code == 200
        (protocol,) = s.serving._server.server_state.connections
        connection = protocol.transport.get_extra_info("socket")
        bytes_max = connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert SEND_BUFFER_BYTES <= bytes_max <= 2 * SEND_BUFFER_BYTES
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if sys.platform == "linux":
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


async def test_who_takes_nothing_of_an_answer_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_module, "CHECK_EVERY_S", 0.005)
    async with served(tmp_path) as s:
        monkeypatch.setattr(
            edge_http, "WRITE_TIMEOUT_S", 0.02
        )  # ours only: the listener is bound, and has the real one
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", s.client.base_url.port))
            deaf.sendall(b"GET /openapi/grip.json HTTP/1.1\r\nhost: x\r\n\r\n" * 100)
            connections = s.serving._server.server_state.connections
            await until(lambda: bool(connections))
            await until(lambda: not connections)
        assert (await s.client.get("/health")).status_code == 200


def test_what_is_not_a_run_and_takes_long_is_told_that_the_server_stops(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        config = SHORT_DRAIN + f'[connections.slow]\nkind = "prometheus"\nurl = "{url}"\n'
        with ServerProcess(tmp_path, config) as server, ThreadPoolExecutor(1) as pool:
            asking = pool.submit(
                httpx.post,
                f"{server.url}/api/v1/tools/query_prometheus/execute",
                headers=server.headers,
                json={"parameters": {"datasourceUid": "slow", "expr": "up"}},
                timeout=20,
                trust_env=False,
            )
            reached, _ = silent.accept()
            with reached:
                assert server.stop() == 0
                refused = asking.result()
        assert (refused.status_code, int(refused.headers["retry-after"]) >= 1) == (503, True)
    assert b"Traceback" not in server.said


# -- in a process of its own -----------------------------------------------------------------------------------------

SCRIPT = """
[[reply]]
match = "slow"
text = ["It is ", "fine."]
delay_s = {delay_s}
"""
CONFIG = '[models.main]\nkind = "scripted"\nfile = "script.toml"\n'
SHORT_DRAIN = '[server]\ndrain = "200ms"\n'


def scripted_home(tmp_path: Path, delay_s: float) -> Path:
    (tmp_path / "script.toml").write_text(SCRIPT.format(delay_s=delay_s))
    return tmp_path


@contextmanager
def reading(server: ServerProcess) -> Iterator[Iterator[str]]:
    """A stream of which the first frames have come."""
    body = {"message": "slow", "session_key": "k"}
    url = server.url + STREAM
    with httpx.stream("POST", url, headers=server.headers, json=body, timeout=10, trust_env=False) as answer:
        texts = answer.iter_text()
        assert next(texts).startswith("event: start")
        yield texts


def get(server: ServerProcess, path: str) -> httpx.Response:
    return httpx.get(server.url + path, headers=server.headers, timeout=10, trust_env=False)


def eventually_draining(server: ServerProcess) -> None:
    deadline = time.monotonic() + 5
    while get(server, "/ready").status_code != 503:
        assert time.monotonic() < deadline


def resident_mib(pid: int) -> float:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def test_from_start_to_first_answer_and_how_much_memory_it_then_holds(tmp_path: Path) -> None:
    began = time.monotonic()
    with ServerProcess(tmp_path) as server:
        answer = httpx.post(
            server.url + CHAT,
            headers=server.headers,
            json={"message": "List all files in the workspace"},
            timeout=10,
            trust_env=False,
        )
        took_s = time.monotonic() - began
        held_mib = resident_mib(server.pid)
        assert server.stop() == 0
    print(f"start to first answer {took_s:.2f} s, resident {held_mib:.0f} MiB")
    assert (answer.status_code, answer.json()["tool_calls_made"]) == (200, ["list_files"])
    assert took_s <= START_TO_ANSWER_S
    assert held_mib <= RSS_MIB_MAX
    lines = server.said.decode().splitlines()
    assert re.fullmatch(
        r"dragoman \S+  sqlite:dragoman\.db  models: offline  agents: assistant  dialects: [a-z ]+", lines[0]
    )
    assert lines[1].startswith('! the model "offline" is a deterministic router: no key, no network, no LLM.')
    assert lines[2:] == [
        "! no credential yet: listening on loopback only; a first admin credential is in "
        f"{tmp_path / 'admin-credential'}",
        f"listening on {server.url}",
    ]


def test_the_first_line_names_the_workflows_of_the_configuration(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, '[workflows.shop.agents.desk]\ninstructions = "Greet."\n') as server:
        assert server.stop() == 0
    assert b"  agents: assistant  workflows: shop  dialects: " in server.said.splitlines()[0]


def test_sigterm_lets_a_live_run_end_and_its_reader_hear_of_it(tmp_path: Path) -> None:
    home = scripted_home(tmp_path, delay_s=0.4)
    with ServerProcess(home, CONFIG) as server:
        with reading(server) as texts:
            server.terminate()
            eventually_draining(server)
            refused = httpx.post(server.url + CHAT, headers=server.headers, json=ASK, timeout=10, trust_env=False)
            rest = "".join(texts)
        assert refused.status_code == 503
        assert rest.count("event: done") == 1
        assert server.wait() == 0
    assert b"Traceback" not in server.said


def test_what_outlives_the_drain_is_answered_after_the_next_start(tmp_path: Path) -> None:
    home = scripted_home(tmp_path, delay_s=30)
    with ServerProcess(home, SHORT_DRAIN + CONFIG) as server:
        with reading(server) as texts:
            server.terminate()
            rest = "".join(texts)
        assert rest.startswith(STOPPED_STREAM)
        assert server.wait() == 0
    assert b"1 runs did not end in 0.2 s and are handed back; they go on elsewhere, or here" in server.said
    assert b"Traceback" not in server.said
    with ServerProcess(scripted_home(tmp_path, delay_s=0), CONFIG) as server:
        deadline = time.monotonic() + 5
        while len(messages := get(server, "/api/v1/sessions/k/messages").json()["messages"]) < 2:
            assert time.monotonic() < deadline
        assert [message["content"] for message in messages] == ["slow", "It is fine."]
        assert server.stop() == 0
    assert b"! 1 unfinished runs taken up again\n" in server.said


def test_a_second_sigterm_stops_at_once(tmp_path: Path) -> None:
    home = scripted_home(tmp_path, delay_s=30)
    with ServerProcess(home, CONFIG) as server:
        with reading(server) as texts:
            server.terminate()
            eventually_draining(server)
            began = time.monotonic()
            server.terminate()
            assert "".join(texts).startswith(STOPPED_STREAM)
        assert server.wait() == 0
        assert time.monotonic() - began < CLOSE_S
    assert b"asked to stop a second time: not waiting any longer" in server.said
    assert b"Traceback" not in server.said


def test_it_allows_itself_as_many_connections_as_it_may(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, soft), hard))
    try:
        with ServerProcess(tmp_path) as server:
            found = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
            assert server.stop() == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == (FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX), hard)


@needs_ipv6
def test_it_listens_on_an_ipv6_address(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, listen="[::1]:0") as server:
        assert re.fullmatch(r"http://\[::1\]:\d+", server.url)
        assert get(server, "/health").json() == {"status": "ok"}
        holder = (tmp_path / "dragoman.db.lock").read_text().splitlines()
        assert holder == [str(server.pid), server.url]
        assert json.loads(get(server, "/api/v1/sessions").content) == {"sessions": [], "count": 0}
        assert server.stop() == 0
