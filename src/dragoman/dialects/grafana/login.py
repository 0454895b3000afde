"""Login of a command line tool through the browser: a page that asks, and the exchange of its code (WIRE.md, Q24).

The page is plain HTML: no script, and a policy that lets its form go nowhere but here and, redirected, to the program
that waits on this very machine. What is wrong with a link is said on the page; nobody is redirected by a link that was
not understood whole.
"""

import hashlib
import re
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode

from msgspec import UNSET, Struct, UnsetType

from dragoman.core.admission import (
    DecideLogin,
    ExchangeLogin,
    LoginDecided,
    LoginIssued,
    LoginWish,
    RenewLogin,
    ReviewLogin,
)
from dragoman.core.errors import BadRequest, DragomanError
from dragoman.core.names import Scope
from dragoman.dialects.grafana import parameters
from dragoman.dialects.grafana.encode import success
from dragoman.dialects.grafana.shapes import Success
from dragoman.dialects.grafana.times import rfc3339_s
from dragoman.wire import structs
from dragoman.wire.dialect import Reply, Request, Route

PAGES = ("/a/grafana-assistant-app/cli/auth", "/a/grafana-assistant-app/connect/app")
"""The second is k6 Studio's."""
EXCHANGE = "/api/cli/v1/auth/exchange"
REFRESH = "/api/cli/v1/auth/refresh"

PAGE = "text/html"

PORT_MIN, PORT_MAX = 1024, 65_535
STATE_CHARS_MAX = 512
DEVICE_CHARS_MAX = 80
SCOPES_MAX = 20
FIELDS_MAX = 10
"""Of the form."""

_CHAT = (
    Scope.PLUGINS_APP_ACCESS,
    Scope.GRAFANA_CHATS_ACCESS,
    Scope.CHAT_RUN,
    Scope.CHAT_READ,
    Scope.CONVERSATIONS_READ,
    Scope.CONVERSATIONS_WRITE,
    Scope.RUNS_CANCEL,
    Scope.TOOLS_USE,
    Scope.TOOLS_APPROVE,
)
# Without GRAFANA_CHATS_ACCESS, which lets its holder talk and delete on this wire: who allows reading allows no more.
_READ = (Scope.PLUGINS_APP_ACCESS, Scope.CHAT_READ, Scope.CONVERSATIONS_READ)
_WRITE = (*_READ, Scope.CONVERSATIONS_WRITE, Scope.RESOURCES_WRITE)
_SCOPES: Mapping[str, tuple[str, tuple[Scope, ...]]] = {
    "assistant:chat": ("talk with the assistant in your name, and read and change your conversations", _CHAT),
    "assistant:a2a": ("let programs talk with the assistant in your name", _CHAT),
    "tunnel:connect": ("offer files and commands of its machine to the assistant as tools", (Scope.TUNNEL_CONNECT,)),
    "grafana-api:read": ("read what you may read here", _READ),
    "grafana-api:write": ("change what you may change here", _WRITE),
    "grafana-api:delete": ("delete what you may delete here", _WRITE),
}
"""Wire scopes: what they mean, to people and to us."""
_DEFAULT = "assistant:chat"

_STATE = re.compile(rf"[\x21-\x7e]{{1,{STATE_CHARS_MAX}}}")
_CHALLENGE = re.compile(r"[0-9A-Za-z_-]{43}")

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:3rem auto;padding:0 1rem;color-scheme:light dark}"
    "code{font:1.4rem ui-monospace,monospace}input{font:inherit;width:100%;box-sizing:border-box;padding:.4rem}"
    "button{font:inherit;padding:.4rem 1.2rem;margin:1rem .6rem 0 0}.fault{border-left:4px solid #c33;padding:0 .8rem}"
)
_POLICY = (
    "content-security-policy",
    f"default-src 'none'; style-src 'sha256-{b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}';"
    " form-action 'self' http://127.0.0.1:*; base-uri 'none'; frame-ancestors 'none'",
)


class Exchange(Struct, frozen=True):
    code: str
    code_verifier: str


