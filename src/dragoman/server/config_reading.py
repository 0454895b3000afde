"""From a TOML table to a struct: every key and value checked, every fault named by its key path, all at once.

Types it knows: str, bool, int and float (with msgspec.Meta bounds), Secret, Seconds, tuple[str, ...], dict[str, X],
object (whatever JSON can say), structs, and unions of structs told apart by their tag. Text from the environment is
read by the type it meets.
"""

import math
import re
import types
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Union, cast, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from dragoman.server.config_shapes import Seconds, Secret
from dragoman.server.quantities import parse_duration

NAME_CHARS_MAX = 64
TEXT_CHARS_MAX = 200_000

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{NAME_CHARS_MAX - 1}}}")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
"""A field name of RFC 9110, 5.1."""
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

_OF_THE_STORE = "store."
"""Every command that opens the store needs its secrets: they are resolved always, if their variables are set."""

PLACEHOLDERS = re.compile(
    r"<.*>|\.{3,}|x{3,}|\*{3,}"
    r"|(sk|glsa|drg)[-_](x{3,}|\.{3,}|your.*)"
    r"|(your|my)[-_ ]?(api|secret|access)?[-_ ]?(key|token|secret)|your[-_ ].*"
    r"|change[-_ ]?me|replace[-_ ]?(me|this)|insert[-_ ].*"
    r"|todo|fixme|placeholder|password|secret",
    re.IGNORECASE,
)
"""Values that stand in examples. Not among them: `none`, `empty`, `ollama` and the like, which local servers take."""


class FromEnvironment(str):
    """Text of an environment variable, to be read by the type it meets."""

    __slots__ = ()


class Field(Struct, frozen=True):
    """One key of a table: its name in the file, its name in Python, and its type."""

    key: str
    attribute: str
    type: Any
    required: bool


def fields_of(shape: type[Struct]) -> tuple[Field, ...]:
    return tuple(
        Field(
            info.encode_name,
            info.name,
            info.type,
            info.default is msgspec.NODEFAULT and info.default_factory is msgspec.NODEFAULT,
        )
        for info in msgspec.structs.fields(shape)
    )


def members_of(type_: Any) -> dict[str, type[Struct]]:
    """The structs of a tagged union by their tag; empty for any other type."""
    if get_origin(type_) not in (Union, types.UnionType):
        return {}
    return {str(member.__struct_config__.tag): member for member in get_args(type_)}


def is_struct(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, Struct)


class Faults(list[str]):
    """Sentences, each beginning with the key path it is about."""

    def add(self, path: str, sentence: str) -> None:
        self.append(f"{path}: {sentence}" if path else sentence)


