"""Readers of runs and of tapes: where they begin, a cursor, and an end. One source, and never a queue of their own."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, get_args

from dragoman.core import events as ev
from dragoman.core.errors import BadRequest, Conflict, Expired, Unavailable
from dragoman.core.events import Entry
from dragoman.core.messages import Message, ToolCall, ToolResult, Usage
from dragoman.core.names import Principal, ProjectId, RunId, Tape
from dragoman.core.operations import ConversationInfo, Following, Listening, Outcome, RunView, Started
from dragoman.core.transcript import reply_message
from dragoman.runtime.ports import Store
from dragoman.runtime.visibility import no_run, readable

STOPPING = "The server is stopping; the answer is finished after its next start."
STOPPING_FOR_GOOD = "The server is stopping, and this answer ends with it. Ask again."
"""To readers of runs that leave nothing behind."""
READ_FIRST, READ_MAX = 32, 200
"""Entries a reader takes at once: to begin with, and when it has seen that they are small."""
BATCH_CHARS = 32 * 1024
"""Text a reader takes at once, one entry at least: what a slow one keeps in memory."""
ENTRY_CHARS = 200
"""What an entry counts for besides its text."""
TURN_ENDS = (*get_args(ev.RunEnd), ev.MessagesImported)
"""With these a turn has ended: `TurnView.end`."""
OPEN = ("queued", "running")
"""`RunView.status` of runs that have not ended."""


class Line:
    """What readers wait on, so that all can be sent away at once."""

    def __init__(self, sent_away: str = STOPPING) -> None:
        self._sent_away = sent_away
        self._is_cut = False
        self._cut_off: set[Tape] = set()
        self._waiting: dict[asyncio.Task[Any], Tape] = {}

    def cut(self) -> None:
        if self._is_cut:
            return
        self._is_cut = True
        for task, tape in self._waiting.items():
            if tape not in self._cut_off:
                task.cancel()

    def cut_off(self, tape: Tape) -> None:
        """Send the readers of one tape away, sooner than the others."""
        if self._is_cut or tape in self._cut_off:
            return
        self._cut_off.add(tape)
        for task, read in self._waiting.items():
            if read == tape:
                task.cancel()

    async def wait(self, tape: Tape, grown: Callable[[], Awaitable[None]]) -> None:
        """Raises Unavailable once the line is cut."""
        if self._is_cut or tape in self._cut_off:
            raise Unavailable(self._sent_away)
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a reader waits in a task")
        cancelled_before = task.cancelling()
        self._waiting[task] = tape
        try:
            await grown()
        except asyncio.CancelledError:
            # As asyncio.timeout does it: ours is taken back, and if it was the only one, we speak for it.
            is_cut = self._is_cut or tape in self._cut_off
            if not is_cut or task.uncancel() > cancelled_before:
                raise
            raise Unavailable(self._sent_away) from None
        finally:
            del self._waiting[task]


class _Place:
    """Where a reader stands on a tape, and how much it takes at once. It forgets nothing when a wait is cancelled."""

    __slots__ = ("_limit", "_line", "_store", "cursor", "tape")

    def __init__(self, store: Store, line: Line, tape: Tape, cursor: int) -> None:
        self._store = store
        self._line = line
        self.tape = tape
        self.cursor = cursor
        self._limit = READ_FIRST
        """How many entries may be worth reading, by what fitted into the last batch."""

    async def next(self) -> Sequence[Entry]:
        """The entries at hand beyond the cursor, as many as make a batch; the cursor goes with them."""
        entries = self._fitting(await self._store.read(self.tape, after=self.cursor, limit=self._limit))
        if entries:
            self.cursor = entries[-1].seq
        return entries

    async def grown(self) -> None:
        """Return when there may be more, or the tape was deleted. Raises Unavailable once the line is cut."""
        await self._line.wait(self.tape, lambda: self._store.grown(self.tape, after=self.cursor))

    def _fitting(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """As many of the first as make a batch. What does not fit is read again."""
        if len(entries) < 2:
            return entries
        left = BATCH_CHARS
        for number, entry in enumerate(entries):
            left -= ENTRY_CHARS + _text_chars(entry.event)
            if left < 0 and number:
                self._limit = number
                return entries[:number]
        self._limit = min(self._limit + self._limit // 4 + 1, READ_MAX)
        return entries


class Reader:
    """A cursor over one run's entries. It has one source, the tape."""

    __slots__ = ("_conversation", "_done", "_place", "_reader", "_resumed", "_run", "_store")

    def __init__(
        self, store: Store, line: Line, started: Started, after: int | None, *, reader: Principal | None = None
    ) -> None:
        """`reader`: who reads, if the run may be there for it only while its conversation is shared."""
        self._store = store
        self._run = started.run
        self._conversation = started.conversation
        self._reader = reader
        self._place = _Place(store, line, started.tape, started.seq if after is None else after)
        self._resumed = after is not None
        """The run may have ended before the cursor, so that no further entry will say so."""
        self._done = False

    @property
    def cursor(self) -> int:
        return self._place.cursor

    async def batch(self) -> Sequence[Entry]:
        """The run's next entries, as soon as there are any; empty if its end was given or stands before the cursor.

        May be cancelled and called again. Raises Conflict if the conversation is deleted meanwhile; NotFound if it is
        no longer there for this reader; Unavailable.
        """
        place, run = self._place, self._run
        ended = woken = False
        while not self._done:
            entries = await place.next()
            if entries:
                woken = False
                if self._reader is not None and any(isinstance(each.event, ev.SharingChanged) for each in entries):
                    place.cursor = entries[0].seq - 1  # they count as given only once it is known that they may be
                    info = await self._store.get(self._reader.project, self._conversation)
                    readable(info, self._conversation, self._reader, private=True)
                    place.cursor = entries[-1].seq
                ours = [entry for entry in entries if entry.run == run]
                if ours:
                    self._done = isinstance(ours[-1].event, ev.RunEnd)
                    return ours
            elif ended:
                self._done = True
            elif woken or self._resumed:
                ended = await self._has_ended()  # if so, its end was committed by now: read once more
                woken = self._resumed = False
            else:
                await place.grown()
                woken = True
        return ()

    async def _has_ended(self) -> bool:
        view = await self._store.run(None, self._run)
        if view is None:
            raise Conflict("The conversation was deleted while the answer was being written.")
        return view.status not in OPEN


