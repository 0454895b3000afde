"""E-mail over SMTP: one message, sent by the standard library in a thread.

    host ─resolve, check─► connect ─check the peer─► TLS? ─► login? ─► send

Without TLS a login is sent to this machine only.
"""

import asyncio
import hashlib
import smtplib
import socket
import ssl
from collections.abc import Collection, Sequence
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from fnmatch import fnmatchcase
from typing import Any

from msgspec import Struct

from dragoman.core.connectors import Executed
from dragoman.core.errors import BadRequest
from dragoman.core.names import Clock
from dragoman.runtime.connectors import Opened
from dragoman.runtime.reach import Reach, literal, never

CONNECT_S = 10.0
"""For each step of the conversation with the server."""
RECIPIENTS_MAX = 100
SUBJECT_CHARS_MAX = 900
MESSAGE_CHARS_MAX = 200_000
SAID_CHARS_MAX = 300

SERVICES = {"gmail": ("smtp.gmail.com", 465, True), "outlook365": ("smtp.office365.com", 587, False)}
"""Host, port, and whether it speaks TLS from the first byte."""


class EmailParams(Struct, frozen=True, forbid_unknown_fields=True):
    """`message` is plain text; `messageHTML`, if it is there, the same for those who see HTML."""

    subject: str
    message: str
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    messageHTML: str | None = None


class _Server(Struct, frozen=True):
    host: str
    port: int
    secure: bool
    user: str
    password: str

    def __repr__(self) -> str:
        return f"_Server({self.host!r}, {self.port})"


class _Refused(Exception):
    """`str()` is a sentence."""


async def execute_email(
    connector: Opened, params: EmailParams, *, reach: Reach, domains: Sequence[str], clock: Clock, key: str
) -> Executed:
    """`domains`: globs; recipients of others are refused. `key` makes a repeat recognisable: the message's id is made
    of it. Raises BadRequest."""
    recipients = _recipients(params, domains)
    server = _server(connector.config, connector.secrets)
    reach.check_host(server.host, field="config.host")
    message = _message(connector.config, params, at=clock.now())
    message["Message-ID"] = f"<{hashlib.sha256(key.encode()).hexdigest()[:32]}@dragoman>"
    try:
        refused = await asyncio.to_thread(_send, server, message, recipients)
    except _Refused as error:
        return _failed(connector.id, str(error), retry=False)
    except smtplib.SMTPResponseException as error:
        words = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        said = f"{error.smtp_code} {words}"
        return _failed(connector.id, said, retry=400 <= error.smtp_code < 500)
    except smtplib.SMTPRecipientsRefused:
        return _failed(connector.id, f"{server.host} took none of the recipients", retry=False)
    except smtplib.SMTPException:
        return _failed(connector.id, f"{server.host} broke off or does not speak SMTP as wanted", retry=True)
    except ssl.SSLError:
        return _failed(connector.id, f"{server.host} speaks no TLS, or its certificate is not trusted", retry=False)
    except OSError:
        return _failed(connector.id, f"{server.host} could not be reached on port {server.port}", retry=True)
    accepted = [address for address in recipients if address not in refused]
    data = {"messageId": message["Message-ID"], "accepted": accepted, "rejected": sorted(refused)}
    return Executed(connector.id, True, data=data)


def _failed(connector_id: str, said: str, *, retry: bool) -> Executed:
    said = "".join(char if char.isprintable() else " " for char in said)[:SAID_CHARS_MAX]
    return Executed(connector_id, False, message="error sending email", service_message=said, retry=retry)


def _recipients(params: EmailParams, domains: Sequence[str]) -> list[str]:
    given = [*params.to, *params.cc, *params.bcc]
    if not given or len(given) > RECIPIENTS_MAX:
        raise BadRequest(f"to, cc and bcc together must name 1 to {RECIPIENTS_MAX} recipients.")
    return [_address(text, domains) for text in given]


def _address(text: str, domains: Sequence[str]) -> str:
    """The address in `Name <a@b.c>`."""
    address = parseaddr(text)[1]
    local, _, domain = address.rpartition("@")
    if not (local and domain and address.isascii() and address.isprintable()) or " " in address:
        raise BadRequest(f"{text[:100]!a} is not an e-mail address.")
    if not any(fnmatchcase(domain.lower(), pattern.lower()) for pattern in domains):
        raise BadRequest(f"E-mail may not be sent to {domain} (connectors.email_domains).")
    return address


def _server(config: dict[str, Any], secrets: dict[str, Any]) -> _Server:
    service = config.get("service") or "other"
    login = config.get("hasAuth") is not False
    user, password = (str(secrets.get(name) or "") if login else "" for name in ("user", "password"))
    if service in SERVICES:
        host, port, secure = SERVICES[service]
        return _Server(host, port, secure, user, password)
    return _Server(str(config["host"]), int(config["port"]), bool(config.get("secure")), user, password)


def _message(config: dict[str, Any], params: EmailParams, *, at: float) -> EmailMessage:
    if len(params.subject) > SUBJECT_CHARS_MAX or len(params.message) > MESSAGE_CHARS_MAX:
        raise BadRequest(
            f"The subject may have {SUBJECT_CHARS_MAX} characters and the message {MESSAGE_CHARS_MAX} at most."
        )
    message = EmailMessage()
    try:
        message["From"] = str(config["from"])
        for name, people in (("To", params.to), ("Cc", params.cc)):
            if people:
                message[name] = ", ".join(people)
        message["Subject"] = params.subject
        message["Date"] = formatdate(at)
        message.set_content(params.message)
        if params.messageHTML is not None:
            message.add_alternative(params.messageHTML, subtype="html")
    except (ValueError, UnicodeError):  # a line end in a header would begin another one
        raise BadRequest("Sender, recipients and subject are one line each, of characters that exist.") from None
    return message


def _send(server: _Server, message: EmailMessage, recipients: Sequence[str]) -> Collection[str]:
    """In a thread. The recipients that the server did not take. Raises _Refused, smtplib's errors, OSError."""
    found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    if any(never(str(each[4][0])) for each in found):
        raise _Refused(f"{server.host} resolves to an address that connectors never reach")
    context = ssl.create_default_context()
    if server.secure:
        client = smtplib.SMTP_SSL(server.host, server.port, timeout=CONNECT_S, context=context)
    else:
        client = smtplib.SMTP(server.host, server.port, timeout=CONNECT_S)
    with client:
        # Names can be answered otherwise the second time: who is at the other end counts.
        peer = "" if client.sock is None else str(client.sock.getpeername()[0])
        if never(peer):
            raise _Refused(f"{server.host} resolves to an address that connectors never reach")
        client.ehlo_or_helo_if_needed()
        secured = server.secure
        if not secured and client.has_extn("starttls"):
            client.starttls(context=context)
            client.ehlo()
            secured = True
        if server.user:
            if not secured and not _is_here(peer):
                raise _Refused(f"{server.host} offers no TLS, and the password is not sent without")
            client.login(server.user, server.password)
        return client.send_message(message, to_addrs=list(recipients))


def _is_here(peer: str) -> bool:
    address = literal(peer)
    return address is not None and address.is_loopback
