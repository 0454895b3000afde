"""Talking to a running server: what is sent, and what each answer means."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from dragoman.cli.remote import Remote, find_credential, refusal
from dragoman.cli.report import Report
from dragoman.core import errors

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Elsewhere:
    """A server that answers every request in one way and keeps what it was sent."""

    def __init__(self) -> None:
        self.answer: Answering = self.stream
        self.frames = b""
        self.seen: list[tuple[str, str, bytes]] = []
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self.server = TestServer(app)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.path, request.headers.get("Authorization", ""), await request.read()))
        return await self.answer(request)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number in range(0, len(self.frames), 7):
            await response.write(self.frames[number : number + 7])
        return response

    def refusing(self, status: int, body: str, **headers: str) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            return web.Response(status=status, text=body, headers=headers, content_type="application/json")

        self.answer = answer

    @property
    def url(self) -> str:
        return str(self.server.make_url("")).rstrip("/")


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    made = Elsewhere()
    await made.server.start_server()
    yield made
    await made.server.close()


async def test_a_turn_is_read_frame_by_frame(elsewhere: Elsewhere):
    elsewhere.frames = (
        b'event: start\ndata: {"session_key": "k"}\n\n: ping\n\nevent: token\ndata: {"text": "H\xc3\xa9"}\n\n'
        b'event: message\ndata: {"text": "H\xc3\xa9"}\n\nevent: done\ndata: {"iterations": 1}\n\n'
    )
    report = Report(quiet=True)
    await Remote(elsewhere.url + "/", "drg_x").chat("hi", "k", "m", report)

    assert (report.status, report.text, report.steps, report.conversation) == ("completed", "Hé", 1, "k")
    assert elsewhere.seen == [
        ("/api/v1/chat/stream", "Bearer drg_x", b'{"message": "hi", "session_key": "k", "model": "m"}')
    ]


async def test_a_stream_that_just_ends_is_a_failure(elsewhere: Elsewhere):
    elsewhere.frames = b'event: start\ndata: {"session_key": "k"}\n\n'
    with pytest.raises(errors.BackendFailed) as caught:
        await Remote(elsewhere.url, "c").chat("hi", "k", "", Report(quiet=True))
    assert caught.value.detail == f"{elsewhere.url} broke the answer off; ask again in conversation k."


async def test_a_refusal_is_said_in_the_servers_words(elsewhere: Elsewhere):
    elsewhere.refusing(429, '{"detail": "Rate limit exceeded"}', **{"retry-after": "45"})
    with pytest.raises(errors.LimitReached) as caught:
        await Remote(elsewhere.url, "c").chat("hi", "k", "", Report(quiet=True))
    assert caught.value.detail == "The server asks to wait (Rate limit exceeded). Try again in 45 s."


async def test_a_post_gives_the_servers_json(elsewhere: Elsewhere):
    elsewhere.refusing(202, '{"status": "cancelled"}')

    assert await Remote(elsewhere.url, "c").post("/api/runs/r/cancel") == {"status": "cancelled"}
    assert elsewhere.seen == [("/api/runs/r/cancel", "Bearer c", b"")]


async def test_a_get_and_a_body_are_sent_to_just_that_path(elsewhere: Elsewhere):
    elsewhere.refusing(200, '{"approvals": []}')
    remote = Remote(elsewhere.url, "c")

    assert await remote.get("/api/waiting") == await remote.post("/a%2Fb%20c", {"ok": True}) == {"approvals": []}
    assert elsewhere.seen == [("/api/waiting", "Bearer c", b""), ("/a/b c", "Bearer c", b'{"ok": true}')]


async def test_where_nobody_listens_it_says_how_to_start_a_server(elsewhere: Elsewhere):
    url = elsewhere.url
    await elsewhere.server.close()
    for talk in (
        lambda: Remote(url, "c").chat("hi", "k", "", Report(quiet=True)),
        lambda: Remote(url, "c").post("/x"),
    ):
        with pytest.raises(errors.Unavailable) as caught:
            await talk()
        assert caught.value.detail == (
            f"{url} does not answer; is a server running there? Start one with: dragoman serve"
        )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequest),
        (401, errors.NotAuthenticated),
        (403, errors.NotAllowed),
        (404, errors.NotFound),
        (409, errors.BadRequest),
        (429, errors.LimitReached),
        (500, errors.BackendFailed),
        (502, errors.BackendFailed),
        (503, errors.Unavailable),
    ],
)
def test_each_status_is_an_error_of_the_tree(status: int, kind: type[errors.DragomanError]):
    assert type(refusal(status, "")) is kind


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"error": {"code": "x", "message": "No."}}', " (No.)"),
        ('{"error": "No."}', " (No.)"),
        ('{"message": "No."}', " (No.)"),
        ("<html>", ""),
        ("[1]", ""),
        ('{"detail": {"deep": 1}}', ""),
    ],
)
async def test_a_sentence_is_found_in_any_usual_body(elsewhere: Elsewhere, body: str, said: str):
    elsewhere.refusing(500, body)
    with pytest.raises(errors.BackendFailed) as caught:
        await Remote(elsewhere.url, "c").post("/x")
    assert caught.value.detail == f"The server failed with status 500{said}."


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://h", "http://", "localhost"])
def test_what_is_no_url_is_refused(url: str):
    with pytest.raises(errors.BadRequest):
        Remote(url, "c")


@pytest.mark.parametrize("credential", ["a\nb", "ключ"])
def test_what_cannot_be_a_credential_is_refused_before_it_is_sent(credential: str):
    with pytest.raises(errors.NotAuthenticated):
        Remote("http://h", credential)


def test_the_credential_given_wins_then_the_first_admins(tmp_path: Path):
    with pytest.raises(errors.NotAuthenticated) as caught:
        find_credential(None, tmp_path)
    assert caught.value.detail == (
        "A running server wants a credential: give --credential TEXT;"
        f" there is none in {tmp_path / 'admin-credential'}."
    )
    (tmp_path / "admin-credential").write_text("drg_admin\n")
    assert find_credential(None, tmp_path) == "drg_admin"
    assert find_credential(" drg_mine ", tmp_path) == "drg_mine"
