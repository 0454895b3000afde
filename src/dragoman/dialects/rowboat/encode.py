"""What came of a turn -> the reply, in the spelling of the caller's generation (rowboat spec 1.4, 2, 3.2, 5.2).

A reply of 200 ends with a text for the user; a turn without one is an error (Q6).
"""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import UNSET

from dragoman.core import events as ev
from dragoman.core.messages import Usage
from dragoman.core.operations import Outcome, Started
from dragoman.dialects.rowboat import shapes
from dragoman.dialects.rowboat.decode import Asked, asked_of, last_agent, used_tokens
from dragoman.dialects.rowboat.errors import refusal_of
from dragoman.dialects.rowboat.generations import fields_of
from dragoman.dialects.rowboat.messages import Told, both, camel, iso, snake, told_of
from dragoman.wire.dialect import Reply, Request, json_reply

Write = Callable[[Sequence[Told], Outcome, Request], object]


def g1(outcome: Outcome, request: Request) -> Reply:
    return _reply(outcome, request, _g1)


def g15(outcome: Outcome, request: Request) -> Reply:
    return _reply(outcome, request, _g15)


def g2(outcome: Outcome, request: Request) -> Reply:
    return _reply(outcome, request, _g2)


def ambiguous(outcome: Outcome, request: Request) -> Reply:
    return _reply(outcome, request, _ambiguous)


def _reply(outcome: Outcome, request: Request, write: Write) -> Reply:
    if isinstance(outcome.end, ev.RunCompleted):
        told = told_of(outcome.answered, outcome.said_at, at=request.at)
        if told and told[-1].is_answer:
            return json_reply(write(told, outcome, request))
    return refusal_of(outcome.end)


def _g1(told: Sequence[Told], outcome: Outcome, request: Request) -> shapes.ChatReply:
    state = fields_of(request).get("state")  # of a long history nothing else need be looked at once more
    return shapes.ChatReply(tuple(map(snake, told)), state_after(state, told, outcome.usage))


def _g15(told: Sequence[Told], outcome: Outcome, request: Request) -> shapes.MockingReply:
    return shapes.MockingReply(tuple(camel(each, timed=False) for each in told))


def _g2(told: Sequence[Told], outcome: Outcome, request: Request) -> shapes.TurnReply:
    turn = turn_of(outcome.started, asked_of(request), request.at, told)
    return shapes.TurnReply(outcome.started.conversation, turn)


def _ambiguous(told: Sequence[Told], outcome: Outcome, request: Request) -> shapes.EveryReply:
    asked, output = asked_of(request), tuple(map(both, told))
    turn = shapes.EveryTurn(
        outcome.started.run,
        shapes.Reason(),
        shapes.EveryInput(tuple(map(both, _stamped(asked.messages, request.at))), asked.mocks or UNSET),
        output,
        iso(request.at),
    )
    return shapes.EveryReply(output, state_after(asked.state, told, outcome.usage), outcome.started.conversation, turn)


def turn_of(started: Started, asked: Asked, at: float, told: Sequence[Told]) -> shapes.Turn:
    """`at`: when it was asked."""
    messages = tuple(camel(each, timed=True) for each in _stamped(asked.messages, at))
    output = tuple(camel(each, timed=True) for each in told)
    given = shapes.TurnInput(messages, asked.mocks or UNSET)
    return shapes.Turn(started.run, shapes.Reason(), given, output, iso(at))


def _stamped(messages: Sequence[Told], at: float) -> tuple[Told, ...]:
    """Messages that came without a time get that of their request (rowboat spec 3.1)."""
    return tuple(
        each
        if each.at
        else Told(each.role, each.content, each.calls, each.sender, each.internal, each.call_id, each.tool, iso(at))
        for each in messages
    )


def state_after(state: Any, told: Sequence[Told], usage: Usage) -> shapes.State:
    """Who answered, and what has been used since the first turn that handed its state on (rowboat spec 1.5)."""
    total, prompt, completion = used_tokens(state)
    tokens = shapes.UsedTokens(
        total + usage.total_tokens, prompt + usage.prompt_tokens, completion + usage.completion_tokens
    )
    return shapes.State(told[-1].sender or last_agent(state), tokens)
