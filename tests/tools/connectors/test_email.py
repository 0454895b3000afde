"""E-mail, against an SMTP server on loopback."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from dragoman.core.errors import BadRequest
from dragoman.tools.connectors import email
from tests.certificates import server_tls
from tests.tools.connectors.rig import Rig, rigged


class Post:
    """An SMTP server that takes every message, but for addresses that begin with `no`.

    With a `tls` it speaks that from the first byte, or offers it: `starttls` is what it answers to who asks for it."""

    def __init__(self, *, login: bool = False, tls: ssl.SSLContext | None = None, starttls: str = "") -> None:
        self.login = login
        self.tls = tls
        self.starttls = starttls
        self.secured: list[bool] = []
        """For each message, whether it came under TLS."""
        self.logins: list[str] = []
        self.envelopes: list[tuple[str, list[str], Message]] = []
        self.port = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender, to = "", list[str]()

        def say(text: str) -> None:
            writer.write(text.encode() + b"\r\n")

        def is_secured() -> bool:
            return writer.get_extra_info("ssl_object") is not None

        say("220 here")
        while line := (await reader.readline()).decode("ascii", "replace").strip():
            verb = line.partition(" ")[0].upper()
            if verb == "EHLO":
                lines = ["here", *(["AUTH PLAIN"] if self.login else [])]
                lines += ["STARTTLS"] if self.starttls and not is_secured() else []
                say("\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"]))
            elif verb == "STARTTLS":
                say(self.starttls)
                if self.starttls.startswith("220") and self.tls is not None:
                    await writer.start_tls(self.tls)
            elif verb == "AUTH":
                self.logins.append(line)
                say("235 fine" if line.endswith("AG1lAHB3") else "535 no")
            elif verb == "MAIL":
                sender, to = line, []
                say("250 fine")
            elif verb == "RCPT":
                refused = "<no" in line.lower()
                to += [] if refused else [line.partition("<")[2].partition(">")[0]]
                say("550 nobody" if refused else "250 fine")
            elif verb == "DATA":
                say("354 go on")
                text = (await reader.readuntil(b"\r\n.\r\n")).decode()
                self.envelopes.append((sender, to, message_from_string(text.removesuffix("\r\n.\r\n"))))
                self.secured.append(is_secured())
                say("250 taken")
            elif verb == "RSET":
                say("250 fine")
            else:
                say("221 bye")
                break
        writer.close()


@asynccontextmanager
async def post_office(**options: Any) -> AsyncIterator[Post]:
    post = Post(**options)
    implicit = None if post.starttls else post.tls
    server = await asyncio.start_server(post.talk, "127.0.0.1", 0, ssl=implicit)
    post.port = server.sockets[0].getsockname()[1]
    async with server:
        yield post


def mail(post: Post, **more: Any) -> dict[str, Any]:
    return {"from": "Dragoman <d@example.com>", "host": "127.0.0.1", "port": post.port, **more}


async def test_an_email_is_sent(rig: Rig):
    async with post_office() as post:
        got = await rig(
            ".email",
            mail(post),
            {},
            to=["Ann <ann@example.com>", "no@example.com"],
            bcc=["boss@example.com"],
            subject="Dïsk",
            message="It is full.\n",
            messageHTML="<p>It is full.</p>",
        )
    assert got.ok
    assert (got.data["accepted"], got.data["rejected"]) == (["ann@example.com", "boss@example.com"], ["no@example.com"])
    [(sender, to, message)] = post.envelopes
    assert sender.startswith("mail FROM:<d@example.com>")
    assert to == ["ann@example.com", "boss@example.com"]
    assert "boss" not in message.as_string()
    assert message["To"] == "Ann <ann@example.com>, no@example.com"
    assert message["Date"] == "Tue, 14 Nov 2023 22:13:20 -0000"
    parts = [part.get_content_type() for part in message.walk()]
    assert parts == ["multipart/alternative", "text/plain", "text/html"]
    assert message["Message-ID"] == got.data["messageId"]


async def test_an_email_with_a_login(rig: Rig):
    async with post_office(login=True) as post:
        wanted = {"to": ["a@example.com"], "subject": "s", "message": "m"}
        assert (await rig(".email", mail(post), {"user": "me", "password": "pw"}, **wanted)).ok
        got = await rig(".email", mail(post), {"user": "me", "password": "wrong"}, **wanted)
        assert (got.ok, got.service_message, got.retry) == (False, "535 no", False)
        assert (await rig(".email", mail(post, hasAuth=False), {"user": "me", "password": "pw"}, **wanted)).ok
    assert len(post.logins) == 2


async def test_nobody_takes_it(rig: Rig):
    async with post_office() as post:
        got = await rig(".email", mail(post), {}, to=["no@example.com"], subject="s", message="m")
    assert (got.ok, got.service_message) == (False, "127.0.0.1 took none of the recipients")
    got = await rig(".email", mail(post), {}, to=["a@example.com"], subject="s", message="m")
    assert (got.ok, got.retry) == (False, True)
    assert got.service_message == f"127.0.0.1 could not be reached on port {post.port}"


async def test_a_mail_server_that_resolves_to_a_forbidden_address(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    def lie(host: str, port: int, **_: Any) -> list[Any]:
        return [(2, 1, 6, "", ("169.254.169.254", port))]

    async with post_office() as post:
        monkeypatch.setattr("dragoman.tools.connectors.email.socket.getaddrinfo", lie)
        config = mail(post, host="rebound.example.com")
        got = await rig(".email", config, {}, to=["a@example.com"], subject="s", message="m")
    assert got.service_message == "rebound.example.com resolves to an address that connectors never reach"
    assert (got.ok, got.retry, post.envelopes) == (False, False, [])


@pytest.mark.usefixtures("far_away")
async def test_a_password_is_not_sent_in_the_clear(rig: Rig):
    async with post_office(login=True) as post:
        secrets = {"user": "me", "password": "pw"}
        got = await rig(".email", mail(post), secrets, to=["a@example.com"], subject="s", message="m")
    assert got.service_message == "127.0.0.1 offers no TLS, and the password is not sent without"
    assert (post.logins, post.envelopes) == ([], [])


# -- TLS ---------------------------------------------------------------------------------------------------------------

LOGIN = {"user": "me", "password": "pw"}
LETTER = {"to": ["a@example.com"], "subject": "s", "message": "m"}


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's, that this process trusts."""
    context, certificate = server_tls(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return context


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server counts as one that is not on this machine: a login wants TLS."""
    monkeypatch.setattr(email, "_is_here", lambda peer: False)


@pytest.mark.usefixtures("far_away")
@pytest.mark.parametrize(("starttls", "secure"), [("220 go", False), ("", True)], ids=["starttls", "implicit"])
async def test_under_tls_a_login_goes_to_any_server(rig: Rig, tls: ssl.SSLContext, starttls: str, secure: bool):
    async with post_office(login=True, tls=tls, starttls=starttls) as post:
        got = await rig(".email", mail(post, secure=secure), LOGIN, **LETTER)
    assert (got.ok, got.service_message) == (True, "")
    assert (post.secured, len(post.logins)) == ([True], 1)


async def test_a_service_has_its_own_address(rig: Rig, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch):
    async with post_office(login=True, tls=tls) as post:
        monkeypatch.setitem(email.SERVICES, "gmail", ("127.0.0.1", post.port, True))
        config = {"from": "d@example.com", "service": "gmail", "host": "nowhere.example.com", "port": 1}
        assert (await rig(".email", config, LOGIN, **LETTER)).ok
    assert post.secured == [True]


@pytest.mark.parametrize(("starttls", "secure"), [("220 go", False), ("", True)], ids=["starttls", "implicit"])
async def test_a_certificate_that_nobody_trusts(rig: Rig, tmp_path: Path, starttls: str, secure: bool):
    context, _ = server_tls(tmp_path)
    async with post_office(login=True, tls=context, starttls=starttls) as post:
        got = await rig(".email", mail(post, secure=secure), LOGIN, **LETTER)
    assert got.service_message == "127.0.0.1 speaks no TLS, or its certificate is not trusted"
    assert (got.ok, got.retry, post.logins, post.envelopes) == (False, False, [], [])


async def test_a_certificate_of_another_host(rig: Rig, tls: ssl.SSLContext):
    async with post_office(tls=tls) as post:
        got = await rig(".email", mail(post, host="localhost", secure=True), {}, **LETTER)
    assert got.service_message == "localhost speaks no TLS, or its certificate is not trusted"


async def test_a_server_without_the_tls_that_is_wanted(rig: Rig):
    async with post_office() as post:
        got = await rig(".email", mail(post, secure=True), {}, **LETTER)
    assert (got.ok, post.envelopes) == (False, [])
    assert got.service_message == "127.0.0.1 speaks no TLS, or its certificate is not trusted"


async def test_tls_that_is_offered_and_then_refused_is_not_done_without(rig: Rig):
    async with post_office(login=True, starttls="454 not now") as post:
        got = await rig(".email", mail(post), LOGIN, **LETTER)
    assert (got.ok, got.retry, got.service_message) == (False, True, "454 not now")
    assert (post.logins, post.envelopes) == ([], [])


# -- what is no e-mail -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"to": []}, "must name 1 to 100 recipients"),
        ({"to": ["a@example.com"] * 101}, "must name 1 to 100 recipients"),
        ({"to": ["nobody"]}, "is not an e-mail address"),
        ({"to": ["a@example.com\r\nBcc: b@example.com"]}, "is not an e-mail address|one line each"),
        ({"to": ["a@elsewhere.org"]}, r"may not be sent to elsewhere\.org"),
        ({"subject": "a\r\nBcc: b@example.com"}, "one line each"),
        ({"subject": "x" * 901}, "may have 900 characters"),
        ({"subject": 1}, "The parameters do not fit this type of connector: Expected str, got int - at params.subject"),
        ({"attachments": []}, "unknown field attachments"),
    ],
)
async def test_what_is_no_email(params: dict[str, Any], sentence: str):
    async with post_office() as post, rigged(email_domains=("example.com",)) as rig:
        wanted: dict[str, Any] = {"to": ["a@example.com"], "subject": "s", "message": "m"} | params
        with pytest.raises(BadRequest, match=sentence):
            await rig(".email", mail(post), {}, **wanted)
    assert post.envelopes == []
