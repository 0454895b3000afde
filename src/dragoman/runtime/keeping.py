"""What every store does alike: which texts it keeps, how it refuses, which numbers of a list follow from which events.

Pure. Engines differ in where the bytes go, never in this.
"""

from collections.abc import Iterable, Sequence
from typing import get_args

from dragoman.core import events as ev
from dragoman.core.errors import BadRequest, Conflict, FieldFault, KeyReused, LimitReached, NotFound
from dragoman.core.events import ASKS, NOTES, Event, RunEnd, dump_event
from dragoman.core.names import ConversationId, ProjectId
from dragoman.core.operations import RunView
from dragoman.core.widget import OWNER
from dragoman.runtime.ports import Claim, NewTurn, StaleClaim
from dragoman.runtime.weights import weight_of

KINDS: dict[type[Event], str] = {kind: str(kind.__struct_config__.tag) for kind in get_args(Event)}
"""The tag of each kind of event, by class: a look-up where `kind_of` would be a computation."""

HISTORY_CHARS_MAX = (1 << 32) - 1
"""What a history may be asked for at most, in characters."""


def bodies_of(events: Iterable[Event]) -> list[str]:
    """Each event as the JSON that is kept. Raises BadRequest on text that is not Unicode (a lone surrogate)."""
    try:
        return [dump_event(event).decode() for event in events]
    except UnicodeEncodeError as error:
        raise BadRequest("The text holds half a character (a lone surrogate).", internal=str(error)) from None


def check_keys(**keys: str) -> None:
    """Raises BadRequest, naming the field, on a key that not every engine can keep: a lone surrogate or NUL in it."""
    for field, key in keys.items():
        if key.isascii() and "\0" not in key:
            continue
        try:
            key.encode()
        except UnicodeEncodeError:
            message = "holds half a character (a lone surrogate)"
        else:
            if "\0" not in key:
                continue
            message = "holds a NUL character"
        raise BadRequest(f"{field}: {message}", faults=(FieldFault(field, message),))


def check_all(**keys: Iterable[str]) -> None:
    """The same for several keys in one field."""
    for field, each in keys.items():
        for key in each:
            check_keys(**{field: key})


def check_appended(events: Sequence[Event]) -> None:
    """Raises ValueError if a run's end is among events that are only appended: `finish` is for that."""
    if any(isinstance(event, RunEnd) for event in events):
        raise ValueError("a run's end is written with finish")


def check_finished(events: Sequence[Event]) -> None:
    """Raises ValueError unless the last event, and only that, is a run's end."""
    if not events or not isinstance(events[-1], RunEnd):
        raise ValueError("the last event of finish is the run's end")
    check_appended(events[:-1])


def check_asked(event: Event) -> None:
    """Raises ValueError unless the event is of a kind that others than the run's owner write."""
    if not isinstance(event, ASKS):
        raise ValueError(f"{type(event).__name__} is written by the owner of a run")


def check_noted(events: Sequence[Event]) -> None:
    """Raises ValueError unless there are events, all of kinds that belong to no run."""
    if not events:
        raise ValueError("there is nothing to note")
    for event in events:
        if not isinstance(event, NOTES):
            raise ValueError(f"{type(event).__name__} is not noted of a conversation")


def check_replacing(imported: ev.MessagesImported) -> None:
    """Raises ValueError unless these messages take the place of all that was said before."""
    if not imported.replaces:
        raise ValueError("messages that replace nothing are not put over others")


# -- refusals ------------------------------------------------------------------------------------------------------


def no_conversation(conversation: ConversationId) -> NotFound:
    return NotFound(f"There is no conversation {conversation}.", what="conversation")


def refuse_stranger(turn: NewTurn, owner: str) -> None:
    """Raises NotFound if the turn is for one owner's conversation only and this one has another, or if this one is a
    visitor's chat: nobody else says anything in it, on no wire."""
    is_chat = owner.startswith(OWNER) and turn.created.owner != owner
    if is_chat or (turn.only_owner and turn.only_owner != owner):
        raise no_conversation(turn.conversation)


def conversation_taken(conversation: ConversationId) -> Conflict:
    return Conflict(f"There is a conversation {conversation} already.")


def conversation_at_work(conversation: ConversationId) -> Conflict:
    return Conflict(
        f"A turn of conversation {conversation} is at work or waits; change its messages once it has ended."
    )


def queue_full(waiting: int) -> LimitReached:
    return LimitReached(
        f"A turn of this conversation is at work and {waiting} wait; send the next when one has ended.",
        limit="queue_per_conversation",
    )


def run_taken() -> Conflict:
    return Conflict("There is a run of that id already.")


def key_reused() -> KeyReused:
    return KeyReused("The key of this request came with another request before; use a new one for each.")


def project_taken(project: ProjectId) -> Conflict:
    return Conflict(f"There is a project {project} already.")


def no_project(project: ProjectId) -> NotFound:
    return NotFound(f"There is no project {project}.", what="project")


def stale(claim: Claim) -> StaleClaim:
    return StaleClaim(f"run {claim.run} has ended, is gone, or is no longer claimed under epoch {claim.epoch}")


def stale_after(claim: Claim, after: int) -> StaleClaim:
    return StaleClaim(f"run {claim.run}: {after} is not the last entry that epoch {claim.epoch} wrote")


# -- what lists show -----------------------------------------------------------------------------------------------


def users_in(received: ev.TurnReceived) -> int:
    """User messages of a turn; those that it only tells again were counted."""
    return sum(message.role == "user" for message in received.messages[received.restates :])


def replied_at(replied_seq: int, event: Event, seq: int) -> int:
    """Place of a run's first finished reply that still counts, 0 = none; `event` stands at `seq`."""
    if isinstance(event, ev.ReplyFinished):
        return replied_seq or seq
    if isinstance(event, ev.AttemptReset) and event.from_seq <= replied_seq:
        return 0
    return replied_seq


def counted(end: Event, *, users: int, replied: bool) -> int:
    """By how much a run's end raises `ConversationInfo.messages`: its user messages and one final answer.

    A failed turn counts for nothing; a cancelled one counts if a reply of it was finished, for only then was there an
    answer; a call handed to the client is an answer.
    """
    match end:
        case ev.RunCompleted() | ev.RunNeedsClient():
            return users + 1
        case ev.RunCancelled():
            return users + 1 if replied else 0
        case _:
            return 0


def counted_import(imported: ev.MessagesImported) -> int:
    said = [message for message in imported.messages if message.role in ("user", "assistant") and message.full_text]
    return sum(not message.is_internal for message in said)


def weight_of_import(imported: ev.MessagesImported) -> int:
    """Messages that replace all before them weigh more than any history may: it goes back to them and no further."""
    weight = sum(weight_of(message) for message in imported.messages)
    return weight + HISTORY_CHARS_MAX + 1 if imported.replaces else weight


def history_chars(chars_max: int) -> int:
    """The measure of a history as engines take it."""
    return min(max(chars_max, 0), HISTORY_CHARS_MAX)


def is_import(run: RunView) -> bool:
    """Whether it stands for messages that were said elsewhere: a turn of ours does not end well unclaimed."""
    return run.status == "completed" and run.epoch == 0


def status_of(end: Event) -> str:
    """`RunView.status` of a run that ended so."""
    match end:
        case ev.RunCompleted():
            return "completed"
        case ev.RunFailed():
            return "failed"
        case ev.RunCancelled():
            return "cancelled"
        case ev.RunNeedsClient():
            return "needs_client"
        case _:
            raise ValueError(f"{type(end).__name__} is no run's end")
