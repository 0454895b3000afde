"""What MCP servers say of their tools, and what of it counts.

A definition is text by somebody else that models read: it is cut, and characters that people do not see are taken out.
Its digest is of all that a model or we go by, as the server sent it, so that nothing of it can change unnoticed.
"""

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, cast

import msgspec
from msgspec import Struct

from dragoman.core.agents import JsonSchema, Repeat

TOOLS_MAX = 256
"""Of one server."""
DESCRIPTION_CHARS_MAX = 2_000
SCHEMA_BYTES_MAX = 64 * 1024
NAME_CHARS_MAX = 128
"""As MCP has it (2025-11-25, tool names)."""

COUNTED = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
"""The keys of a definition that its digest is made of."""

_UNSEEN = frozenset({"Cc", "Cf", "Co", "Cs"})
"""Control, format (text directions and tags among them), private, lone surrogate."""
_TOLD = ("title", "description")
_UNUSABLE = re.compile(r"[^A-Za-z0-9_-]")
_REGISTERED_CHARS_MAX = 64


class Definition(Struct, frozen=True, omit_defaults=True):
    """One tool. `description` and `parameters` are fit to be shown; `digest` is of what the server sent."""

    name: str
    digest: str
    description: str = ""
    parameters: JsonSchema = {}
    read_only: bool = False
    idempotent: bool = False

    @property
    def repeat(self) -> Repeat:
        """As its hints have it: whoever pins a tool vouches for them."""
        if self.read_only:
            return Repeat.PURE
        return Repeat.IDEMPOTENT if self.idempotent else Repeat.ONCE


class Difference(Struct, frozen=True):
    """`what`: new, changed or gone."""

    name: str
    what: str


def defined(sent: Mapping[str, Any]) -> Definition:
    """From a tool as a server sends it (MCP `Tool`)."""
    counted = {key: sent[key] for key in COUNTED if sent.get(key) is not None}
    hints: Mapping[str, Any] = counted.get("annotations", {})
    parameters = cast("JsonSchema", _clean_schema(counted.get("inputSchema", {})))
    return Definition(
        name=str(sent["name"]),
        digest=hashlib.sha256(msgspec.json.encode(counted, order="sorted")).hexdigest(),
        description=cut(clean(str(counted.get("description", "")))),
        parameters=parameters,
        read_only=hints.get("readOnlyHint") is True,
        idempotent=hints.get("idempotentHint") is True,
    )


def fault_of(definition: Definition) -> str:
    """Why a tool cannot be used; "" = it can."""
    if not definition.name or len(definition.name) > NAME_CHARS_MAX or clean(definition.name) != definition.name:
        return f"a name is 1 to {NAME_CHARS_MAX} characters that can be seen"
    if len(msgspec.json.encode(definition.parameters)) > SCHEMA_BYTES_MAX:
        return f"its parameters are more than {SCHEMA_BYTES_MAX // 1024} KiB"
    return ""


def allowed(patterns: Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def differences(before: Sequence[Definition], after: Sequence[Definition]) -> list[Difference]:
    """By name."""
    old = {each.name: each.digest for each in before}
    new = {each.name: each.digest for each in after}
    found = [Difference(name, "new") for name in new if name not in old]
    found += [Difference(name, "gone") for name in old if name not in new]
    found += [Difference(name, "changed") for name in new if name in old and old[name] != new[name]]
    return sorted(found, key=lambda each: each.name)


def registered_name(server: str, tool: str) -> str:
    """`{server}_{tool}`, in the letters that every provider takes. What had to be changed or cut gets a digest, so that
    two tools do not become one."""
    whole = f"{server}_{tool}"
    name = _UNUSABLE.sub("_", whole)
    if name == whole and len(name) <= _REGISTERED_CHARS_MAX:
        return name
    return f"{name[: _REGISTERED_CHARS_MAX - 9]}_{hashlib.sha256(whole.encode('utf-8', 'replace')).hexdigest()[:8]}"


def clean(text: str) -> str:
    """Without what people do not see; line ends and tabs stay."""
    return "".join(char for char in text if char in "\n\t" or unicodedata.category(char) not in _UNSEEN)


def cut(text: str) -> str:
    return text if len(text) <= DESCRIPTION_CHARS_MAX else text[: DESCRIPTION_CHARS_MAX - 1] + "…"


def _clean_schema(schema: object) -> object:
    if isinstance(schema, Mapping):
        items = cast("Mapping[str, object]", schema).items()
        return {
            key: cut(clean(value)) if key in _TOLD and isinstance(value, str) else _clean_schema(value)
            for key, value in items
        }
    if isinstance(schema, list):
        return [_clean_schema(each) for each in cast("list[object]", schema)]
    return schema
