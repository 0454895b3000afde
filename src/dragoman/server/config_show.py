"""A config as people read it: every key path, its value as the file would spell it, secrets masked, and its origin."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from msgspec import Struct

from dragoman.server.config import DEFAULT_ORIGIN, Loaded
from dragoman.server.config_reading import fields_of
from dragoman.server.config_shapes import Seconds, Secret
from dragoman.server.quantities import show_duration

MASK = "***"


class Shown(Struct, frozen=True):
    """One key. `value` is TOML; `origin` is `default`, the file's path, or `$NAME` of a variable."""

    key: str
    value: str
    origin: str


def show(loaded: Loaded) -> tuple[Shown, ...]:
    """Every key of a loaded config, in the order of the tables."""
    return tuple(
        Shown(path, _toml(value), loaded.origins.get(path, DEFAULT_ORIGIN))
        for path, value in _values(loaded.config, "")
    )


def _values(value: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, Struct):
        tag = value.__struct_config__.tag
        if tag is not None:
            yield _join(path, str(value.__struct_config__.tag_field)), str(tag)
        for field in fields_of(type(value)):
            yield from _values(getattr(value, field.attribute), _join(path, field.key))
    elif isinstance(value, dict):
        for key, item in cast("Mapping[str, Any]", value).items():
            yield from _values(item, _join(path, key))
    else:
        yield path, value


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _toml(value: object) -> str:
    if isinstance(value, Secret):
        return f'"{MASK}"' if value else '""'
    if isinstance(value, Seconds):
        return f'"{show_duration(value)}"'
    return json.dumps(value, ensure_ascii=False)
