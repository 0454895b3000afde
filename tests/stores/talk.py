"""Turns and what is said in them, for tests of stores."""

from collections.abc import Sequence

from dragoman.core import events as ev
from dragoman.core.events import Entry, Event
from dragoman.core.messages import Message, said
from dragoman.core.names import ConversationId, ProjectId, RunId
from dragoman.core.operations import Mark
from dragoman.runtime.ports import Accepted, Claim, Log, NewTurn

PROJECT = ProjectId("default")
NO_MARK = Mark()
OWNER = "c1"
ORIGIN = "test"


def received(*texts: str, fingerprint: str = "") -> ev.TurnReceived:
    messages: tuple[Message, ...] = tuple(said("user", text) for text in texts)
    return ev.TurnReceived(messages, origin="test", credential_id="c1", fingerprint=fingerprint)


def turn(
    conversation: str,
    run: str,
    *texts: str,
    project: str = PROJECT,
    must_exist: bool = False,
    queue_max: int = 8,
    mark: Mark = NO_MARK,
    owner: str = OWNER,
    origin: str = ORIGIN,
    only_owner: str = "",
) -> NewTurn:
    return NewTurn(
        ProjectId(project),
        ConversationId(conversation),
        RunId(run),
        received(*texts, fingerprint=mark.fingerprint),
        created(conversation, project=project, owner=owner, origin=origin),
        must_exist=must_exist,
        queue_max=queue_max,
        mark=mark,
        only_owner=only_owner,
    )


def created(
    conversation: str, *, project: str = PROJECT, owner: str = OWNER, origin: str = ORIGIN, title: str = ""
) -> ev.ConversationCreated:
    return ev.ConversationCreated(ProjectId(project), ConversationId(conversation), origin, owner, title)


async def begin(
    log: Log,
    conversation: str,
    run: str,
    *texts: str,
    project: str = PROJECT,
    owner: str = OWNER,
    origin: str = ORIGIN,
) -> Claim:
    """Accept a turn that may start at once; its claim."""
    accepted = await log.accept(
        turn(conversation, run, *(texts or ("hi",)), project=project, owner=owner, origin=origin)
    )
    assert accepted.claim is not None
    return accepted.claim


async def wait(log: Log, conversation: str, run: str, *texts: str) -> Accepted:
    """Accept a turn that has to wait."""
    accepted = await log.accept(turn(conversation, run, *(texts or ("hi",))))
    assert accepted.claim is None
    return accepted


def answer(text: str) -> tuple[Event, ...]:
    """What ends a turn that went well."""
    return (ev.ReplyStarted("assistant", "m"), ev.ReplyFinished(text), ev.RunCompleted())


async def written(log: Log, claim: Claim) -> int:
    """The seq of the last entry that the run's owner wrote."""
    own = [entry.seq for entry in await log.read_run(claim) if not isinstance(entry.event, ev.ASKS)]
    return own[-1] if own else claim.seq


async def append(log: Log, claim: Claim, events: Sequence[Event]) -> int:
    """Behind all that was written."""
    return await log.append(claim, events, after=await written(log, claim))


async def finish(log: Log, claim: Claim, events: Sequence[Event], *, weight: int = 1) -> Claim | None:
    """Behind all that was written."""
    return await log.finish(claim, events, after=await written(log, claim), weight=weight)


async def say(log: Log, conversation: str, run: str, question: str, text: str, *, weight: int | None = None) -> Claim:
    """A whole turn."""
    claim = await begin(log, conversation, run, question)
    weight = len(question) + len(text) if weight is None else weight
    await log.finish(claim, answer(text), after=claim.seq, weight=weight)
    return claim


def seqs(entries: "list[Entry] | tuple[Entry, ...]") -> list[int]:
    return [entry.seq for entry in entries]
