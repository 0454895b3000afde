"""Outbound HTTP of connectors: where it may go, how much it reads, how long it waits."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dragoman.core.errors import BadRequest
from dragoman.runtime.reach import Reach
from dragoman.tools.connectors.posting import ANSWER_BYTES_MAX, PostFailed, Posting
from tests.certificates import server_tls
from tests.support import FixedClock
from tests.tools.conftest import Serve
from tests.tools.connectors.rig import Notes, Rig, rigged


async def test_hosts_count_also_when_it_is_used(serve: Serve):
    notes = Notes()
    url = await serve(notes.take)
    async with rigged(reach=Reach(("elsewhere.example.com",))) as rig:
        with pytest.raises(BadRequest, match="is not one of the hosts"):
            await rig(".webhook", {"url": url}, {}, body="x")
    assert notes.seen == []


async def test_a_name_that_resolves_to_a_forbidden_address(rig: Rig, serve: Serve, monkeypatch: pytest.MonkeyPatch):
    notes = Notes()
    url = (await serve(notes.take)).replace("127.0.0.1", "rebound.example.com")

    async def lie(host: str, port: int, **_: Any) -> list[Any]:
        return [(2, 1, 6, "", ("127.0.0.1", port)), (2, 1, 6, "", ("169.254.169.254", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lie)
    got = await rig(".webhook", {"url": url}, {}, body="x")
    assert (got.ok, got.service_message) == (False, "rebound.example.com could not be reached")
    assert notes.seen == []


async def test_only_so_much_of_an_answer_is_read(serve: Serve):
    async def much(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * (ANSWER_BYTES_MAX * 3))

    posting = Posting(Reach(), FixedClock())
    posted = await posting.send("POST", await serve(much), headers=[])
    await posting.close()
    assert posted.body == b"x" * ANSWER_BYTES_MAX


async def test_who_does_not_answer_is_not_waited_for(serve: Serve):
    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    posting = Posting(Reach(), FixedClock(), total_s=0.05)
    with pytest.raises(PostFailed, match=r"did not answer within 0\.05 s"):
        await posting.send("POST", await serve(silent), headers=[])
    await posting.close()


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        ("12", 12.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:13:10 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("9" * 400, None),
        ("90000", None),
    ],
)
async def test_retry_after(serve: Serve, value: str, wait_s: float | None):
    notes = Notes(web.Response(status=429, headers={"Retry-After": value}))
    posting = Posting(Reach(), FixedClock(1_700_000_000.0))
    posted = await posting.send("POST", await serve(notes.take), headers=[])
    await posting.close()
    assert posted.retry_after_s == wait_s


async def test_a_server_whose_certificate_nobody_trusts(tmp_path: Path):
    met: list[bytes] = []

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0, ssl=server_tls(tmp_path)[0])
    async with server:
        posting = Posting(Reach(), FixedClock())
        with pytest.raises(PostFailed, match="its certificate is not trusted") as failed:
            await posting.send("POST", f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/", headers=[])
        await posting.close()
    assert (failed.value.retry, met) == (False, [])


async def test_what_does_not_speak_http():
    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail here\r\n")
        writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    async with server:
        posting = Posting(Reach(), FixedClock())
        with pytest.raises(PostFailed, match=r"127\.0\.0\.1 broke off or did not answer in proper HTTP"):
            await posting.send("POST", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", headers=[])
        await posting.close()
