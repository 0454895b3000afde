"""Who drives which run: leases, and taking runs over. On connections of their own, beside the writers' lanes.

What is written here is not pushed to readers but told to them, since it may overtake what a lane has just committed to
the same tape. The lanes find out when they write to it next.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dragoman.core.names import RunId, Tape
from dragoman.runtime.fuses import blow
from dragoman.runtime.ports import Claim
from dragoman.stores.postgres import tapes
from dragoman.stores.postgres.books import Books
from dragoman.stores.postgres.connection import Connection, Pool, in_transaction
from dragoman.stores.postgres.queries import QUERIES
from dragoman.stores.postgres.writer import Shared


class Claims:
    def __init__(self, shared: Shared, pool: Pool) -> None:
        self._shared = shared
        self._pool = pool

    async def renew(self, claims: Sequence[Claim]) -> frozenset[RunId]:
        """The runs of claims that are not good any more."""
        if not claims:
            return frozenset()
        shared, runs, epochs = self._shared, [claim.run for claim in claims], [claim.epoch for claim in claims]
        rows = await self._pool.do(
            lambda connection: connection.fetch(QUERIES["renew"], shared.now_us, shared.lease_us, runs, epochs)
        )
        good = {(row[0], row[1]) for row in rows}
        return frozenset(claim.run for claim in claims if (claim.run, claim.epoch) not in good)

    async def release(self, claims: Sequence[Claim]) -> None:
        if not claims:
            return
        runs, epochs = [claim.run for claim in claims], [claim.epoch for claim in claims]
        await self._pool.do(lambda connection: connection.execute(QUERIES["release"], runs, epochs))
        self._shared.wakeups.ring()

    async def asked(self, claims: Sequence[Claim]) -> Mapping[RunId, int]:
        if not claims:
            return {}
        runs, seqs = [claim.run for claim in claims], [claim.seq for claim in claims]
        rows = await self._pool.do(lambda connection: connection.fetch(QUERIES["asked"], runs, seqs))
        return {RunId(row[0]): row[1] for row in rows}

    async def take_lost(self, *, limit: int) -> Sequence[Claim]:
        now_us = self._shared.now_us
        if not await self._pool.do(lambda connection: connection.fetchval(QUERIES["lost"], now_us)):
            return ()
        return await self._take("lock_lost", max(limit, 0))

    async def reclaim(self, run: RunId) -> Claim | None:
        claims = await self._take("lock_run", run, self._shared.owner)
        return claims[0] if claims else None

    async def _take(self, name: str, *args: Any) -> list[Claim]:
        """Take over the live runs of the tapes that this query locks."""
        shared, books = self._shared, Books()

        async def work(connection: Connection) -> tuple[list[Claim], frozenset[Tape]]:
            locked = await connection.fetch(QUERIES[name], shared.now_us, *args)
            if not locked:
                return [], frozenset()
            numbers = [Tape(row[0]) for row in locked]
            books.learn(await connection.fetch(QUERIES["tapes"], shared.now_us, shared.owner, numbers, (), ()))
            claims = [claim for number in numbers if (claim := tapes.take(books, number)) is not None]
            blow("claim.before_commit")
            written, _ = await shared.write(connection, books)
            return claims, written

        claims, written = await self._pool.do(lambda connection: in_transaction(connection, work), again=False)
        kept = [claim for claim in claims if claim.tape in written]
        for claim in kept:
            shared.tails.heard(claim.tape, claim.seq)
            shared.wakeups.wrote(claim.tape, claim.seq)
        if kept:
            blow("claim.after_commit")
        return kept
