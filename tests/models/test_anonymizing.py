import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core.agents import ToolSpec
from dragoman.core.errors import BackendFailed
from dragoman.core.knowledge import Found, KnowledgeEntry
from dragoman.core.masking import Masker, PatternFinder, Span
from dragoman.core.messages import Image, Message, Text, Thinking, ToolCall, ToolResult, said
from dragoman.core.names import CallId, ProjectId
from dragoman.models import anonymizing
from dragoman.models.anonymizing import Anonymizing, anonymized
from dragoman.models.openai_chat import OpenAIChat, OpenAIChatOptions
from dragoman.runtime import scoring, titles
from dragoman.runtime.ports import Prompt, ReplyDone, ReplyPiece, Retracted, TextPiece, ThinkingPiece
from tests.models.asking import HI, Puppet, ask, ask_in_vain, failure
from tests.support import FixedClock
from tests.upstream import Upstream, serving

ANN, BOB, SITE = "ann@example.com", 'o"b@example.com', "https://shop.example.com/a"
MASKER = Masker(
    [PatternFinder("EMAIL", r"[\w.+\"-]+@[\w-]+\.[\w.-]*\w"), PatternFinder("URL", r"https?://[^\s\"]+")], key=b"k" * 32
)
HEX = re.compile(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])")


def mask(value: str) -> str:
    return MASKER.mask(value).text


def wrapped(puppet: Puppet, masker: Masker = MASKER) -> Anonymizing:
    return Anonymizing(puppet, masker, clock=FixedClock())


async def told(*messages: Message, tools: tuple[ToolSpec, ...] = ()) -> Prompt:
    """The prompt as the model behind gets it."""
    puppet = Puppet([ReplyDone("ok")])
    await ask(wrapped(puppet), Prompt(messages, tools))
    return puppet.asked[0][0]


# -- what goes out ---------------------------------------------------------------------------------------------------


async def test_every_text_of_a_prompt_is_masked_and_images_are_left() -> None:
    image = Image("image/png", url=SITE)
    call = ToolCall(CallId("c"), "mail", '{"to":"ann@example.com","n":1}')
    prompt = await told(
        said("system", f"Owner: {ANN}"),
        Message("user", (Text(f"I am {ANN}"), Text(f" at {SITE}", hidden=True), image)),
        Message("assistant", (Text(f"Hello {ANN}"), Thinking(ANN), call)),
        Message("tool", (ToolResult(CallId("c"), '{"from":"o\\"b@example.com"}', is_error=True, shown=ANN),)),
    )
    assert prompt.messages == (
        said("system", f"Owner: {mask(ANN)}"),
        Message("user", (Text(f"I am {mask(ANN)}"), Text(f" at {mask(SITE)}", hidden=True), image)),
        Message(
            "assistant",
            (Text(f"Hello {mask(ANN)}"), Thinking(ANN), ToolCall(CallId("c"), "mail", f'{{"to":"{mask(ANN)}","n":1}}')),
        ),
        Message("tool", (ToolResult(CallId("c"), f'{{"from":"{mask(BOB)}"}}', is_error=True, shown=ANN),)),
    )


async def test_what_tools_say_of_themselves_is_masked_and_their_names_are_left() -> None:
    schema = {
        "type": "object",
        "properties": {ANN: {"type": "string", "description": f"Such as {ANN}", "enum": [ANN, "x"], "default": 1}},
        "required": [ANN],
    }
    plain = ToolSpec("plain", "Nothing.", {"type": "object"})
    prompt = await told(HI.messages[0], tools=(plain, ToolSpec("t", f"Mails {ANN}", schema)))
    assert prompt.tools[0] is plain
    assert prompt.tools[1] == ToolSpec(
        "t",
        f"Mails {mask(ANN)}",
        {
            "type": "object",
            "properties": {
                ANN: {
                    "type": "string",
                    "description": f"Such as {mask(ANN)}",
                    "enum": [mask(ANN), "x"],
                    "default": 1,
                }
            },
            "required": [ANN],
        },
    )


async def test_a_prompt_with_nothing_to_mask_goes_out_as_it_is_and_its_reply_comes_as_it_is() -> None:
    tools = (ToolSpec("t", "Nothing.", {"type": "object"}),)
    prompt = Prompt((said("user", "How is it going?"),), tools)
    pieces: list[ReplyPiece] = [TextPiece(mask(ANN)), ReplyDone(mask(ANN))]
    puppet = Puppet(pieces)
    assert await ask(wrapped(puppet), prompt, stream=False) == pieces
    assert puppet.asked == [(prompt, False)]
    assert puppet.asked[0][0] is prompt


