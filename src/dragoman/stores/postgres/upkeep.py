"""What is deleted: conversations that nobody wants any more, and what is kept for a while only."""

from collections.abc import Sequence

from dragoman.core.names import ConversationId, ProjectId, RunId, Tape
from dragoman.stores.postgres.books import microseconds
from dragoman.stores.postgres.connection import Connection, Pool, in_transaction
from dragoman.stores.postgres.lookups import KEY_KEPT_US
from dragoman.stores.postgres.queries import QUERIES
from dragoman.stores.postgres.writer import Shared

KEYS_FORGOTTEN_MAX = 10_000
"""Keys that one call of `prune` forgets."""
PRUNED_AT_ONCE = 20
"""Runs whose deltas are deleted in one transaction: each may have many thousands."""


async def delete(
    connection: Connection, shared: Shared, project: ProjectId, conversation: ConversationId
) -> Sequence[RunId] | None:
    """Delete a conversation with its tape; its runs that had not ended. None if absent."""

    async def work(connection: Connection) -> tuple[Tape, list[RunId]] | None:
        locked = await connection.fetch(QUERIES["lock_tapes"], (), (project,), (conversation,))
        if not locked:
            return None
        tape = Tape(locked[0][0])
        return tape, [RunId(row[0]) for row in await connection.fetch(QUERIES["delete_tape"], tape)]

    deleted = await in_transaction(connection, work)
    if deleted is None:
        return None
    tape, unfinished = deleted
    shared.tails.forget(tape)
    shared.wakeups.gone(tape)
    return unfinished


async def prune(pool: Pool, shared: Shared, *, ended_before: float, limit: int) -> int:
    """Delete the deltas of runs that ended before that time, and forget old keys; how many runs."""
    pruned = 0
    while pruned < limit:
        args = (microseconds(ended_before), min(PRUNED_AT_ONCE, limit - pruned))
        rows = await pool.do(lambda connection, args=args: connection.fetch(QUERIES["prune"], *args))
        for row in rows:
            shared.tails.forget(Tape(row[0]))
        pruned += len(rows)
        if len(rows) < args[1]:
            break
    args = (shared.now_us, KEY_KEPT_US, KEYS_FORGOTTEN_MAX)
    await pool.do(lambda connection: connection.execute(QUERIES["forget_keys"], *args))
    return pruned
