"""Answering a request that was let in: what it asks, the desk's result, and the one way in which its route answers."""

from typing import Any

from msgspec import Struct
from starlette.types import Receive, Send

from dragoman.access.credentials import Standing
from dragoman.core.errors import NotAuthenticated, NotFound
from dragoman.core.names import ConversationId, Principal, RunId, Scope
from dragoman.core.operations import (
    FollowConversation,
    Following,
    FollowRun,
    Listening,
    Mark,
    Operation,
    Started,
    StartTurn,
)
from dragoman.edge.authenticate import Door
from dragoman.edge.desk import Desk
from dragoman.edge.exchange import Exchange
from dragoman.edge.idempotency import mark_of
from dragoman.edge.readers import Readers
from dragoman.edge.repeats import Repeats
from dragoman.edge.silence import Wheel
from dragoman.edge.streaming import FrameStream, Source
from dragoman.edge.watching import Reading, Watch
from dragoman.runtime.fuses import blow
from dragoman.wire.dialect import Reply, Request, Route, Streamed


class _Right(Struct, frozen=True):
    """By what a request was let in."""

    principal: Principal
    scopes: tuple[Scope, ...]
    standing: Standing


class Answering:
    def __init__(self, desk: Desk, door: Door, watch: Watch, *, readers_per_conversation: int) -> None:
        self._desk = desk
        self._door = door
        self._repeats = Repeats(desk)
        self._readers = Readers(per_conversation=readers_per_conversation)
        self._wheel = Wheel()
        self._watch = watch

    async def answer(
        self,
        exchange: Exchange,
        route: Route[Any],
        request: Request,
        principal: Principal | None,
        receive: Receive,
        send: Send,
    ) -> None:
        """Raises errors of the tree, as long as the answer has not begun."""
        if principal is not None:
            _check_project(exchange, route, request, principal)
        branch = self._branch(route, request, principal)
        operation = branch.decode(request)
        if principal is None:
            await exchange.reply(await self._open(branch, request, operation), send)
            return
        mark = mark_of(request, principal, operation)
        self._door.count_principal(principal, exchange.passed, counted=route.counted)
        blow("ratelimit.done")
        if branch.stream is not None:
            right = self._right(exchange, route, branch, request, principal)
            await self._stream(exchange, branch.stream, request, right, operation, mark, receive, send)
            return
        result = await self._desk.answer(principal, operation, mark)
        if branch.answer is not None:
            reply = branch.answer(result, request)
        else:
            reply = await self._began(exchange, branch, request, principal, result, mark)
        await exchange.reply(reply, send)

    def _branch(self, route: Route[Any], request: Request, principal: Principal | None) -> Route[Any]:
        """The route itself, or that one of its forks which the request means. Raises NotAllowed."""
        if route.choose is None:
            return route
        branch = route.forks[route.choose(request)]
        if principal is not None:
            self._door.check_scopes(branch, principal)
        elif not branch.open:
            raise NotAuthenticated("Authentication required")
        return branch

    async def _open(self, route: Route[Any], request: Request, operation: Operation[Any]) -> Reply:
        if route.answer is None:
            raise RuntimeError(f"{route.method} {route.path} is open, and no reply of one piece")
        return route.answer(await self._desk.answer_anybody(operation), request)

    async def _began(
        self,
        exchange: Exchange,
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
        exchange: Exchange,
        streamed: Streamed,
        request: Request,
        right: _Right,
        operation: Operation[Any],
        mark: Mark,
        receive: Receive,
        send: Send,
    ) -> None:
        principal = right.principal
        # Before the turn is begun: who finds no place has begun none. A repeat may be of a turn elsewhere.
        asked = operation.conversation if isinstance(operation, StartTurn | FollowConversation) else None
        with self._readers.place(principal.project, asked):
            result: Started | Following | Listening = await self._desk.answer(principal, operation, mark)
            with self._readers.place(principal.project, _elsewhere(result, asked)):
                if isinstance(result, Following) and await self._desk.read_out(principal, result):
                    # "No Content" is how a reader that would always connect again is told that it has read all.
                    await exchange.reply(Reply(204, media_type=""), send)
                    return
                started, reader = self._reader(exchange, principal, operation, result)
                encoder = streamed.encoder(request)
                named = streamed.named(started) if streamed.named is not None else ()
                exchange.status = 200
                # Not by way of a name, which would hold them as long as the reader stays.
                await send(
                    {
                        "type": "http.response.start",
                        "status": 200,
                        "headers": exchange.response_headers(streamed.media_type, (*streamed.headers, *named)),
                    }
                )
                if exchange.run:
                    blow("accept.after_2xx")
                stream = FrameStream(encoder, reader, self._wheel, send)
                with self._watch.over(stream, right.standing, _reading(right, operation, result)):
                    await stream.run(encoder.opened(started), receive)

    def _right(
        self, exchange: Exchange, route: Route[Any], branch: Route[Any], request: Request, principal: Principal
    ) -> _Right:
        if exchange.dialect is None:
            raise RuntimeError("a request that was admitted has a dialect")
        standing = self._door.standing(exchange.dialect, exchange.headers, request.query.get(route.ticket, ""))
        scopes = route.scopes if branch is route else (*route.scopes, *branch.scopes)
        return _Right(principal, scopes, standing)

    def _reader(
        self,
        exchange: Exchange,
        principal: Principal,
        operation: Operation[Any],
        result: Started | Following | Listening,
    ) -> tuple[Started, Source]:
        """What the stream reads, and what its encoder is told that it reads."""
        match result:
            case Started():
                exchange.run, exchange.replayed = result.run, result.replayed
                return result, self._desk.reader(result)
            case Following(started=started, after=after):
                private = isinstance(operation, FollowRun) and operation.private
                return started, self._desk.reader(started, after=after, reader=principal if private else None)
            case Listening():
                of_no_run = Started(
                    result.conversation, result.tape, RunId(""), result.after, created=False, head=result.head
                )
                private = isinstance(operation, FollowConversation) and operation.private
                return of_no_run, self._desk.tape_reader(principal, result, private=private)


def _check_project(exchange: Exchange, route: Route[Any], request: Request, principal: Principal) -> None:
    """Raises NotFound if the request names another project than its credential's: who asks need not know of it."""
    project = exchange.dialect.project if exchange.dialect is not None else None
    named = project(request) if project is not None else ""
    if named and named != principal.project:
        if route.precheck is not None:
            route.precheck(request)
        raise NotFound(f"There is no project {named} for this credential.", what="project")


def _reading(right: _Right, operation: Operation[Any], result: Started | Following | Listening) -> Reading:
    """By what right the stream is read. Who began a turn owns it, and may read its answer to the end."""
    private = isinstance(operation, FollowRun | FollowConversation) and operation.private
    conversation = result.started.conversation if isinstance(result, Following) else result.conversation
    return Reading(
        right.principal,
        right.scopes,
        conversation if private else None,
        until_end=isinstance(operation, StartTurn),
    )


def _elsewhere(result: Started | Following | Listening, asked: ConversationId | None) -> ConversationId | None:
    """The conversation that is read, if it is another one than was asked for."""
    conversation = result.started.conversation if isinstance(result, Following) else result.conversation
    return None if conversation == asked else conversation