async def test_the_very_tools_go_on_if_only_messages_were_masked() -> None:
    tools = (ToolSpec("t", "Nothing.", {"type": "object"}),)
    assert (await told(said("user", ANN), tools=tools)).tools is tools


def test_without_rules_there_is_nothing_between() -> None:
    puppet = Puppet()
    assert anonymized(puppet, None, clock=FixedClock()) is puppet
    assert isinstance(anonymized(puppet, MASKER, clock=FixedClock()), Anonymizing)


# -- what comes back -------------------------------------------------------------------------------------------------


async def test_values_are_put_back_into_text_thinking_and_calls() -> None:
    masks = f"{mask(ANN)} {mask(BOB)}"
    call = ToolCall(CallId("c"), "mail", f'{{"to":["{mask(ANN)}","{mask(BOB)}"]}}')
    puppet = Puppet(
        [
            ThinkingPiece(mask(ANN)[:9]),
            TextPiece("To " + masks[:20]),
            ThinkingPiece(mask(ANN)[9:] + " E"),
            TextPiece(masks[20:] + " EMAIL"),
            ReplyDone(f"To {masks} EMAIL", (call,), thinking=f"{mask(ANN)} E", finish_reason="tool_calls"),
        ]
    )
    pieces = await ask(wrapped(puppet), Prompt((said("user", f"{BOB} {ANN}"),)))
    *streamed, done = pieces
    assert streamed == [
        TextPiece("To "),
        ThinkingPiece(f"{ANN} "),
        TextPiece(f"{ANN} {BOB} "),
        ThinkingPiece("E"),
        TextPiece("EMAIL"),
    ]
    assert isinstance(done, ReplyDone)
    assert (done.text, done.thinking, done.finish_reason) == (f"To {ANN} {BOB} EMAIL", f"{ANN} E", "tool_calls")
    assert done.calls == (ToolCall(CallId("c"), "mail", '{"to":["ann@example.com","o\\"b@example.com"]}'),)
    assert [(each.entity, each.value, each.mask) for each in done.masked] == [
        ("EMAIL", BOB, mask(BOB)),
        ("EMAIL", ANN, mask(ANN)),
    ]


@given(st.lists(st.integers(0, 120), max_size=10))
async def test_a_stream_cut_anywhere_reads_like_the_whole(cuts: list[int]) -> None:
    text = f"Hi {mask(ANN)}, E{mask(BOB)}"
    places = [0, *sorted(cuts), len(text)]
    cut = [TextPiece(text[at:end]) for at, end in pairwise(places)]
    pieces = await ask(wrapped(Puppet([*cut, ReplyDone(text)])), Prompt((said("user", f"{ANN} {BOB}"),)))
    streamed = "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))
    done = pieces[-1]
    assert isinstance(done, ReplyDone)
    assert streamed == done.text == f"Hi {ANN}, E{BOB}"


async def test_what_is_retracted_leaves_nothing_held_back() -> None:
    puppet = Puppet(
        [TextPiece("a E"), ThinkingPiece("E"), Retracted("again"), TextPiece("b"), ReplyDone("b", thinking="")]
    )
    pieces = await ask(wrapped(puppet), Prompt((said("user", ANN),)))
    assert pieces[:-1] == [TextPiece("a "), Retracted("again"), TextPiece("b")]


async def test_a_failure_passes_on() -> None:
    puppet = Puppet([TextPiece("Hello E"), failure()])
    pieces, error = await ask_in_vain(wrapped(puppet), Prompt((said("user", ANN),)))
    assert (pieces, error.code) == ([TextPiece("Hello ")], "upstream_failed")


@pytest.mark.parametrize("text", [ANN, "nothing"])
async def test_whoever_closes_the_reply_closes_the_models(text: str) -> None:
    puppet = Puppet([TextPiece("one"), TextPiece("two"), ReplyDone("onetwo")])
    model = wrapped(puppet)
    reply = model.reply(Prompt((said("user", text),)), stream=True)
    assert await anext(reply) == TextPiece("one")
    await reply.aclose()
    await model.close()
    assert (puppet.abandoned, puppet.closed) == (1, 1)


async def test_of_too_many_values_those_in_the_reply_are_told_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anonymizing, "MASKED_MAX", 2)
    puppet = Puppet([ReplyDone(mask("c@x.io"))])
    messages = tuple(said("user", f"{name}@x.io") for name in "cba")
    done = (await ask(wrapped(puppet), Prompt(messages)))[-1]
    assert isinstance(done, ReplyDone)
    assert [each.value for each in done.masked] == ["c@x.io", "a@x.io"]


# -- time and memory -------------------------------------------------------------------------------------------------


