"""A model that is not told what must stay private. Fits `runtime.ports.Model`.

    prompt ──► every text masked (core.masking) ──► the model ──► values put back ──► pieces, with `ReplyDone.masked`

Texts, results and arguments of calls, and what the tools say of themselves; images and the names of tools are left as
they are. What a tool is then called with, and what is kept and shown, is whole. If the texts cannot be searched in time
nothing is sent. It belongs around everything that may ask a provider, retries included, so that each reply is masked
once.
"""

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing
from typing import Any, assert_never, cast

from msgspec.structs import replace

from dragoman.core.agents import ToolSpec
from dragoman.core.errors import BackendFailed
from dragoman.core.masking import Masker, Masking, Unmasker
from dragoman.core.messages import Image, Masked, Message, Part, Text, Thinking, ToolCall, ToolResult
from dragoman.core.names import Clock
from dragoman.runtime.ports import Model, Prompt, ReplyDone, ReplyPiece, Retracted, TextPiece, ThinkingPiece

SEARCH_S_MAX = 10.0
"""So long a prompt may be searched before it is given up. An everyday one takes a few milliseconds."""
TURN_S = 0.01
"""After so long others have their turn."""

KNOWN_CHARS_MAX = 4_000_000
"""Texts whose masking is remembered: a conversation sends all that was said with every reply."""

MASKED_MAX = 500
"""Values of one reply that are told of (`ReplyDone.masked`): those it holds, then those of the newest messages. All are
put back."""

_PLAIN_KEYS = frozenset({"$ref", "$id", "$schema", "type", "format", "pattern", "required"})
"""Of a schema: what a server must read as it stands."""

_Steps = Generator[None, None, Masking]


def anonymized(model: Model, masker: Masker | None, *, clock: Clock) -> Model:
    """The model itself if there is nothing to mask."""
    return model if masker is None else Anonymizing(model, masker, clock=clock)


