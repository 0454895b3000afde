"""A run that a process drives hears what others asked of it, each thing once."""

import asyncio

import pytest

from dragoman.core import events as ev
from dragoman.core.events import Entry, Event
from dragoman.core.names import CallId, ConversationId, ProjectId, RunId, Tape
from dragoman.runtime.live import Inbox, Live, PutDown
from dragoman.runtime.ports import Claim
from tests.runtime.scene import within

YES = ev.ApprovalDecided(CallId("c1"), True)
SEEN = ev.ClientToolAnswered(CallId("c2"), "seen")


def entry(seq: int, event: Event) -> Entry:
    return Entry(seq, RunId("r1"), 100.0, event)


def live() -> Live:
    return Live(Claim(ProjectId("p"), ConversationId("c"), Tape(1), RunId("r1"), 1, 3))


def test_what_others_asked_reaches_the_driver_once_and_in_order() -> None:
    run = live()
    run.hear([entry(2, YES), entry(4, ev.TextAdded("x")), entry(5, YES), entry(7, SEEN)])
    run.hear([entry(5, YES), entry(7, SEEN)])
    assert [each.seq for each in run.inbox.take()] == [5, 7]
    assert run.inbox.take() == () and run.heard == 7
    run.hear([entry(7, SEEN), entry(9, YES)])
    assert [each.seq for each in run.inbox.take()] == [9]


async def test_a_wish_to_cancel_cuts_in_and_is_not_left_to_the_driver() -> None:
    run = live()
    run.task = asyncio.create_task(asyncio.Event().wait())  # pyright: ignore[reportAttributeAccessIssue]
    run.driving = True
    run.hear([entry(4, YES), entry(5, ev.CancelAsked("me"))])
    await asyncio.wait([run.task])
    assert run.task.cancelled() and run.cancelled_by == "" and run.inbox.take() == ()


async def test_a_wish_that_comes_when_the_run_is_not_at_work_is_noted() -> None:
    run = live()
    run.task = asyncio.create_task(asyncio.sleep(0))  # pyright: ignore[reportAttributeAccessIssue]
    run.cancel("me")
    run.cancel("you")
    await run.task
    assert run.cancelled_by == "me" and not run.task.cancelled()


async def test_who_waits_is_woken_by_what_comes() -> None:
    inbox = Inbox()
    waiting = asyncio.create_task(inbox.filled(within_s=60.0))
    await asyncio.sleep(0)
    inbox.put([entry(4, YES)])
    await within(waiting)
    assert inbox.take() == [entry(4, YES)]


async def test_who_waits_goes_on_when_nothing_comes() -> None:
    await within(Inbox().filled(within_s=0.001))


async def test_what_came_before_is_not_waited_for() -> None:
    inbox = Inbox()
    inbox.put([entry(4, YES)])
    await within(inbox.filled(within_s=60.0))


async def test_who_waits_when_it_is_closed_takes_what_has_come_and_is_put_down_when_there_is_nothing() -> None:
    inbox = Inbox()
    waiting = asyncio.create_task(inbox.filled(within_s=60.0))
    await asyncio.sleep(0)
    inbox.close()
    await within(waiting)
    assert not inbox.take()
    inbox.put([entry(4, YES)])
    await within(inbox.filled(within_s=60.0))
    assert inbox.take() == [entry(4, YES)]
    with pytest.raises(PutDown):
        await inbox.filled(within_s=60.0)
