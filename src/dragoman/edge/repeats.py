"""What is answered to a request that begins a turn, the first time and when it is repeated under a key (promise G2)."""

import logging

import msgspec

from dragoman.core.errors import DragomanError, StillRunning
from dragoman.core.names import Principal
from dragoman.core.operations import Mark, Started
from dragoman.edge.desk import Desk
from dragoman.wire.dialect import Reply, Request, Route

logger = logging.getLogger("dragoman.edge")

STILL_RUNNING_S = 1.0
"""What the caller of a repeat is advised to wait before it asks again."""

_decoder = msgspec.msgpack.Decoder(Reply)


class Repeats:
    """Gives out what was kept, and keeps what is given out: of one key every caller gets the same bytes."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def reply(
        self, route: Route[Started], request: Request, principal: Principal, started: Started, mark: Mark
    ) -> Reply:
        """The reply of an `accept` or `collect` route. Raises StillRunning for a repeat under a key whose run goes on.

        A client library's retry without a key waits with the first request: it tries a few times only, and gives up.
        """
        again = started.replayed and mark.key != ""
        if again and (kept := await self._kept(principal, started, mark)) is not None:
            return kept
        if route.accept is not None:
            reply = route.accept(started, request)
        elif route.collect is not None:
            if again and not await self._desk.ended(principal, started):
                raise StillRunning(
                    "The first request with this key is still being answered; ask again in a moment.",
                    retry_after_s=STILL_RUNNING_S,
                )
            reply = route.collect(await self._desk.outcome(started), request)
        else:
            raise RuntimeError(f"{route.method} {route.path} has no way to answer")
        if not mark.key:
            return reply
        return await self._keep(principal, started, mark, reply)

    async def _kept(self, principal: Principal, started: Started, mark: Mark) -> Reply | None:
        packed = await self._desk.answer_kept(principal, started, mark.key)
        if packed is None:
            return None
        try:
            return _decoder.decode(packed)
        except msgspec.DecodeError:  # another version of this program may have packed it; the tape says the same
            logger.warning("run %s: the answer kept for its repeats cannot be read", started.run)
            return None

    async def _keep(self, principal: Principal, started: Started, mark: Mark, reply: Reply) -> Reply:
        """The reply that repeats will get: this one, unless another request of the same key was quicker."""
        try:
            await self._desk.keep_answer(principal, started, mark.key, msgspec.msgpack.encode(reply))
            return await self._kept(principal, started, mark) or reply
        except DragomanError as error:
            logger.warning("run %s: its answer could not be kept for repeats: %s", started.run, error)
            return reply