class Anonymizing:
    """Asks `model` and owns it."""

    def __init__(self, model: Model, masker: Masker, *, clock: Clock) -> None:
        self._model = model
        self._masker = masker
        self._clock = clock
        self._known: dict[tuple[bool, str], Masking] = {}
        self._known_chars = 0

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        """See the port. Raises BackendFailed(upstream_too_long) if the texts cannot be searched in time.

        Of a reply that breaks off, what may have become a mask is not shown.
        """
        search = _Search(self._clock)
        told = await self._masked(prompt, search)
        pieces = self._model.reply(told, stream=stream)
        # Models are async generators: closing one closes its connection.
        async with aclosing(pieces):
            if not search.found:
                async for piece in pieces:
                    yield piece
                return
            found = tuple(search.found.values())
            text, thinking = Unmasker(found), Unmasker(found)
            async for piece in pieces:
                match piece:
                    case TextPiece(text=said):
                        if shown := text.feed(said):
                            yield TextPiece(shown)
                    case ThinkingPiece(text=said):
                        if shown := thinking.feed(said):
                            yield ThinkingPiece(shown)
                    case Retracted():
                        text.end()
                        thinking.end()
                        yield piece
                    case ReplyDone():
                        if held := thinking.end():
                            yield ThinkingPiece(held)
                        if held := text.end():
                            yield TextPiece(held)
                        yield _whole(piece, found)
                    case _:
                        assert_never(piece)

    async def close(self) -> None:
        await self._model.close()

    # -- masking -----------------------------------------------------------------------------------------------------

    async def _masked(self, prompt: Prompt, search: "_Search") -> Prompt:
        """Newest first, so that what was found stands in that order."""
        messages = [await self._message(message, search) for message in reversed(prompt.messages)]
        messages.reverse()
        tools = tuple([await self._tool(tool, search) for tool in prompt.tools])
        if not search.found:
            return prompt
        # The very tuple if it is the same: a writer may know it.
        same = all(told is tool for told, tool in zip(tools, prompt.tools, strict=True))
        return replace(prompt, messages=tuple(messages), tools=prompt.tools if same else tools)

    async def _message(self, message: Message, search: "_Search") -> Message:
        parts = tuple([await self._part(part, search) for part in message.parts])
        if all(told is part for told, part in zip(parts, message.parts, strict=True)):
            return message
        return replace(message, parts=parts)

    async def _part(self, part: Part, search: "_Search") -> Part:
        match part:
            case Text(text=text):
                told = await self._text(text, search)
                return part if told is text else replace(part, text=told)
            case ToolResult(content=content):
                told = await self._text(content, search, json=True)
                return part if told is content else replace(part, content=told)
            case ToolCall(arguments=arguments):
                told = await self._text(arguments, search, json=True)
                return part if told is arguments else replace(part, arguments=told)
            case Thinking() | Image():
                return part
            case _:
                assert_never(part)

    async def _tool(self, tool: ToolSpec, search: "_Search") -> ToolSpec:
        description = await self._text(tool.description, search)
        parameters = await self._schema(tool.parameters, search)
        if description is tool.description and parameters is tool.parameters:
            return tool
        return replace(tool, description=description, parameters=parameters)

    async def _schema(self, value: Any, search: "_Search") -> Any:
        """The same object if nothing in it was masked. Names of parameters are left."""
        if isinstance(value, str):
            return await self._text(value, search)
        if isinstance(value, list):
            items = cast("list[Any]", value)
            told = [await self._schema(item, search) for item in items]
            return told if any(new is not old for new, old in zip(told, items, strict=True)) else items
        if isinstance(value, dict):
            table = cast("dict[str, Any]", value)
            shown = {
                key: each if key in _PLAIN_KEYS and not isinstance(each, dict) else await self._schema(each, search)
                for key, each in table.items()
            }
            return shown if any(shown[key] is not each for key, each in table.items()) else table
        return value

    async def _text(self, text: str, search: "_Search", *, json: bool = False) -> str:
        masking = self._known.get((json, text))
        if masking is None:
            steps = self._masker.masking_json(text) if json else self._masker.masking(text)
            masking = await search.run(steps)
            self._remember(text, masking, json=json)
        if not masking.found:
            return text
        for each in masking.found:
            search.found.setdefault(each.mask, each)
        return masking.text

    def _remember(self, text: str, masking: Masking, *, json: bool) -> None:
        self._known_chars += len(text)
        if self._known_chars > KNOWN_CHARS_MAX:
            self._known.clear()
            self._known_chars = len(text)
        self._known[json, text] = masking


class _Search:
    """One prompt's masking: what was found, and the time it takes."""

    def __init__(self, clock: Clock) -> None:
        self.found: dict[str, Masked] = {}
        self._clock = clock
        self._began = self._turn = clock.monotonic()

    async def run(self, steps: _Steps) -> Masking:
        while True:
            try:
                next(steps)
            except StopIteration as end:
                masking: Masking = end.value
                await self._pause()
                return masking
            await self._pause()

    async def _pause(self) -> None:
        now = self._clock.monotonic()
        if now - self._began > SEARCH_S_MAX:
            raise BackendFailed(
                "The messages could not be searched for private values in time, so nothing was sent to the model. "
                "Ask again with less text.",
                code="upstream_too_long",
                internal=f"more than {SEARCH_S_MAX:g} s; simplify the patterns of [anonymization]",
            )
        if now - self._turn > TURN_S:
            await asyncio.sleep(0)
            self._turn = self._clock.monotonic()


def _whole(done: ReplyDone, found: Sequence[Masked]) -> ReplyDone:
    unmasker = Unmasker(found)
    calls = tuple(replace(call, arguments=unmasker.json(call.arguments)) for call in done.calls)
    said = "".join((done.text, done.thinking, *(call.arguments for call in done.calls)))
    told = sorted(found, key=lambda each: each.mask not in said) if len(found) > MASKED_MAX else found
    return replace(
        done,
        text=unmasker.whole(done.text),
        thinking=unmasker.whole(done.thinking),
        calls=calls,
        masked=tuple(told[:MASKED_MAX]),
    )