class TapeReader:
    """A cursor over a whole tape, whatever run its entries belong to.

    It is done when it has given the end of a turn and no other is at work or waits. If it began behind the last end,
    because its reader had that already, it waits for the next turn.
    """

    __slots__ = ("_conversation", "_place", "_project", "_quiet", "_reader", "_store")

    def __init__(
        self, store: Store, line: Line, project: ProjectId, listening: Listening, *, reader: Principal | None = None
    ) -> None:
        """`reader`: who reads, if the conversation may be there for it only while it is shared."""
        self._store = store
        self._project = project
        self._conversation = listening.conversation
        self._place = _Place(store, line, listening.tape, listening.after)
        self._reader = reader
        self._quiet = False
        """The last entry of a turn that was given is an end."""

    @property
    def cursor(self) -> int:
        return self._place.cursor

    async def batch(self) -> Sequence[Entry]:
        """The next entries, as soon as there are any; empty if all was said.

        May be cancelled and called again. Raises Conflict if the conversation is deleted meanwhile; NotFound if it is
        no longer there for this reader; Unavailable.
        """
        place = self._place
        woken = False
        while not (entries := await place.next()):
            if self._quiet or woken:
                info = await self._info()
                if info.head > place.cursor:
                    continue
                if self._quiet and info.live_run is None:
                    return ()
            await place.grown()
            woken = True
        if self._reader is not None and any(isinstance(entry.event, ev.SharingChanged) for entry in entries):
            place.cursor = entries[0].seq - 1  # they count as given only once it is known that they may be
            readable(await self._info(), self._conversation, self._reader, private=True)
            place.cursor = entries[-1].seq
        for entry in entries:
            if entry.run:
                self._quiet = isinstance(entry.event, TURN_ENDS)
        return entries

    async def _info(self) -> ConversationInfo:
        info = await self._store.get(self._project, self._conversation)
        if info is None or info.tape != self._place.tape:
            raise Conflict("The conversation was deleted while it was being read.")
        return info


