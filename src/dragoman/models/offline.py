"""The model that is there when no language model is: a deterministic router. Fits `runtime.ports.Model`.

    it is told what to say?  ──yes──►  say just that (`Prompt.plain`)
      │ no
    it is told which tool to call?  ──yes──►  call it                                      (offline_forced)
      │ no
    the last message is a tool's result?  ──yes──►  answer from the results, by template   (offline_answers)
      │ no
    the question is about the conversation?  ──yes──►  answer from the history
      │ no
    it is told to remember something, and can?  ──yes──►  remember it, for who asks alone
      │ no
    another agent of the workflow fits it clearly better?  ──yes──►  hand over             (offline_handing)
      │ no
    a tool fits the question?  ──yes──►  call it, or say what it still needs               (offline_routing)
      │ no
    something that is known to the project shares words with it?  ──yes──►  quote it
      │ no
    other agents of the workflow found something out?  ──yes──►  quote the last of it
      │ no
    say what this is, what it can do, and how to get a language model

What the server looked up by itself before it asked (the `context` step) is background and no answer.

It never pretends: every answer in words ends with a line that says what it is. What it is told to say is the server's
own text, such as the result of a tool that is only played, and has no such line.
"""

import re
from collections.abc import AsyncGenerator, Sequence
from math import ceil
from typing import Any, cast

import msgspec
from msgspec import Struct

from dragoman.core.agents import ToolSpec
from dragoman.core.messages import Message, ToolCall, ToolResult
from dragoman.core.names import CallId
from dragoman.core.workflows import TARGET, TRANSFER
from dragoman.models import offline_handing as handing
from dragoman.models.offline_answers import Result, answer
from dragoman.models.offline_forced import arguments_for, share
from dragoman.models.offline_reading import Reading, read
from dragoman.models.offline_routing import Choice, Index
from dragoman.models.words import counted, in_words, last_asked
from dragoman.runtime.ports import Prompt, ReplyDone, ReplyPiece, TextPiece

NAME = "offline"
SIGNATURE = "(offline router: no language model is configured)"

INDEXES_KEPT_MAX = 32
"""Tool lists whose index is remembered; callers with tools of their own would fill memory otherwise."""

PIECES_MAX = 200
"""A longer answer comes in pieces of several words: each piece is an entry on the tape."""

TOOLS_NAMED_MAX = 20
QUOTED_CHARS_MAX = 500

BACKGROUND = "context"
"""The tool with which a turn's loop opens (elastic spec 4.2): nobody is offered it."""
KNOWN_SHARE_MIN = 0.5
"""A text that holds less of the question's words is not quoted."""
REMEMBERING = "summarize"
"""The tool that writes into the knowledge base (elastic spec 4.5)."""
TITLE_CHARS_MAX = 60
_REWRITING = "<ConversationHistory>"
"""Stands in the question for a search query (elastic spec 4.5)."""

_ASKED_BEFORE = re.compile(
    r"^\W*what\s+(?:did|have)\s+i\s+(?:just\s+)?(?:ask|asked|say|said|write|wrote|written)\b.*$"
    r"|^\W*what\s+was\s+my\s+(?:last|previous|first)\s+(?:question|message)\b.*$",
    re.IGNORECASE | re.DOTALL,
)
_MY_NAME = re.compile(r"^\W*(?:what(?:'s| is)\s+my\s+name|do\s+you\s+(?:know|remember)\s+my\s+name)\W*$", re.IGNORECASE)
_NAMED = re.compile(r"\b(?i:my\s+name\s+is|call\s+me)\s+([^\W\d_][\w'-]*(?:\s+[A-Z][\w'-]*)?)")
_REMEMBER = re.compile(
    r"^\W*(?:please\s+)?(?:remember|keep\s+in\s+mind|(?:do\s+not|don['’]t)\s+forget)(?:\s+that\b|\s*:)\s*(\w.*)$",
    re.IGNORECASE | re.DOTALL,
)