class Refresh(Struct, frozen=True):
    refresh_token: str


class Login(Struct, frozen=True):
    """`api_endpoint` is told once, with the exchange."""

    token: str
    tenant: str
    email: str
    expires_at: str
    refresh_token: str
    refresh_expires_at: str
    api_endpoint: str | UnsetType = UNSET


class _Asked(Struct, frozen=True):
    """A link, understood whole."""

    port: int
    state: str
    wish: LoginWish
    told: tuple[str, ...]
    """What is asked for, in words."""


# -- requests --------------------------------------------------------------------------------------------------------


def review(request: Request) -> ReviewLogin:
    return ReviewLogin(_asked(request.query).wish)


def decide(request: Request) -> DecideLogin:
    asked = _asked(request.query)
    try:
        form = dict(parse_qsl(request.body.decode(), max_num_fields=FIELDS_MAX))
    except ValueError as error:
        raise BadRequest("This form was not sent by the page; open the link again.") from error
    match form.get("decision"):
        case "allow":
            return DecideLogin(asked.wish, True, form.get("credential", "").strip())
        case "deny":
            return DecideLogin(asked.wish, False)
        case _:
            raise BadRequest("Choose Allow or Deny.")


def exchange(request: Request) -> ExchangeLogin:
    body = structs.decode(request.body, Exchange)
    return ExchangeLogin(body.code, body.code_verifier)


def refresh(request: Request) -> RenewLogin:
    return RenewLogin(structs.decode(request.body, Refresh).refresh_token)


def _asked(query: Mapping[str, str]) -> _Asked:
    """Raises BadRequest with a sentence for the person who opened the link."""
    port = query.get("callback_port", "")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and PORT_MIN <= int(port) <= PORT_MAX):
        raise _unfit(f"callback_port must be a number from {PORT_MIN} to {PORT_MAX}")
    state = query.get("state", "")
    if _STATE.fullmatch(state) is None:
        raise _unfit(f"state must have 1 to {STATE_CHARS_MAX} printable characters")
    if query.get("code_challenge_method") != "S256":
        raise _unfit("code_challenge_method must be S256")
    challenge = query.get("code_challenge", "")
    if _CHALLENGE.fullmatch(challenge) is None:
        raise _unfit("code_challenge must be a SHA-256 hash in base64url")
    names = tuple(dict.fromkeys(name.strip() for name in query.get("scopes", "").split(",") if name.strip()))
    if len(names) > SCOPES_MAX:
        raise _unfit(f"scopes names more than {SCOPES_MAX}")
    known = [_SCOPES[name] for name in names or (_DEFAULT,) if name in _SCOPES]
    if not known:
        raise _unfit(f"scopes names nothing that this server knows; known are {', '.join(_SCOPES)}")
    scopes = tuple(dict.fromkeys(scope for _, ours in known for scope in ours))
    wish = LoginWish(challenge, _device(query.get("device_name", "")), scopes)
    return _Asked(int(port), state, wish, tuple(words for words, _ in known))


def _device(text: str) -> str:
    """A name to show: anybody may have written it."""
    shown = "".join(char if char.isprintable() else " " for char in text[: 4 * DEVICE_CHARS_MAX])
    name = " ".join(shown.split())
    return (name if len(name) <= DEVICE_CHARS_MAX else name[: DEVICE_CHARS_MAX - 1] + "…") or "an unnamed program"


def _unfit(fault: str) -> BadRequest:
    return BadRequest(f"This login link cannot be used: {fault}. Start the login again from your program.")


# -- answers ---------------------------------------------------------------------------------------------------------


def reviewed(wish: LoginWish, request: Request) -> Reply:
    return _page(_form(_asked(request.query)))


