"""Turns that completed, and what may be said after them, for property tests."""

from hypothesis import strategies as st

from dragoman.core import events as ev
from dragoman.core.messages import Message, Part, Text, ToolCall, ToolResult, said
from dragoman.core.names import CallId, RunId
from dragoman.core.operations import TurnView


def turn(*messages: Message, asked: int = 1, end: ev.Event | None = None) -> TurnView:
    return TurnView(RunId("r"), 2, 0.0, messages[:asked], messages[asked:], end or ev.RunCompleted())


_TEXTS = st.sampled_from(("", "a", "b", "ä\n", '{"a":1}'))
_PLAIN = st.builds(said, st.sampled_from(("user", "assistant")), _TEXTS)


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[Message, ...]:
    """A reply with calls and a result of each."""
    number = draw(st.integers(1, 3))
    ids = [CallId(f"c{n}") for n in range(number)]
    parts: list[Part] = [ToolCall(id, draw(st.sampled_from(("f", "g"))), draw(_TEXTS)) for id in ids]
    text = draw(_TEXTS)
    results = [Message("tool", (ToolResult(id, draw(_TEXTS)),)) for id in draw(st.permutations(ids))]
    return (Message("assistant", (*([Text(text)] if text else []), *parts)), *results)


TURNS = st.lists(
    st.lists(st.one_of(st.tuples(_PLAIN), exchanges()), max_size=4).map(
        lambda steps: turn(said("user", "q"), *(message for step in steps for message in step))
    ),
    max_size=4,
)
NEWS = st.lists(_PLAIN, max_size=3).map(lambda messages: (said("user", "new"), *messages))