class Offline:
    """Chooses at most one tool a reply. The same prompt always gets the same reply."""

    def __init__(self) -> None:
        self._indexes: dict[tuple[int, ...], tuple[tuple[ToolSpec, ...], Index]] = {}

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        """See the port. Usage counts words; a name the caller gave is ignored."""
        said = prompt.plain or _forced(prompt) or self._decide(prompt)
        if isinstance(said, ToolCall):
            spoken = f"{said.name} {said.arguments}"
            yield ReplyDone("", (said,), counted(prompt.messages, spoken), "tool_calls", model_name=NAME)
            return
        text = said if prompt.plain or _is_rewriting(prompt) else f"{said}\n\n{SIGNATURE}"
        if stream:
            for piece in _pieces(text):
                yield TextPiece(piece)
        yield ReplyDone(text, usage=counted(prompt.messages, text), model_name=NAME)

    async def close(self) -> None: ...

    def _decide(self, prompt: Prompt) -> ToolCall | str:
        """A call to make, or what to say."""
        messages, tools = handing.heard(prompt.messages), handing.without_transfer(prompt.tools)
        asked = last_asked(messages)
        if _is_rewriting(prompt):
            return " ".join(asked.split())
        results, background = _results(messages)
        if results:
            return "\n\n".join(map(_told, results))
        remembered = _from_history(asked, messages)
        if remembered:
            return remembered
        if call := _to_remember(asked, prompt):
            return call
        reading = read(asked)
        choice = self._index(tools).choose(reading)
        if call := _to_hand_over(reading, prompt, choice):
            return call
        if choice is None:
            return _known(asked, background) or _passed_on(prompt.messages) or _abstain(tools)
        if choice.filled.missing:
            return _ask_for(choice)
        return _call(prompt, choice.tool, _flags_said(choice.tool) | choice.filled.arguments)

    def _index(self, tools: tuple[ToolSpec, ...]) -> Index:
        # By identity: specs hold schemas, which cannot be hashed. The entry keeps them alive, so no id is used again.
        key = tuple(map(id, tools))
        known = self._indexes.get(key)
        if known is None:
            if len(self._indexes) >= INDEXES_KEPT_MAX:
                self._indexes.clear()
            known = self._indexes[key] = (tools, Index(tools))
        return known[1]


def _pieces(text: str) -> list[str]:
    words = in_words(text)
    size = ceil(len(words) / PIECES_MAX)
    return words if size == 1 else ["".join(words[at : at + size]) for at in range(0, len(words), size)]


def _call(prompt: Prompt, tool: ToolSpec, arguments: dict[str, Any]) -> ToolCall:
    number = 1 + sum(len(message.calls) for message in prompt.messages)
    return ToolCall(CallId(f"call_{number}"), tool.name, msgspec.json.encode(arguments).decode())


def _to_hand_over(reading: Reading, prompt: Prompt, choice: Choice | None) -> ToolCall | None:
    """The call that hands the question over to another agent, if one is clearly better placed."""
    targets = handing.untried(handing.targets_of(prompt.tools), prompt.messages)
    target = handing.chosen(reading, targets, choice.tool if choice else None)
    tool = next((tool for tool in prompt.tools if tool.name == TRANSFER), None)
    return _call(prompt, tool, {TARGET: target.name}) if target and tool else None


def _told(result: Result) -> str:
    """What a tool said, by template; what another agent reported, as it stands."""
    if result.tool != TRANSFER:
        return answer([result])
    return _unsigned(result.content).removeprefix(f"{result.arguments.get(TARGET)}: ")


def _passed_on(messages: Sequence[Message]) -> str:
    line = _unsigned(handing.last_said(messages))
    return f"This is what was found out before:\n\n{line}" if line else ""


def _unsigned(text: str) -> str:
    return text.replace(f"\n\n{SIGNATURE}", "")


def _to_remember(asked: str, prompt: Prompt) -> ToolCall | None:
    """The call that keeps what is to be remembered, if the server's own tool for that is offered."""
    found = _REMEMBER.match(asked)
    tool = next((tool for tool in prompt.tools if tool.name == REMEMBERING and tool.toolset), None)
    if found is None or tool is None:
        return None
    fact = found[1].strip()
    fact = fact[0].upper() + fact[1:]
    line = " ".join(fact.split())
    title = (
        line if len(line) <= TITLE_CHARS_MAX else line[:TITLE_CHARS_MAX].rpartition(" ")[0] or line[:TITLE_CHARS_MAX]
    )
    return _call(prompt, tool, {"title": title.rstrip(" .!,;"), "text": fact, "public": False})


def _forced(prompt: Prompt) -> ToolCall | None:
    """The call that it is told to make."""
    tool = next((tool for tool in prompt.tools if tool.name == prompt.choice), None)
    if tool is None:
        return None
    results, _ = _results(prompt.messages)
    said = f"{answer(results)}\n\n{SIGNATURE}" if results else ""
    return _call(prompt, tool, arguments_for(tool, prompt.messages, said))


