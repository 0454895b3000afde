"""The `context` step: what a turn begins with, where its loop opens so (elastic spec 4.2, 4.5, F1).

    the question ─ask─► a query ─search─► up to 20 entries ─ask─► scores ─► the best 5, told to the model
                 └─ beside it, what is on the caller's screen

A project that knows nothing costs no question to a model. A question that fails or takes too long is done without: then
the user's own words are the query, and the order of the search is the order. Nothing found is nothing to be told.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

import msgspec

from dragoman.core.agents import ToolSpec
from dragoman.core.errors import DragomanError
from dragoman.core.knowledge import ContextFound, FindContext, Found, Query
from dragoman.core.messages import Message
from dragoman.core.names import Principal
from dragoman.core.operations import Operation
from dragoman.core.screen import Screen, ScreenItem
from dragoman.runtime import scoring
from dragoman.runtime.asking import Asking, check_known
from dragoman.runtime.history import CHARS_PER_TOKEN
from dragoman.runtime.knowledge import KnowledgeBase
from dragoman.runtime.ports import Models, ReplyDone
from dragoman.runtime.tool_ports import Ask, CallContext, Told
from dragoman.runtime.weights import beginning

logger = logging.getLogger("dragoman.runtime")

CONTENT_TOKENS_MAX = 4000
"""Of what the model is told, in estimated LLM tokens: a longer result would be cut anywhere (elastic spec 4.2)."""
ITEM_TOKENS_MAX = 1000
"""Of one thing on the screen that is told with its value; of longer ones the model is told that they are there."""
ITEMS_TOKENS_MAX = 2000
"""Of all of them together: the rest of the room is for what is known."""
ASK_S = 30.0
"""How long one question to the model is waited for."""
REWRITTEN_BOOST = 3.0
"""Of the query the model made; the user's own words, which it may have lost some of, count less."""
ASKED_BOOST = 2.0
SCREEN_BOOST = 1.0

_CUT = "… [cut]"


class ContextStep:
    def __init__(self, knowledge: KnowledgeBase, models: Models, *, ask_s: float = ASK_S) -> None:
        self._knowledge = knowledge
        self._models = models
        self._ask_s = ask_s

    def handlers(self) -> Mapping[type[Operation[Any]], Callable[[Principal, Any], Awaitable[object]]]:
        return {FindContext: self.find_as}

    async def find_as(self, principal: Principal, operation: FindContext) -> ContextFound:
        """Raises NotFound(what="model"), Unavailable. A model that cannot be asked is done without, as in a turn."""
        await check_known(self._models, principal.project, operation.model)
        told = await self.find(
            CallContext(
                principal.project,
                "",
                principal.owner,
                principal.name,
                messages=operation.messages,
                screen=operation.screen,
                ask=Asking(self._models, principal.project, operation.model),
            )
        )
        return ContextFound(told.content, told.shown)

    async def find(self, context: CallContext) -> Told:
        """Raises Unavailable."""
        content: dict[str, Any] = {"screen_description": context.screen.description, "learnings": []}
        if items := on_screen(context.screen):
            content["data_on_screen"] = items
        if not await self._knowledge.count(context.project):
            return Told(_json(content))
        asked = scoring.question(context.messages)
        found = await self._recalled(context, asked)
        scores = await self._scores(context.ask, asked, found)
        learned = [_learning(each, scores) for each in scoring.relevant(found, scores)]
        content["learnings"] = within(learned, CONTENT_TOKENS_MAX * CHARS_PER_TOKEN - len(_json(content)))
        return Told(_json(content), _json(_shown(found, scores)))

    async def _recalled(self, context: CallContext, asked: str) -> Sequence[Found]:
        screen = context.screen.description
        wanted = ((await self._query(context, asked), REWRITTEN_BOOST), (asked, ASKED_BOOST), (screen, SCREEN_BOOST))
        boosts = {text: boost for text, boost in reversed(wanted) if text.strip()}
        if not boosts:
            return ()
        queries = [Query(text, boost) for text, boost in boosts.items()]
        return await self._knowledge.recall(context.project, queries, owner=context.owner)

    async def _query(self, context: CallContext, asked: str) -> str:
        """The query that the model made of the question; "" if it made none."""
        if context.ask is None or not asked.strip():
            return ""
        done = await self._told(context.ask, scoring.rewriting(context.messages, context.screen.description))
        return scoring.query_of(done) if done is not None else ""

    async def _scores(self, ask: Ask | None, asked: str, found: Sequence[Found]) -> Mapping[str, int]:
        if ask is None or not found:
            return {}
        tool = scoring.SCORE_SUGGESTIONS
        done = await self._told(ask, scoring.judging(asked, found), (tool,), tool.name)
        return scoring.scores_of(done, found) if done is not None else {}

    async def _told(
        self, ask: Ask, messages: tuple[Message, ...], tools: tuple[ToolSpec, ...] = (), choice: str = ""
    ) -> ReplyDone | None:
        """The model's reply, None if there is none in time: the turn is answered without."""
        try:
            async with asyncio.timeout(self._ask_s):
                return await ask(messages, tools, choice)
        except (DragomanError, TimeoutError) as error:
            logger.info("the context is found without the model: %s", error or "it took too long")
            return None


def on_screen(screen: Screen) -> list[dict[str, Any]]:
    """What the model is told at once of the things on the screen: all of them that have room, the long ones without
    their values, for which it can ask by name."""
    room = ITEMS_TOKENS_MAX * CHARS_PER_TOKEN
    shown: list[dict[str, Any]] = []
    for item in screen.items:
        fields: dict[str, Any] = {"name": item.name, "description": item.description}
        if len(item.value) <= ITEM_TOKENS_MAX * CHARS_PER_TOKEN:
            whole = fields | {"value": value_of(item)}
            fields = whole if len(_json(whole)) <= room else fields
        room -= len(_json(fields))
        if room < 0:
            break
        shown.append(fields)
    return shown


def value_of(item: ScreenItem) -> Any:
    """The value that its JSON text stands for; the text itself if it is none."""
    try:
        return msgspec.json.decode(item.value)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return item.value


def within(learnings: Sequence[dict[str, Any]], chars_max: int) -> list[dict[str, Any]]:
    """The first so many whose JSON has room; of the one that has too little of it, the text is cut."""
    kept: list[dict[str, Any]] = []
    for learning in learnings:
        fitting = _cut(learning, chars_max)
        if fitting is None:
            break
        kept.append(fitting)
        chars_max -= len(_json(fitting)) + 1
    return kept


def _cut(learning: dict[str, Any], chars_max: int) -> dict[str, Any] | None:
    """None if not even a part of its text has room."""
    text = cast("str", learning["text"])
    while (over := len(_json(learning)) - chars_max) > 0:
        # A character may take several in JSON: what is over is taken away until nothing is.
        text = beginning(text, max(0, len(text) - over - len(_CUT)))
        if not text:
            return None
        learning = learning | {"text": text + _CUT}
    return learning


def _learning(found: Found, scores: Mapping[str, int]) -> dict[str, Any]:
    entry = found.entry
    return {"id": entry.id, "llmScore": scores.get(entry.id), "esScore": found.score, "text": entry.text}


def _shown(found: Sequence[Found], scores: Mapping[str, int]) -> dict[str, Any]:
    suggestions = [
        {
            "id": each.entry.id,
            "title": each.entry.title,
            "text": each.entry.text,
            "esScore": each.score,
            "labels": each.entry.labels,
        }
        for each in found
    ]
    return {"llmScores": [{"id": key, "llmScore": score} for key, score in scores.items()], "suggestions": suggestions}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
