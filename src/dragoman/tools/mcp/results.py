"""Results of MCP servers' tools as text.

    as_items   a JSON list of content items, as workflows have it (rowboat spec 7.2)
    as_text    the texts alone, for models

Pictures and sounds are named and not carried: no model is shown them, and in text they are noise.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from dragoman.core.errors import ToolFailed

RESULT_BYTES_MAX = 1024 * 1024
ERROR_CHARS_MAX = 2_000

Item = dict[str, Any]
"""A content item as MCP has it: free-form, and only ever passed on."""


def items_of(result: Mapping[str, Any]) -> list[Item]:
    """The items of a `CallToolResult`. A result that is structured content alone is one item with its JSON text."""
    items = [_without_bytes(item) for item in cast("Sequence[Item]", result.get("content") or ())]
    structured = result.get("structuredContent")
    if not items and structured is not None:
        items = [{"type": "text", "text": msgspec.json.encode(structured).decode()}]
    return items


def as_items(items: Sequence[Item], *, of: str) -> str:
    """Raises ToolFailed if it is too long."""
    return _within(msgspec.json.encode(items), of=of)


def as_text(items: Sequence[Item], *, of: str) -> str:
    """Texts one below the other; of what is no text its JSON. Raises ToolFailed if it is too long."""
    texts = [_text(item) for item in items]
    return _within("\n\n".join(texts).encode("utf-8", "replace"), of=of)


def error_text(items: Sequence[Item]) -> str:
    """What a result that is an error says."""
    text = "\n\n".join(_text(item) for item in items).strip()
    return text if len(text) <= ERROR_CHARS_MAX else text[: ERROR_CHARS_MAX - 1] + "…"


def _text(item: Item) -> str:
    if item.get("type") == "text":
        return str(item.get("text", ""))
    resource = item.get("resource")
    if isinstance(resource, dict) and "text" in resource:
        return str(cast("Item", resource)["text"])
    return msgspec.json.encode(item).decode()


def _without_bytes(item: Item) -> Item:
    """`data` and `blob` are base64: what is left is how many bytes they stand for."""
    if isinstance(resource := item.get("resource"), dict):
        return item | {"resource": _without_bytes(cast("Item", resource))}
    for key in ("data", "blob"):
        if isinstance(text := item.get(key), str):
            rest = {name: value for name, value in item.items() if name != key}
            return rest | {"bytes": len(text.rstrip("=")) * 3 // 4}
    return item


def _within(body: bytes, *, of: str) -> str:
    if len(body) > RESULT_BYTES_MAX:
        raise ToolFailed(
            f"{of} answered with {len(body):,} bytes; at most {RESULT_BYTES_MAX:,} are taken. Ask for less at a time."
        )
    return body.decode()
