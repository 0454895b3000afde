"""The ASGI application: mounts dialects, carries a request through the door to the desk, and maps errors once."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote

from starlette.types import Receive, Scope, Send

from dragoman.core.errors import (
    BadRequest,
    Conflict,
    DragomanError,
    NotAuthenticated,
    StillRunning,
    Unavailable,
    WrongMethod,
)
from dragoman.core.names import Clock, Principal
from dragoman.core.operations import Following, Mark, Operation, Started, StartTurn
from dragoman.edge.authenticate import Door, Limits, Passed, RawHeaders
from dragoman.edge.desk import Desk
from dragoman.edge.idempotency import mark_of
from dragoman.edge.limits import CallerGone, read_body, refuse_large
from dragoman.edge.metrics import Metrics
from dragoman.edge.readers import Readers
from dragoman.edge.repeats import Repeats
from dragoman.edge.routes import Mounted, RouteTable
from dragoman.edge.silence import Wheel
from dragoman.edge.streaming import FrameStream
from dragoman.runtime.fuses import blow
from dragoman.wire.dialect import Dialect, Reply, Request, Route, Streamed

logger = logging.getLogger("dragoman.edge")

SECURITY_HEADERS: RawHeaders = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
"""On every answer, also the ones that refuse."""

QUERY_FIELDS_MAX = 100

STOPPING = "The server is stopping; try again in a moment."
STOPPING_RETRY_S = 5.0

PATH_CHARS = "/:@!$&'()*+,;="
"""What stands for itself in a path besides letters, digits and `-._~` (RFC 3986, 3.3). Anything else, above all a line
end, is percent-encoded again before a path that was asked for goes into a header."""

OPEN_METHODS = ("GET", "HEAD")

SINGLE_HEADERS = frozenset(("authorization", "content-length", "content-type", "host", "x-request-id"))

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}\Z")

OpenEndpoint = Callable[[Scope], Awaitable[Reply]]
"""An endpoint of the house itself that answers without a principal: /health and its like."""


class _Exchange:
    """One request on its way: what is known of it so far, and whether its answer has begun."""

    __slots__ = (
        "dialect",
        "entropy",
        "headers",
        "method",
        "mounted",
        "passed",
        "path",
        "replayed",
        "request",
        "request_id",
        "run",
        "should_retry",
        "status",
    )

    def __init__(self, scope: Scope, entropy: str) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.entropy = entropy
        self.headers = headers_of(scope)
        given = self.headers.get("x-request-id", "").encode("latin-1")
        self.request_id = given if _REQUEST_ID.match(given) else entropy[32:44].encode()
        self.passed = Passed()
        self.dialect: Dialect | None = None
        self.mounted: Mounted | None = None
        self.request: Request | None = None
        self.status = 0
        self.run = ""
        """The run that this request began; its answer says so in `x-run-id`, whatever the wire."""
        self.replayed = False
        """It began nothing: it is a repeat of the request that began `run`."""
        self.should_retry: bool | None = None
        """Whether sending it again can help; None = the status says it well enough."""

    def response_headers(self, media_type: str, extra: Sequence[tuple[str, str]]) -> RawHeaders:
        own: RawHeaders = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in extra]
        said = {name for name, _ in own}
        return [
            *([(b"content-type", media_type.encode())] if media_type else []),
            (b"x-request-id", self.request_id),
            *([(b"x-run-id", self.run.encode())] if self.run else []),
            *([(b"idempotency-replayed", b"true")] if self.replayed else []),
            *(
                [(b"x-should-retry", b"true" if self.should_retry else b"false")]
                if self.should_retry is not None
                else []
            ),
            *(header for header in (*SECURITY_HEADERS, *self.passed.headers()) if header[0] not in said),
            *own,
        ]


class App:
    """`entropy` gives 44 random hex digits: 32 for ids in a wire's own shape, 12 for the request's id."""

    def __init__(
        self,
        *,
        dialects: Sequence[Dialect],
        house: Dialect,
        open_endpoints: dict[str, OpenEndpoint],
        desk: Desk,
        door: Door,
        limits: Limits,
        metrics: Metrics,
        clock: Clock,
        entropy: Callable[[], str],
    ) -> None:
        self._routes = RouteTable((*dialects, house))
        self._house = house
        self._open = open_endpoints
        self._desk = desk
        self._door = door
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._entropy = entropy
        self._repeats = Repeats(desk)
        self._readers = Readers(per_conversation=limits.readers_per_conversation)
        self._wheel = Wheel()
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # Nothing here speaks WebSocket. Our own server never says it was asked to; another may.
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
            return
        exchange = _Exchange(scope, self._entropy())
        began = self._clock.monotonic()
        try:
            blow("http.after_accept")
            await self._serve(exchange, scope, receive, send)
        except CallerGone:
            exchange.status = 499
        except asyncio.CancelledError:
            if exchange.status or not self.draining:
                raise
            await self._refuse(exchange, Unavailable(STOPPING, retry_after_s=STOPPING_RETRY_S), send)
        except DragomanError as error:
            await self._refuse(exchange, error, send)
        except Exception:
            logger.exception("request %s: %s %r", exchange.request_id.decode(), exchange.method, exchange.path)
            await self._refuse(exchange, DragomanError("Internal server error"), send)
        finally:
            self._metrics.answered(exchange.mounted, exchange.status, self._clock.monotonic() - began)

    async def _serve(self, exchange: _Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._open.get(exchange.path)
        if endpoint is not None:
            if exchange.method not in OPEN_METHODS:
                raise WrongMethod("Method Not Allowed", allowed=OPEN_METHODS)
            await self._reply(exchange, await endpoint(scope), send)
            return
        if moved := self._find(exchange):
            query = scope["query_string"].decode("latin-1")
            where = quote(moved, safe=PATH_CHARS) + (f"?{query}" if query else "")
            await self._reply(exchange, Reply(307, media_type="", headers=(("location", where),)), send)
            return
        mounted = exchange.mounted
        if mounted is None:
            raise RuntimeError("a route that was found has a mount")
        request, principal = await self._admit(exchange, mounted, scope, receive)
        await self._answer(exchange, mounted, request, principal, receive, send)

    def _find(self, exchange: _Exchange) -> str:
        """Set the exchange's route; the path to redirect to instead, if it has a trailing slash too many."""
        try:
            exchange.mounted, params = self._routes.find(exchange.method, exchange.path)
        except DragomanError:
            exchange.dialect = self._routes.owner(exchange.path)
            if moved := self._routes.redirect(exchange.method, exchange.path):
                return moved
            raise
        exchange.dialect = exchange.mounted.dialect
        exchange.request = Request(
            exchange.method,
            exchange.path,
            params,
            {},
            exchange.headers,
            b"",
            exchange.request_id.decode("latin-1"),
            exchange.entropy[:32],
            self._clock.now(),
        )
        return ""

    async def _admit(
        self, exchange: _Exchange, mounted: Mounted, scope: Scope, receive: Receive
    ) -> tuple[Request, Principal | None]:
        """Everything that can refuse a request before it is understood, in order; then its body."""
        route, headers, passed = mounted.route, exchange.headers, exchange.passed
        bytes_max = self._limits.body_bytes_max
        refuse_large(headers, bytes_max=bytes_max)
        if self.draining:
            raise Unavailable(STOPPING, retry_after_s=STOPPING_RETRY_S)
        if route.counted:
            client = scope.get("client")
            self._door.admit_address(client[0] if client else "", headers, passed)
        principal = None
        if not route.open:
            principal = await self._door.admit_principal(mounted.dialect, route, headers, passed)
            blow("auth.done")
        body = await read_body(receive, bytes_max=bytes_max)
        blow("http.after_body")
        known = exchange.request
        if known is None:
            raise RuntimeError("a route that was found has a request")
        request = Request(
            known.method, known.path, known.params, query_of(scope), headers, body, known.id, known.nonce, known.at
        )
        exchange.request = request
        return request, principal

    async def _answer(
        self,
        exchange: _Exchange,
        mounted: Mounted,
        request: Request,
        principal: Principal | None,
        receive: Receive,
        send: Send,
    ) -> None:
        route = mounted.route
        operation = route.decode(request)
        if principal is None:
            raise NotAuthenticated("Authentication required")
        mark = mark_of(request, principal, operation)
        if route.counted:
            self._door.count_principal(principal, exchange.passed)
            blow("ratelimit.done")
        if route.stream is not None:
            await self._stream(exchange, route.stream, request, principal, operation, mark, receive, send)
            return
        result = await self._desk.answer(principal, operation, mark)
        if route.answer is not None:
            reply = route.answer(result, request)
        else:
            reply = await self._began(exchange, route, request, principal, result, mark)
        await self._reply(exchange, reply, send)

    async def _began(
        self,
        exchange: _Exchange,
        route: Route[Any],
        request: Request,
        principal: Principal,
        started: Started,
        mark: Mark,
    ) -> Reply:
        """The reply to a request that began a turn, or repeats one that did."""
        exchange.run = started.run
        reply = await self._repeats.reply(route, request, principal, started, mark)
        exchange.replayed = started.replayed
        if mark.key and reply.status >= 500:
            exchange.should_retry = False  # under this key there is no other answer
        return reply

    async def _stream(
        self,
        exchange: _Exchange,
        streamed: Streamed,
        request: Request,
        principal: Principal,
        operation: Operation[Any],
        mark: Mark,
        receive: Receive,
        send: Send,
    ) -> None:
        # Before the turn is begun: who finds no place has begun none. A repeat may be of a turn elsewhere.
        asked = operation.conversation if isinstance(operation, StartTurn) else None
        with self._readers.place(principal.project, asked):
            result: Started | Following = await self._desk.answer(principal, operation, mark)
            started = result.started if isinstance(result, Following) else result
            with self._readers.place(
                principal.project, started.conversation if started.conversation != asked else None
            ):
                if isinstance(result, Following):
                    if await self._desk.read_out(principal, result):
                        # "No Content" is how a reader that would always connect again is told that it has read all.
                        await self._reply(exchange, Reply(204, media_type=""), send)
                        return
                    reader = self._desk.reader(started, after=result.after)
                else:
                    exchange.run, exchange.replayed = started.run, started.replayed
                    reader = self._desk.reader(started)
                encoder = streamed.encoder(request)
                exchange.status = 200
                # Not by way of a name, which would hold them as long as the reader stays.
                await send(
                    {
                        "type": "http.response.start",
                        "status": 200,
                        "headers": exchange.response_headers(streamed.media_type, streamed.headers),
                    }
                )
                if exchange.run:
                    blow("accept.after_2xx")
                await FrameStream(encoder, reader, self._wheel, send).run(encoder.opened(started), receive)

    # -- answers ---------------------------------------------------------------------------------------------------

    async def _refuse(self, exchange: _Exchange, error: DragomanError, send: Send) -> None:
        if exchange.status:
            # The answer has begun; its stream has said what it could. Nothing can be added to it.
            logger.error("request %s failed after its answer began: %s", exchange.request_id.decode(), error)
            return
        dialect = exchange.dialect or self._house
        reply = dialect.fail(error, exchange.request)
        if isinstance(error, Conflict):
            # Clients of the OpenAI family send every 409 again, unless they are told not to.
            exchange.should_retry = isinstance(error, StillRunning)
        if error.internal:
            logger.warning("request %s: %s", exchange.request_id.decode(), error)
        if reply.status == 413:
            # What is still being uploaded is not read; the connection cannot be used for another request.
            reply = Reply(reply.status, reply.body, reply.media_type, (*reply.headers, ("connection", "close")))
        await self._reply(exchange, reply, send)

    async def _reply(self, exchange: _Exchange, reply: Reply, send: Send) -> None:
        headers = exchange.response_headers(reply.media_type, reply.headers)
        if reply.status != 204:  # RFC 9110, 8.6
            headers.append((b"content-length", b"%d" % len(reply.body)))
        exchange.status = reply.status
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        if exchange.run and reply.status < 300:
            blow("accept.after_2xx")
        await send({"type": "http.response.body", "body": b"" if exchange.method == "HEAD" else reply.body})


def query_of(scope: Scope) -> dict[str, str]:
    """The query string's parameters, percent-decoded; of repeated ones the last."""
    raw: bytes = scope["query_string"]
    if not raw:
        return {}
    try:
        return dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX))
    except ValueError as error:
        raise BadRequest(f"The query string has more than {QUERY_FIELDS_MAX} fields.") from error


def headers_of(scope: Scope) -> dict[str, str]:
    """The request's headers by lower-case name, without the blanks around their values. Repeated ones are joined, as
    RFC 9110 (5.3) has it, but for those that mean one thing: of these the first counts, as for a proxy."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1").strip(" \t")
        if name not in headers:
            headers[name] = value
        elif name not in SINGLE_HEADERS:
            headers[name] += ", " + value
    return headers