def _flags_said(tool: ToolSpec) -> dict[str, Any]:
    """Of a caller's tool, the flags with what they are unless somebody says otherwise: not every client adds them."""
    properties: Any = {} if tool.toolset else tool.parameters.get("properties")
    if not isinstance(properties, dict):
        return {}
    schemas = cast("dict[str, Any]", properties)
    return {
        name: schema["default"]
        for name, schema in schemas.items()
        if isinstance(schema, dict) and isinstance(cast("dict[str, Any]", schema).get("default"), bool)
    }


def _is_rewriting(prompt: Prompt) -> bool:
    """Whether it is asked for a search query. The user's own words are one."""
    first = prompt.messages[0] if prompt.messages and not prompt.tools else None
    return first is not None and first.role == "system" and _REWRITING in first.full_text


def _known(asked: str, background: Sequence[Result]) -> str:
    """The best of what the project knows (`learnings`), if it has enough to do with the question; "" if nothing has."""
    texts: list[str] = []
    for result in background:
        try:
            texts += [each.text for each in _context.decode(result.content).learnings]
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            continue
    best = max(texts, key=lambda text: share(asked, text), default="")
    if not best or share(asked, best) < KNOWN_SHARE_MIN:
        return ""
    return f"This is what the knowledge base says:\n\n{best}"


class _Learning(Struct, frozen=True):
    text: str


class _Context(Struct, frozen=True):
    learnings: tuple[_Learning, ...] = ()


_context = msgspec.json.Decoder(_Context)


def _results(messages: Sequence[Message]) -> tuple[list[Result], list[Result]]:
    """This turn's tool results if the prompt ends with one, and apart from them what is background."""
    if not messages or messages[-1].role != "tool":
        return [], []
    start = max((at for at, message in enumerate(messages) if message.role == "user"), default=-1)
    calls = {call.id: call for message in messages[start + 1 :] for call in message.calls}
    results: list[Result] = []
    background: list[Result] = []
    for message in messages[start + 1 :]:
        for part in message.parts:
            if isinstance(part, ToolResult):
                call = calls.get(part.call_id)
                name, arguments = (call.name, _arguments(call)) if call else ("The tool", {})
                kind = background if name == BACKGROUND else results
                kind.append(Result(name, arguments, part.content, part.is_error))
    return results, background


def _arguments(call: ToolCall) -> dict[str, Any]:
    try:
        value: Any = msgspec.json.decode(call.arguments or "{}")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _from_history(asked: str, messages: Sequence[Message]) -> str:
    """The few questions about the conversation that need no understanding; "" for any other."""
    users = [message.text.strip() for message in messages if message.role == "user"]
    earlier = users[:-1]
    if _ASKED_BEFORE.match(asked):
        if not earlier:
            return "This is the first message of yours that I can see."
        first = "first" in asked.lower()
        return f"{'First' if first else 'Before this'} you wrote: {earlier[0 if first else -1][:QUOTED_CHARS_MAX]}"
    if _MY_NAME.match(asked):
        named = [found[1] for text in earlier for found in _NAMED.finditer(text)]
        return f"You wrote that your name is {named[-1]}." if named else "You have not told me your name."
    return ""


def _ask_for(choice: Choice) -> str:
    missing = " and ".join(f"`{name}`" for name in choice.filled.missing)
    example = next(iter(choice.tool.examples), "")
    hint = f' For example: "{example}".' if example else ""
    return (
        f"I would use `{choice.tool.name}` for this, but it needs {missing}, "
        f"and I cannot tell that from your words.{hint}"
    )


def _abstain(tools: Sequence[ToolSpec]) -> str:
    lines = ["I cannot answer that: I only match your words to tools, and none of them fits."]
    if tools:
        names = ", ".join(f"`{tool.name}`" for tool in tools[:TOOLS_NAMED_MAX])
        more = f" and {len(tools) - TOOLS_NAMED_MAX} more" if len(tools) > TOOLS_NAMED_MAX else ""
        lines.append(f"What I can do is call these tools: {names}{more}.")
        examples = list({tool.toolset: tool.examples[0] for tool in reversed(tools) if tool.examples}.values())[-3:][
            ::-1
        ]
        if examples:
            lines.append("Try: " + " · ".join(f'"{example}"' for example in examples))
    else:
        lines[0] = "I cannot answer that: I only match your words to tools, and there are none here."
    lines.append(
        "For real answers set up a language model: in dragoman.toml add a table [models.main] with "
        'kind = "openai", url and name, and restart the server.'
    )
    return "\n\n".join(lines)