async def resume_run(store: Store, project: ProjectId, view: RunView, *, after: int) -> Following:
    """Where a reader of the run begins that has all up to `after`. Raises NotFound; BadRequest if that is beyond the
    tape; Expired if what follows it is kept no longer."""
    info = await store.get(project, view.conversation)
    if info is None:
        raise no_run(view.id)
    check_cursor(after, info)
    first = view.first_seq - 1
    if view.pruned:
        entries = await store.read_run(view)
        if after < entries[-1].seq:
            raise Expired(
                f"The run {view.id} has ended ({view.status}), and its text as it grew is no longer kept;"
                f" read the run or its conversation {view.conversation}."
            )
    started = Started(view.conversation, view.tape, view.id, view.first_seq, created=first <= 1)
    return Following(started, max(after, first))


async def resume_tape(store: Store, project: ProjectId, info: ConversationInfo, *, after: int) -> Listening:
    """Where a reader of the whole tape begins that has all up to `after`: before the turn that was at work there, if
    one was, for what it was saying can only be told from its beginning. Raises BadRequest if that is beyond the tape.
    """
    check_cursor(after, info)
    begin = after
    for run in await _at_work(store, info, after=after) if after else ():
        view = await store.run(project, run)
        if view is not None:
            begin = min(begin, view.first_seq - 1)
    return Listening(info.id, info.tape, begin, info.head)


async def _at_work(store: Store, info: ConversationInfo, *, after: int) -> set[RunId]:
    """Runs of which one was at work at that place, if any was; further ones had not begun by then, or waited and were
    told to stop: these began later.

    Turns that come in, and ends of those that wait, may stand between the entries of the one at work. But nothing else
    does, and it is not over before its own end: so it is among those with an entry beyond the place up to the first
    that only a run at work can have. Or it has none yet, and then it is the live one.
    """
    runs = {info.live_run} if info.live_run else set[RunId]()
    place = after
    while entries := await store.read(info.tape, after=place, limit=READ_FIRST):
        for entry in entries:
            if not entry.run or isinstance(entry.event, ev.TurnReceived):
                continue
            runs.add(entry.run)
            if not isinstance(entry.event, TURN_ENDS):
                return runs
        place = entries[-1].seq
    return runs


def check_cursor(after: int, info: ConversationInfo) -> None:
    if after > info.head:
        raise BadRequest(f"The cursor {after} lies beyond the last entry, {info.head}.")


def _text_chars(event: ev.Event) -> int:
    """Only of the kinds that have much of it."""
    if isinstance(event, ev.TextAdded | ev.ThinkingAdded | ev.ReplyFinished):
        return len(event.text)
    return len(event.content) if isinstance(event, ev.ToolReturned) else 0


class OutcomeFold:
    """A run's entries -> its Outcome. Of a reply that was reset nothing remains."""

    def __init__(self) -> None:
        self._text = ""
        self._replies = 0
        self._calls: list[ToolCall] = []
        self._agent, self._reply_at = "", 0.0
        self._answered: list[Message] = []
        self._said_at: list[float] = []
        self._end: ev.RunEnd | None = None

    def add(self, entry: Entry) -> None:
        event = entry.event
        if isinstance(event, ev.ReplyStarted):
            self._agent, self._reply_at = event.agent, entry.at
        elif isinstance(event, ev.ReplyFinished):
            self._text = event.text
            self._replies += 1
            self._calls.extend(event.calls)
            self._say(reply_message(event, self._agent), self._reply_at)
        elif isinstance(event, ev.CallAdded):
            self._say(Message("assistant", (event.call,), name=self._agent), entry.at)
        elif isinstance(event, ev.ToolReturned):
            result = ToolResult(event.call_id, event.content, event.is_error, event.shown)
            self._say(Message("tool", (result,)), entry.at)
        elif isinstance(event, ev.RunEnd):
            self._end = event

    def outcome(self, started: Started) -> Outcome:
        if self._end is None:
            raise RuntimeError(f"run {started.run} has no end yet")
        usage: Usage = self._end.usage
        return Outcome(
            started,
            self._end,
            self._text,
            self._replies,
            tuple(self._calls),
            usage,
            tuple(self._answered),
            tuple(self._said_at),
        )

    def _say(self, message: Message, at: float) -> None:
        self._answered.append(message)
        self._said_at.append(at)
