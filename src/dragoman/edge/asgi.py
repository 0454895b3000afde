"""The ASGI application: mounts dialects, carries a request through the door to the desk, and maps errors once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import quote

from starlette.types import Receive, Scope, Send

from dragoman.core.errors import (
    Conflict,
    DragomanError,
    NotAllowed,
    NotAuthenticated,
    StillRunning,
    Unavailable,
    WrongMethod,
)
from dragoman.core.names import Clock, Principal
from dragoman.edge.answering import Answering
from dragoman.edge.authenticate import Door, Limits, Ticket
from dragoman.edge.cors import OPEN_TO_ALL, Cors, options, preflight
from dragoman.edge.desk import Desk
from dragoman.edge.exchange import Exchange, query_of
from dragoman.edge.front import Front
from dragoman.edge.limits import CallerGone, read_body, refuse_large
from dragoman.edge.metrics import Metrics
from dragoman.edge.routes import Mounted, RouteTable
from dragoman.edge.watching import Watch
from dragoman.runtime.fuses import blow
from dragoman.wire.dialect import Dialect, Reply, Request, Route

logger = logging.getLogger("dragoman.edge")

STOPPING = "The server is stopping; try again in a moment."
STOPPING_RETRY_S = 5.0

PATH_CHARS = "/:@!$&'()*+,;="
"""What stands for itself in a path besides letters, digits and `-._~` (RFC 3986, 3.3). Anything else, above all a line
end, is percent-encoded again before a path that was asked for goes into a header."""

OPEN_METHODS = ("GET", "HEAD")

DIRECT = Front()

OpenEndpoint = Callable[[Scope], Awaitable[Reply]]
"""An endpoint of the house itself that answers without a principal: /health and its like."""


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
        watch: Watch,
        limits: Limits,
        metrics: Metrics,
        clock: Clock,
        entropy: Callable[[], str],
        front: Front = DIRECT,
        cors_origins: Sequence[str] = (),
    ) -> None:
        self._routes = RouteTable((*dialects, house))
        self._house = house
        self._open = open_endpoints
        self._answering = Answering(desk, door, watch, readers_per_conversation=limits.readers_per_conversation)
        self._door = door
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._entropy = entropy
        self._front = front
        self._cors = Cors(cors_origins)
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # Nothing here speaks WebSocket. Our own server never says it was asked to; another may.
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
            return
        base, path = self._front.split(scope["path"])
        exchange = Exchange(scope, self._entropy(), base=base, path=path)
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

    async def _serve(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._open.get(exchange.path)
        if endpoint is not None:
            if exchange.method not in OPEN_METHODS:
                raise WrongMethod("Method Not Allowed", allowed=OPEN_METHODS)
            await exchange.reply(await endpoint(scope), send)
            return
        try:
            moved = self._find(exchange, scope)
        except WrongMethod as error:
            if exchange.method != "OPTIONS":
                raise
            allowed = options(exchange.dialect)
            if allowed is None and exchange.cors:
                allowed = preflight(exchange.headers, error.allowed)
            if allowed is None:
                raise
            await exchange.reply(allowed, send)
            return
        if moved:
            query = scope["query_string"].decode("latin-1")
            where = quote(exchange.base + moved, safe=PATH_CHARS) + (f"?{query}" if query else "")
            await exchange.reply(Reply(307, media_type="", headers=(("location", where),)), send)
            return
        mounted = exchange.mounted
        if mounted is None:
            raise RuntimeError("a route that was found has a mount")
        request, principal = await self._admit(exchange, mounted, scope, receive)
        await self._answering.answer(exchange, mounted.route, request, principal, receive, send)

    def _find(self, exchange: Exchange, scope: Scope) -> str:
        """Set the exchange's route; the path to redirect to instead, if it has a trailing slash too many."""
        try:
            exchange.mounted, params = self._routes.find(exchange.method, exchange.path)
        except DragomanError:
            exchange.dialect = self._routes.owner(exchange.path)
            exchange.cors = self._cors.headers(exchange.dialect, exchange.headers)
            if moved := self._routes.redirect(exchange.method, exchange.path):
                return moved
            raise
        exchange.dialect = exchange.mounted.dialect
        exchange.cors = self._cors.headers(exchange.dialect, exchange.headers)
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
            self._front.origin(scope, exchange.headers, exchange.base),
        )
        return ""

    async def _admit(
        self, exchange: Exchange, mounted: Mounted, scope: Scope, receive: Receive
    ) -> tuple[Request, Principal | None]:
        """Everything that can refuse a request before it is understood, in order; then its body."""
        route, headers, passed = mounted.route, exchange.headers, exchange.passed
        bytes_max = self._limits.body_bytes_max
        refuse_large(headers, bytes_max=bytes_max)
        if self.draining:
            raise Unavailable(STOPPING, retry_after_s=STOPPING_RETRY_S)
        client = scope.get("client")
        self._door.admit_address(client[0] if client else "", headers, passed, counted=route.counted)
        known = exchange.request
        if known is None:
            raise RuntimeError("a route that was found has a request")
        principal = None
        if not route.open:
            limited = mounted.dialect.project if mounted.dialect.limits_first else None
            named = limited(known) if limited is not None else ""
            ticket = _ticket(route, known, scope)
            if ticket is not None:
                exchange.cors = OPEN_TO_ALL
            try:
                principal = await self._door.admit_principal(mounted.dialect, route, headers, passed, ticket)
            except (NotAuthenticated, NotAllowed):
                self._door.admit_project(named, passed)
                if route.precheck is not None:
                    route.precheck(await self._read(exchange, known, scope, receive))
                raise
            self._door.admit_project(named, passed, principal)
            blow("auth.done")
        request = await self._read(exchange, known, scope, receive)
        return request, principal

    async def _read(self, exchange: Exchange, known: Request, scope: Scope, receive: Receive) -> Request:
        """The request with its body and query. Raises TooLarge."""
        body = await read_body(receive, bytes_max=self._limits.body_bytes_max)
        blow("http.after_body")
        exchange.request = Request(
            known.method,
            known.path,
            known.params,
            query_of(scope),
            exchange.headers,
            body,
            known.id,
            known.nonce,
            known.at,
            known.origin,
        )
        return exchange.request

    async def _refuse(self, exchange: Exchange, error: DragomanError, send: Send) -> None:
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
        await exchange.reply(reply, send)


def _ticket(route: Route[Any], request: Request, scope: Scope) -> Ticket | None:
    """The stream ticket that came with the request, if its route takes one."""
    text = query_of(scope).get(route.ticket, "") if route.ticket else ""
    return Ticket(text, request.params[route.ticket_for]) if text else None