class Reader:
    """Reads one tree. `literal_secrets` are the paths of secrets that stood in the file in clear."""

    def __init__(
        self, env: Mapping[str, str], *, resolve_secrets: bool, refused_kinds: Mapping[str, Mapping[str, str]]
    ) -> None:
        self._env = env
        self._resolve_secrets = resolve_secrets
        self._refused_kinds = refused_kinds
        self.faults = Faults()
        self.literal_secrets: list[str] = []

    def read(self, value: object, type_: Any, path: str) -> Any:
        """The value as `type_` wants it, or None after a fault was noted."""
        bounds: Meta | None = None
        if get_origin(type_) is Annotated:
            type_, bounds = get_args(type_)
        if is_struct(type_):
            return self._struct(value, type_, path)
        if members := members_of(type_):
            return self._member(value, members, path)
        origin = get_origin(type_)
        if origin is dict:
            return self._dict(value, get_args(type_)[1], path)
        if origin is tuple:
            return self._tuple(value, path)
        if type_ is Secret:
            return self._secret(value, path)
        if type_ is Seconds:
            return self._seconds(value, path)
        if type_ is str:
            return self._text(value, path)
        if type_ is bool:
            return self._bool(value, path)
        if type_ is object:
            return self._json(value, path)
        return self._number(value, type_, bounds, path)

    # -- tables ----------------------------------------------------------------------------------------------------

    def _table(self, value: object, path: str) -> dict[str, object] | None:
        if isinstance(value, dict):
            return cast("dict[str, object]", value)
        self.faults.add(path, f"is a table; write [{path}] and its keys below")
        return None

    def _struct(self, value: object, shape: type[Struct], path: str) -> Struct | None:
        table = self._table(value, path)
        if table is None:
            return None
        fields = {field.key: field for field in fields_of(shape)}
        tag = shape.__struct_config__.tag_field
        for key in table:
            if key not in fields and key != tag:
                self._unknown(key, [*fields, *([tag] if tag else [])], path)
        values: dict[str, object] = {}
        for field in fields.values():
            if field.key in table:
                read = self.read(table[field.key], field.type, _join(path, field.key))
                if read is not None:
                    values[field.attribute] = read
            elif field.required:
                self.faults.add(_join(path, field.key), "is missing")
        if any(field.required and field.attribute not in values for field in fields.values()):
            return None
        return shape(**values)

    def _member(self, value: object, members: dict[str, type[Struct]], path: str) -> Struct | None:
        table = self._table(value, path)
        if table is None:
            return None
        kind = table.get("kind")
        if not isinstance(kind, str):
            self.faults.add(_join(path, "kind"), f"is missing; known kinds are: {', '.join(members)}")
            return None
        if kind not in members:
            self._unknown_kind(kind, list(members), path)
            return None
        return self._struct(cast("object", table), members[kind], path)

    def _unknown_kind(self, kind: str, known: list[str], path: str) -> None:
        refused = self._refused_kinds.get(path.split(".", 1)[0], {})
        sentence = refused.get(kind) or f'there is no kind "{kind}"; {nearest(kind, known)}'
        self.faults.add(_join(path, "kind"), sentence)

    def _dict(self, value: object, type_: Any, path: str) -> dict[str, object] | None:
        table = self._table(value, path)
        if table is None:
            return None
        read: dict[str, object] = {}
        for name, item in table.items():
            if type_ is Secret and _HEADER.fullmatch(name) is None:
                self.faults.add(path, f'"{name}" cannot be the name of a header')
                continue
            if type_ is not Secret and _NAME.fullmatch(name) is None:
                self.faults.add(
                    path, f'"{name}" cannot be a name: letters, digits, ".", "_" and "-", {NAME_CHARS_MAX} at most'
                )
                continue
            found = self.read(item, type_, _join(path, name))
            if found is not None:
                read[name] = found
        return read

    def _unknown(self, key: str, known: list[str], path: str) -> None:
        where = f"[{path}]" if path else "the file"
        self.faults.add(_join(path, key), f"is not a key of {where}; {nearest(key, known)}")

    # -- values ----------------------------------------------------------------------------------------------------

    def _text(self, value: object, path: str) -> str | None:
        if not isinstance(value, str):
            return self._wrong(value, "text in quotes", path)
        if len(value) > TEXT_CHARS_MAX:
            self.faults.add(path, f"has {len(value)} characters; {TEXT_CHARS_MAX} at most")
            return None
        if _VARIABLE.fullmatch(value):
            self.faults.add(
                path, f"{value} stands only in secrets (key, headers); override this key with {variable(path)}"
            )
            return None
        return str(value)

    def _secret(self, value: object, path: str) -> Secret | None:
        if not isinstance(value, str):
            return self._wrong(value, "text in quotes", path)
        names = _VARIABLE.findall(value)
        missing = [name for name in names if name not in self._env]
        if missing and self._resolve_secrets:
            self.faults.add(path, f"the environment variable {missing[0]} is not set")
            return None
        if not names and value and not isinstance(value, FromEnvironment):
            self.literal_secrets.append(path)
        resolve = self._resolve_secrets or path.startswith(_OF_THE_STORE)
        text = _VARIABLE.sub(lambda match: self._env.get(match[1], match[0]), value) if resolve else value
        if PLACEHOLDERS.fullmatch(text.strip()):
            self.faults.add(path, "is a placeholder; put the real secret into the environment and write ${NAME}")
            return None
        if not text.isprintable():
            self.faults.add(path, "holds characters that cannot stand in a header, perhaps a line end")
            return None
        return Secret(text)

    def _seconds(self, value: object, path: str) -> Seconds | None:
        if not isinstance(value, str):
            return self._wrong(value, 'a duration with its unit, such as "5s" or "10m"', path)
        try:
            return Seconds(parse_duration(value))
        except ValueError as error:
            self.faults.add(path, str(error))
            return None

    def _bool(self, value: object, path: str) -> bool | None:
        if isinstance(value, FromEnvironment) and value.lower() in ("true", "false", "1", "0"):
            return value.lower() in ("true", "1")
        return value if isinstance(value, bool) else self._wrong(value, "true or false", path)

    def _json(self, value: object, path: str) -> object:
        """A value of any shape that can be sent on as JSON: TOML's dates, nan and inf cannot."""
        if isinstance(value, dict):  # whose keys are somebody else's names, such as those of a JSON Schema
            table = cast("dict[str, object]", value)
            return {name: self.read(item, object, _join(path, name)) for name, item in table.items()}
        if isinstance(value, list):
            return [self.read(item, object, path) for item in cast("list[object]", value)]
        if isinstance(value, str) and _VARIABLE.fullmatch(value):
            self.faults.add(path, f"{value} stands only in secrets (key, headers)")
            return None
        if isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
            return value
        return self._wrong(value, "something JSON can say", path)

    def _number(self, value: object, type_: Any, bounds: Meta | None, path: str) -> int | float | None:
        wanted = "a whole number" if type_ is int else "a number"
        if isinstance(value, FromEnvironment):
            try:
                value = type_(value.strip())
            except ValueError:
                return self._wrong(value, wanted, path)
        if isinstance(value, bool) or not isinstance(value, int | (float if type_ is float else int)):
            return self._wrong(value, wanted, path)
        low = -float("inf") if bounds is None or bounds.ge is None else bounds.ge
        high = float("inf") if bounds is None or bounds.le is None else bounds.le
        if not low <= value <= high:
            self.faults.add(path, f"is {value}; it must be {low:g} to {high:g}")
            return None
        return type_(value)

    def _tuple(self, value: object, path: str) -> tuple[str, ...] | None:
        if isinstance(value, FromEnvironment):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        if isinstance(value, list):
            items = cast("list[object]", value)
            texts = tuple(item for item in items if isinstance(item, str))
            if len(texts) == len(items):
                return texts
            return self._wrong(next(item for item in items if not isinstance(item, str)), "only texts", path)
        return self._wrong(value, 'a list of texts, such as ["a", "b"]', path)

    def _wrong(self, value: object, wanted: str, path: str) -> None:
        self.faults.add(path, f"must be {wanted}, not {_kind(value)}")


def variable(path: str) -> str:
    """The environment variable that overrides a key: `server.listen` -> `DRAGOMAN_SERVER_LISTEN`."""
    return "DRAGOMAN_" + re.sub(r"[^A-Za-z0-9]", "_", path).upper()


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def nearest(text: str, known: Iterable[str]) -> str:
    """How a sentence about an unknown name ends: with the nearest known one, or all of them."""
    known = tuple(known)
    near = get_close_matches(text, known, n=1)
    return f'did you mean "{near[0]}"?' if near else f"known are: {', '.join(known)}"


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return f'the text "{value[:40]}"'
    if isinstance(value, int | float):
        return "a number"
    return "a list" if isinstance(value, list) else "a table" if isinstance(value, dict) else "a date or time"
