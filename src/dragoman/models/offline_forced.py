"""What the offline router says when it is told which tool to call. Pure.

It knows what it is asked for by the tool, and by the shape of its arguments where many tools share one:

    a title                                the first words of the conversation
    scores of documents                    how many of the question's words each holds
    one list of texts                      the ids of those lines of the last message that share words with the question
    one text, after tools were called      what the tools said: the closing of a loop (`core.agents.Loop`)
    anything else                          what the question gives, and values that say nothing for the rest
"""

import re
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from msgspec import Struct

from dragoman.core.agents import JsonSchema, ToolSpec
from dragoman.core.messages import Message
from dragoman.models.offline_arguments import fill
from dragoman.models.offline_reading import read, split_name, stems
from dragoman.models.words import last_asked
from dragoman.runtime import scoring, titles

TITLE_WORDS_MAX = 8
TITLE_CHARS_MAX = 80
PICKED_MAX = 30

_ROLE = re.compile(r"^(?:user|assistant|tool): ")
_DOCUMENTS = re.compile(r"<DocumentsToScore>\n(.*)\n</DocumentsToScore>", re.DOTALL)
_ALWAYS_PICKED = ("@timestamp", "message")
"""Fields that hardly any search does without."""
_NOTHING: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False, "array": [], "object": {}}


class _Document(Struct, frozen=True):
    id: str
    text: str
    title: str = ""


class _Line(Struct, frozen=True):
    field: str
    id: str


_documents = msgspec.json.Decoder(list[_Document])
_line = msgspec.json.Decoder(_Line)


def arguments_for(tool: ToolSpec, messages: Sequence[Message], answer: str) -> dict[str, Any]:
    """Arguments that fit the tool's schema. `answer` is what the turn's results come to, "" if there are none."""
    if tool.name == titles.TOOL.name:
        return {"title": title(last_asked(messages))}
    if tool.name == scoring.SCORE_SUGGESTIONS.name:
        return {"scores": scores(messages)}
    only, schema = _only_required(tool.parameters)
    kind = schema.get("type")
    if kind == "array" and (lines := _lines(last_asked(messages))):
        return {only: picked(lines, messages)}
    if kind == "string" and answer:
        return {only: answer}
    return _filled(tool.parameters, last_asked(messages))


def title(text: str) -> str:
    """The first words of what was said first."""
    first = _ROLE.sub("", next((line for line in text.splitlines() if line.strip()), ""))
    words = first.split()
    kept = " ".join(words[:TITLE_WORDS_MAX])[:TITLE_CHARS_MAX].rstrip(" ,;:.?!-")
    return kept + "…" if len(words) > TITLE_WORDS_MAX else kept


def scores(messages: Sequence[Message]) -> str:
    """A line for each document that stands in the system message."""
    system = next((message.full_text for message in messages if message.role == "system"), "")
    match = _DOCUMENTS.search(system)
    try:
        documents = _documents.decode(match[1].replace("<\\/", "</")) if match else []
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        documents = []
    asked = last_asked(messages)
    return "\n".join(
        f"{each.id},{round(scoring.SCORE_MAX * share(asked, f'{each.title} {each.text}'))}" for each in documents
    )


def share(asked: str, text: str) -> float:
    """The part of a question's words that a text holds, from 0 to 1."""
    words = set(stems(asked))
    return len(words & set(stems(text))) / len(words) if words else 0.0


def picked(lines: Sequence[_Line], messages: Sequence[Message]) -> list[str]:
    """The ids of the fields that share most words with what people asked before; at first those of every search."""
    users = [message.text for message in messages if message.role == "user"]
    asked = set(stems(" ".join(users[:-1])))
    scored: list[tuple[int, int, str]] = []
    for at, line in enumerate(lines):
        name = line.field.partition(":")[0]
        common = len(asked & set(stems(split_name(name))))
        if common or name in _ALWAYS_PICKED:
            scored.append((-common, at, line.id))
    return [id for _, _, id in sorted(scored)[:PICKED_MAX]]


def _lines(text: str) -> list[_Line]:
    """Those lines that are JSON objects with a field and its id."""
    lines: list[_Line] = []
    for line in text.splitlines():
        try:
            lines.append(_line.decode(line))
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            continue
    return lines


def _only_required(parameters: JsonSchema) -> tuple[str, JsonSchema]:
    """The one required property, ("", {}) if there are several or none."""
    required: Any = parameters.get("required")
    properties: Any = parameters.get("properties")
    names = cast("list[str]", required) if isinstance(required, list) else []
    if len(names) != 1 or not isinstance(properties, dict):
        return "", {}
    schema = cast("dict[str, Any]", properties).get(names[0])
    return (names[0], cast("JsonSchema", schema)) if isinstance(schema, dict) else ("", {})


def _filled(parameters: JsonSchema, asked: str) -> dict[str, Any]:
    """What the question gives; a required argument that it does not give says nothing."""
    filled = fill(parameters, read(asked))
    properties: dict[str, Any] = parameters.get("properties") or {}
    empty = {name: _nothing(properties[name]) for name in filled.missing}
    return {name: (filled.arguments | empty)[name] for name in properties if name in filled.arguments or name in empty}


def _nothing(schema: JsonSchema) -> Any:
    if "default" in schema:
        return schema["default"]
    choices: Any = schema.get("enum")
    if isinstance(choices, list) and choices:
        return cast("list[Any]", choices)[0]
    kind: Any = schema.get("type")
    return _NOTHING.get(kind, "") if isinstance(kind, str) else ""
