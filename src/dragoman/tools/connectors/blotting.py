"""What an outside system said, without the secrets that it was sent: some give back the headers of a request, and what
they say goes to callers, to models and onto tapes."""

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import quote, urlsplit

from msgspec.structs import replace

from dragoman.core.connectors import Executed
from dragoman.runtime.connectors import Opened
from dragoman.tools.blotting import blot, longest_first

SECRET_CHARS_MIN = 6
"""Shorter values are not blotted out: they would tear holes into every text and protect nothing."""


def without_secrets(executed: Executed, connector: Opened) -> Executed:
    """Secrets as they are, and as JSON and URLs write them."""
    forms = (form for text in _sent(connector) for form in (text, json.dumps(text)[1:-1], quote(text, safe="")))
    secrets = longest_first(forms, chars_min=SECRET_CHARS_MIN)
    if not secrets:
        return executed
    try:
        data = _blotted(executed.data, secrets)
    except RecursionError:
        data = None  # nested for our sake: nobody reads that
    return replace(
        executed,
        data=data,
        message=_blotted(executed.message, secrets),
        service_message=_blotted(executed.service_message, secrets),
    )


def _sent(connector: Opened) -> Iterator[str]:
    """Secrets, and what is made of them for the wire."""
    secrets = connector.secrets
    for text in _texts(secrets):
        yield text
        yield from text.split()  # a credential behind its scheme
        if text.startswith(("http://", "https://")):
            yield urlsplit(text).path
    if secrets.get("user") is not None:
        yield b64encode(f"{secrets['user']}:{secrets.get('password')}".encode()).decode()


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in cast("dict[str, object]", value).items():
            if name != "user":  # no secret: senders and addresses are often called so
                yield from _texts(each)
    elif isinstance(value, list):
        for each in cast("list[object]", value):
            yield from _texts(each)


def _blotted(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        return blot(value, secrets)
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        return {_blotted(name, secrets): _blotted(each, secrets) for name, each in table.items()}
    if isinstance(value, list | tuple):
        return [_blotted(each, secrets) for each in cast("list[Any]", value)]
    return value