def decided(login: LoginDecided, request: Request) -> Reply:
    """To the program, which waits on this machine and nowhere else."""
    asked = _asked(request.query)
    fields = {"state": asked.state}
    if login.code:
        fields |= {
            "code": login.code,
            "endpoint": request.origin,
            "instanceEndpoint": request.origin,
            "tenant": login.project,
            "email": login.name,
            "device": asked.wish.device,
        }
    else:
        fields["error"] = "access_denied"
    where = f"http://127.0.0.1:{asked.port}/callback?{urlencode(fields)}"
    return Reply(302, media_type="", headers=(("location", where), _POLICY))


def exchanged(login: LoginIssued, request: Request) -> Reply:
    return success(_login(login, api_endpoint=request.origin))


def refreshed(login: LoginIssued, request: Request) -> Reply:
    return success(_login(login))


def _login(login: LoginIssued, *, api_endpoint: str | UnsetType = UNSET) -> Login:
    return Login(
        token=login.text,
        tenant=login.project,
        email=login.name,
        expires_at=rfc3339_s(login.expires_at),
        refresh_token=login.renewal,
        refresh_expires_at=rfc3339_s(login.renewal_expires_at),
        api_endpoint=api_endpoint,
    )


def as_page(reply: Reply, error: DragomanError, request: Request | None) -> Reply:
    """A refusal for a person: the same status and headers, as a page that says why, with the form if it may help."""
    if request is None or request.path not in PAGES:
        return reply
    fault = f'<p class="fault">{escape(error.detail)}</p>'
    try:
        form = _form(_asked(request.query))
    except BadRequest:
        form = "<h1>Log in</h1>"
    page = _page(fault + form)
    return Reply(reply.status, page.body, page.media_type, (*reply.headers, *page.headers))


def _form(asked: _Asked) -> str:
    told = "".join(f"<li>{escape(words)}" for words in asked.told)
    return (
        f"<h1>Let <q>{escape(asked.wish.device)}</q> log in?</h1>"
        f"<p>A program on this machine that calls itself so (port {asked.port}) asks to"
        f"<ul>{told}</ul>"
        f"<p>If it shows a code, it must be this one: <code>{_verification(asked.wish.challenge)}</code>"
        "<p>Did you not start a login yourself just now? Then deny it."
        '<form method="post"><p><label>Your credential<input name="credential" type="password" autocomplete="off"'
        " required autofocus></label>"
        "<p>The program does not see it. It gets one of its own, for an hour at a time, that may do what is listed"
        " above as far as yours may, and that ends with yours."
        '<p><button name="decision" value="allow">Allow</button>'
        '<button name="decision" value="deny" formnovalidate>Deny</button></form>'
    )


def _page(content: str) -> Reply:
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Log in</title><style>{_STYLE}</style>'
    return Reply(200, (head + content).encode(), f"{PAGE}; charset=utf-8", (_POLICY,))


def _verification(challenge: str) -> str:
    """What programs show for comparison: the first four bytes of the challenge."""
    digits = urlsafe_b64decode(challenge + "=")[:4].hex()
    return f"{digits[:4]}-{digits[4:]}"


# -- routes ----------------------------------------------------------------------------------------------------------


def routes() -> tuple[Route[Any], ...]:
    """All are open: who asks is what they find out."""
    pages = tuple(
        route
        for path in PAGES
        for route in (
            Route(
                "GET",
                path,
                review,
                answer=reviewed,
                open=True,
                summary="A page that asks whether to let a tool in",
                gives_media_type=PAGE,
                asks=parameters.LOGIN,
            ),
            Route(
                "POST",
                path,
                decide,
                answer=decided,
                open=True,
                summary="What the person chose on that page; back to the program",
                gives_media_type=PAGE,
                status=302,
                asks=parameters.LOGIN,
            ),
        )
    )
    return (
        *pages,
        Route(
            "POST",
            EXCHANGE,
            exchange,
            answer=exchanged,
            open=True,
            summary="A login's code for a credential and what renews it",
            takes=Exchange,
            gives=Success[Login],
        ),
        Route(
            "POST",
            REFRESH,
            refresh,
            answer=refreshed,
            open=True,
            summary="Renew a login; the old refresh token is void then",
            takes=Refresh,
            gives=Success[Login],
        ),
    )