class Slow:
    """A finder that takes a second a step, and counts what it is asked."""

    def __init__(self, clock: FixedClock, steps: int) -> None:
        self._clock = clock
        self._steps = steps
        self.asked = 0

    def find(self, text: str) -> Iterator[Span | None]:
        self.asked += 1
        for _ in range(self._steps):
            self._clock.at += 1.0
            yield None


async def test_a_prompt_that_cannot_be_searched_in_time_is_not_sent() -> None:
    clock, puppet = FixedClock(), Puppet([ReplyDone("no")])
    model = Anonymizing(puppet, Masker([Slow(clock, int(anonymizing.SEARCH_S_MAX) + 1)], key=b"k" * 32), clock=clock)
    with pytest.raises(BackendFailed, match="nothing was sent") as caught:
        await ask(model)
    assert (caught.value.code, caught.value.retryable, puppet.calls) == ("upstream_too_long", False, 0)


async def test_others_have_their_turn_meanwhile() -> None:
    clock = FixedClock()
    model = Anonymizing(Puppet([ReplyDone("x")]), Masker([Slow(clock, 5)], key=b"k" * 32), clock=clock)
    turns: list[float] = []

    async def other() -> None:
        for _ in range(3):
            turns.append(clock.at)
            await asyncio.sleep(0)

    await asyncio.gather(ask(model), other())
    assert turns[2] < clock.at


async def test_a_text_is_searched_once_as_long_as_it_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anonymizing, "KNOWN_CHARS_MAX", 6)
    slow = Slow(FixedClock(), 0)
    model = Anonymizing(
        Puppet(*([ReplyDone("x")] for _ in range(4))), Masker([slow], key=b"k" * 32), clock=FixedClock()
    )
    asked: list[int] = []
    for text in ("one", "one", "four", "one"):
        await ask(model, Prompt((said("user", text),)))
        asked.append(slow.asked)
    assert asked == [1, 1, 2, 3]


# -- the ledger of what leaves (elastic spec 7.5) ----------------------------------------------------------------------


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with serving() as serving_upstream:
        yield serving_upstream


async def asked_over_http(upstream: Upstream, prompt: Prompt, *, stream: bool = True) -> ReplyDone:
    model = Anonymizing(
        OpenAIChat(OpenAIChatOptions(url=upstream.url, name="m"), clock=FixedClock()), MASKER, clock=FixedClock()
    )
    try:
        done = (await ask(model, prompt, stream=stream))[-1]
    finally:
        await model.close()
    assert isinstance(done, ReplyDone)
    return done


@pytest.mark.parametrize("stream", [True, False])
async def test_a1_a2_each_message_leaves_with_one_mask_and_comes_back_with_its_value(
    upstream: Upstream, stream: bool
) -> None:
    messages = (said("user", f"My address is {ANN}."), said("user", f"My site is {SITE} ."))
    done = await asked_over_http(upstream, Prompt(messages), stream=stream)
    sent = (await upstream.request()).json()["messages"]
    assert [len(HEX.findall(message["content"])) for message in sent] == [1, 1]
    assert done.text == f"Echo: My site is {SITE} ."
    assert {(each.entity, each.value) for each in done.masked} == {("EMAIL", ANN), ("URL", SITE)}


async def test_nothing_raw_leaves_whatever_the_prompt_is_for(upstream: Upstream) -> None:
    """The turn itself, its title, and the questions of the `context` step go through the same wrapper."""
    talk = (said("user", f"I am {ANN}"), said("assistant", f"Hello {ANN}"), said("user", f"Mail {BOB} about {SITE}"))
    call = ToolCall(CallId("c"), "mail", '{"to":"o\\"b@example.com"}')
    steps = (Message("assistant", (call,)), Message("tool", (ToolResult(CallId("c"), f'{{"sent":"{ANN}"}}'),)))
    known = [Found(KnowledgeEntry(ProjectId("p"), "e", f"{ANN} owns {SITE}", title=ANN), 1.0)]
    tool = ToolSpec("mail", f"Mails {ANN}", {"type": "object"})
    prompts = (
        Prompt((said("system", f"Owner {ANN}"), *talk, *steps), (tool,), choice="auto"),
        Prompt(titles.question(talk), (titles.TOOL,), choice=titles.TOOL.name),
        Prompt(scoring.rewriting(talk, f"Page of {ANN}")),
        Prompt(scoring.judging(f"Who is {ANN}?", known), (scoring.SCORE_SUGGESTIONS,)),
    )
    for number, prompt in enumerate(prompts, 1):
        await asked_over_http(upstream, prompt)
        seen = await upstream.request(number)
        body = seen.body.decode()
        assert HEX.search(body)
        for raw in (ANN, "b@example.com", "shop.example.com"):
            assert raw not in body
            assert raw.encode() not in seen.head
