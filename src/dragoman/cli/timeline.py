"""A run's timeline as lines of text: when what began, how long it took, drawn to scale. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from dragoman.cli.report import first_line, handing
from dragoman.cli.terminal import shorten
from dragoman.cli.times import fine
from dragoman.core import events as ev
from dragoman.core.events import Entry
from dragoman.core.messages import ToolCall
from dragoman.core.workflows import TRANSFER

BAR_CHARS = 24
"""The bar of something that took the whole run."""
WAITING = "░"
WORKING = "█"


@dataclass
class Bar:
    """One model or tool call. `first_at` is when its first text came; `ended_at` None = it goes on."""

    kind: str
    began_at: float
    first_at: float | None = None
    ended_at: float | None = None
    said: str = ""


@dataclass
class Point:
    kind: str
    at: float
    said: str = ""


class Timeline:
    """The fold from entries to bars and points, in order of their beginning."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.items: list[Bar | Point] = []
        self._reply: Bar | None = None
        self._tools: dict[str, Bar] = {}
        self._staged = False
        """Several agents may answer: each reply is told with who gave it."""
        for entry in entries:
            self._add(entry)
        self.began_at = entries[0].at if entries else 0.0
        self.ended_at = entries[-1].at if entries else 0.0

    def _add(self, entry: Entry) -> None:
        at, event = entry.at, entry.event
        match event:
            case ev.ReplyStarted(agent=agent, model=model):
                self._reply = Bar("model", at, said=f"{agent}  {model}" if self._staged else model)
                self.items.append(self._reply)
            case ev.TextAdded() | ev.ThinkingAdded():
                if self._reply is not None and self._reply.first_at is None:
                    self._reply.first_at = at
            case ev.ReplyFinished():
                self._finish_reply(event, at)
            case ev.ToolStarted(call=call):
                self._tools[call.id] = Bar("tool", at, said=_call(call))
                self.items.append(self._tools[call.id])
            case ev.ToolReturned():
                self._finish_tool(event, at)
            case ev.AttemptReset(from_seq=from_seq):
                self.items.append(Point("reset", at, f"what came from entry {from_seq} on is void"))
            case ev.RunCompleted() | ev.RunFailed() | ev.RunCancelled() | ev.RunNeedsClient():
                self.items.append(_end(event, at))
            case _:
                self._note(event, at)

    def _note(self, event: ev.Event, at: float) -> None:
        match event:
            case ev.TurnReceived(staging=staging):
                self._staged = staging is not None
                self.items.append(Point("accepted", at, _received(event)))
            case ev.RunClaimed(epoch=epoch):
                self.items.append(Point("claimed", at, f"epoch {epoch}"))
            case ev.ClientToolRequested(call=call):
                self.items.append(Point("asks", at, f"the caller to run {_call(call)}"))
            case ev.ApprovalRequested(call=call):
                self.items.append(Point("asks", at, f"for approval of {_call(call)}"))
            case ev.ApprovalDecided(approved=approved, decided_by=by):
                self.items.append(Point("approved" if approved else "denied", at, f"by {by}" if by else ""))
            case ev.CallAdded(call=call) if call.name != TRANSFER:  # else the hand-over that follows says it
                self.items.append(Point("calls", at, f"by itself {_call(call)}"))
            case ev.HandedOver():
                self.items.append(Point("handed", at, handing(event)))
            case ev.ClientToolClaimed(claimed_by=by):
                self.items.append(Point("claimed", at, f"by {by}" if by else "by the caller"))
            case ev.ClientToolAnswered():
                self.items.append(Point("answered", at, "by the caller"))
            case ev.CancelAsked(by=by):
                self.items.append(Point("cancel", at, f"asked by {by}" if by else "asked"))
            case ev.Unread(name=name):
                self.items.append(Point("unread", at, f"{name}, of a newer version"))
            case _:
                pass

    def _finish_reply(self, event: ev.ReplyFinished, at: float) -> None:
        bar = self._reply
        if bar is None:
            return
        bar.ended_at = at
        first = f"first text {fine(bar.first_at - bar.began_at)}" if bar.first_at is not None else ""
        tokens = f"{event.usage.prompt_tokens}/{event.usage.completion_tokens}"
        heard = "for agents alone" if event.internal else ""
        bar.said = "  ".join(part for part in (bar.said, first, tokens, heard) if part)
        self._reply = None

    def _finish_tool(self, event: ev.ToolReturned, at: float) -> None:
        bar = self._tools.pop(event.call_id, None)
        if bar is None:  # nothing of ours was run: denied, or the caller's
            if event.is_error:
                self.items.append(Point(event.code or "error", at, first_line(event.content)))
            return
        bar.ended_at = at
        outcome = f"{event.code or 'error'}: {first_line(event.content)}" if event.is_error else "ok"
        bar.said = f"{bar.said}  {outcome}"


def timeline_lines(entries: Sequence[Entry]) -> list[str]:
    """One line for each bar and point; times are seconds since the turn was received."""
    timeline = Timeline(entries)
    bars = [item for item in timeline.items if isinstance(item, Bar)]
    took_s = max(timeline.ended_at - timeline.began_at, 1e-9)
    return [_line(item, timeline, took_s, last=bool(bars) and item is bars[-1]) for item in timeline.items]


def _line(item: Bar | Point, timeline: Timeline, took_s: float, *, last: bool) -> str:
    if isinstance(item, Point):
        return f"{item.at - timeline.began_at:8.3f} {item.kind:<11} {shorten(item.said, chars_max=100)}".rstrip()
    start = f"{item.began_at - timeline.began_at:8.3f} {'└' if last else '├'} {item.kind:<9} "
    ended_at = timeline.ended_at if item.ended_at is None else item.ended_at
    took = fine(ended_at - item.began_at) if item.ended_at is not None else "not finished"
    return f"{start}{_bar(item, ended_at, took_s)}  {took}  {shorten(item.said, chars_max=100)}".rstrip()


def _bar(item: Bar, ended_at: float, took_s: float) -> str:
    """To scale, at least one character: waiting for the first text, then working."""
    whole = max(1, round((ended_at - item.began_at) / took_s * BAR_CHARS))
    waited = 0
    if item.first_at is not None:
        waited = min(whole - 1, round((item.first_at - item.began_at) / took_s * BAR_CHARS))
    return WAITING * waited + WORKING * (whole - waited)


def _end(event: ev.RunEnd, at: float) -> Point:
    match event:
        case ev.RunCompleted(usage=usage):
            return Point("completed", at, f"{usage.prompt_tokens} in / {usage.completion_tokens} out tokens")
        case ev.RunFailed(code=code, detail=detail):
            return Point("failed", at, f"{code}: {detail}")
        case ev.RunCancelled(cancelled_by=by):
            return Point("cancelled", at, f"by {by}" if by else "")
        case ev.RunNeedsClient(calls=calls):
            return Point("waits", at, f"for its caller to run {', '.join(call.name for call in calls)}")
        case _:
            assert_never(event)


def _received(event: ev.TurnReceived) -> str:
    asked = first_line(event.messages[-1].text) if event.messages else ""
    by = f"by credential {event.credential_id}  " if event.credential_id else ""
    return f"{by}{event.origin + '  ' if event.origin else ''}{asked}"


def _call(call: ToolCall) -> str:
    arguments = shorten(call.arguments, chars_max=40)
    return call.name if arguments in ("", "{}") else f"{call.name} {arguments}"
