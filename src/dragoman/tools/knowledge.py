"""Tools on what is known, and on what the caller looks at: the `context` step that a turn may begin with, remembering,
and reading the screen (elastic spec 4.5)."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from dragoman.core.agents import NO_ARGUMENTS, Offered, Repeat, ToolSpec
from dragoman.core.errors import DragomanError, ToolFailed
from dragoman.core.knowledge import EntryRole, KnowledgeEntry
from dragoman.runtime.context import ASK_S, ContextStep, value_of
from dragoman.runtime.knowledge import ENTRY_CHARS_MAX, TITLE_CHARS_MAX, KnowledgeBase
from dragoman.runtime.tool_ports import CallContext, Told
from dragoman.tools.arguments import Arguments, Run, schema_of, typed
from dragoman.tools.registry import Registry

TOOLSET = "knowledge"
CONTEXT_S = 2 * ASK_S + 15.0
"""Two questions to the model, and the search between them."""
REMEMBER_S = 10.0
LOOK_S = 5.0
NAMES_SHOWN_MAX = 50

S = TypeVar("S", bound=Struct)


class Summarize(Struct, frozen=True, forbid_unknown_fields=True):
    title: Annotated[
        str, Meta(min_length=1, max_length=TITLE_CHARS_MAX, description="What it is about, in a few words")
    ]
    text: Annotated[
        str,
        Meta(min_length=1, max_length=ENTRY_CHARS_MAX, description="What to remember, to be understood by itself"),
    ]
    public: Annotated[bool, Meta(description="true: for everybody in the project; false: for this user alone")]


class GetDataOnScreen(Struct, frozen=True, forbid_unknown_fields=True):
    data: Annotated[list[str], Meta(max_length=100, description="Names of the things on the screen")]


CONTEXT = ToolSpec(
    "context",
    "What is on the user's screen, and what the knowledge base says about the question.",
    NO_ARGUMENTS,
    repeat=Repeat.PURE,
    toolset=TOOLSET,
    timeout_s=CONTEXT_S,
    offered=Offered.NEVER,
)
SUMMARIZE = ToolSpec(
    "summarize",
    "Write something into the knowledge base, to be recalled in later conversations. Use it only when the user asks "
    "you to remember or store something; not to sum up an answer. Set public only if the user wants everybody to know.",
    schema_of(Summarize),
    repeat=Repeat.IDEMPOTENT,
    toolset=TOOLSET,
    timeout_s=REMEMBER_S,
    examples=(
        "Remember that the payments cluster is in Frankfurt",
        "Keep in mind that deploys happen on Tuesdays",
        "Store this in the knowledge base",
        "Do not forget that my favourite colour is blue",
    ),
    keywords=("remember", "memorize", "forget", "mind", "knowledge", "store", "keep", "learn"),
)
GET_DATA_ON_SCREEN = ToolSpec(
    "get_data_on_screen",
    "Get things that are on the user's screen, by their names, each whole. The result of context tells which there "
    "are; with no names at all, this tool lists them without their values.",
    schema_of(GetDataOnScreen),
    repeat=Repeat.PURE,
    toolset=TOOLSET,
    timeout_s=LOOK_S,
    examples=("What do I see here?", "Explain what is on my screen", "What does this page show?"),
    keywords=("screen", "see", "page", "shown", "looking", "here", "this"),
    offered=Offered.ON_SCREEN,
)


def register_knowledge(registry: Registry, knowledge: KnowledgeBase, step: ContextStep) -> None:
    """Offer the tools on this knowledge base."""

    async def context(_: Arguments, context: CallContext) -> Told:
        return await step.find(context)

    async def remember(asked: Summarize, context: CallContext) -> str:
        return await summarize(knowledge, asked, context)

    async def look(asked: GetDataOnScreen, context: CallContext) -> str:
        return data_on_screen(asked, context)

    registry.register(CONTEXT, _telling(context))
    registry.register(SUMMARIZE, _telling(typed(Summarize, remember)))
    registry.register(GET_DATA_ON_SCREEN, typed(GetDataOnScreen, look))


async def summarize(knowledge: KnowledgeBase, asked: Summarize, context: CallContext) -> str:
    """The same call again writes the same entry: its id comes of the call's key."""
    if not asked.public and not context.owner:
        raise ToolFailed("A private memory must belong to somebody, and this call is nobody's; set public.")
    if asked.public and not context.wide:
        raise ToolFailed(
            "Only somebody who may change what belongs to the whole project (resources:write) writes for everybody; "
            "set public to false, and it is kept for this user.",
            code="denied",
        )
    digits = hashlib.sha256(msgspec.json.encode((context.project, context.key))).hexdigest()
    await knowledge.remember(
        KnowledgeEntry(
            context.project,
            f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:32]}",
            asked.text,
            asked.title,
            asked.public,
            EntryRole.ASSISTANT,
            owner=context.owner,
            owner_name=context.owner_name,
        )
    )
    whom = "everybody in the project" if asked.public else "this user"
    return msgspec.json.encode({"message": f"It is in the knowledge base now, for {whom}."}).decode()


def data_on_screen(asked: GetDataOnScreen, context: CallContext) -> str:
    """The things of those names as JSON; of all of them names and descriptions if none was named."""
    items = context.screen.items
    if not items:
        raise ToolFailed("Nothing is known of what the user sees; ask them.")
    if not asked.data:
        listed = [{"name": item.name, "description": item.description} for item in items]
        return msgspec.json.encode({"data": listed}).decode()
    wanted = set(asked.data)
    found = [
        {"name": item.name, "description": item.description, "value": value_of(item)}
        for item in items
        if item.name in wanted
    ]
    if not found:
        names = ", ".join(ascii(item.name[:100]) for item in items[:NAMES_SHOWN_MAX])
        raise ToolFailed(f"Nothing on the screen is called so. There is: {names}.")
    return msgspec.json.encode({"data": found}).decode()


def _telling(run: Callable[[Arguments, CallContext], Awaitable[str | Told]]) -> Run:
    """The model is told why it could not be done, in the words that a caller would be told."""

    async def told(arguments: Arguments, context: CallContext) -> str | Told:
        try:
            return await run(arguments, context)
        except ToolFailed:
            raise
        except DragomanError as error:
            raise ToolFailed(error.detail, internal=error.internal) from None

    return told
