"""What an outside system said, without what was secret in the headers that it was sent: some tell what they were asked
with, and what they say goes to models, to callers and onto tapes. Pure."""

import json
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

from dragoman.core.errors import ToolFailed

BLOT = "[secret]"
SECRET_CHARS_MIN = 12
"""Shorter values are words as well: to blot them out would tear holes into every text and protect nothing."""

_PLAIN = frozenset({"accept", "accept-language", "content-type", "user-agent"})
"""Headers that hold no secret."""

Headers = Sequence[tuple[str, str]]


def blot(text: str, secrets: Sequence[str]) -> str:
    """The text without the secrets, which come `longest_first`."""
    for secret in secrets:
        text = text.replace(secret, BLOT)
    return text


def longest_first(forms: Iterable[str], *, chars_min: int) -> list[str]:
    """Each once, without those that are too short: one may be the beginning of another."""
    return sorted({form for form in forms if len(form) >= chars_min}, key=len, reverse=True)


def without_secrets(text: str, headers: Headers) -> str:
    """Values of headers, and what stands behind a scheme such as `Bearer`, as they are and as JSON writes them."""
    return blot(text, _forms(headers))


@contextmanager
def blotted(headers: Headers) -> Generator[None]:
    """What is raised inside as ToolFailed says no secret either."""
    try:
        yield
    except ToolFailed as error:
        detail = without_secrets(error.detail, headers)
        internal = without_secrets(error.internal, headers)
        if (detail, internal) == (error.detail, error.internal):
            raise
        raise ToolFailed(detail, code=error.code, internal=internal) from None


def _forms(headers: Headers) -> list[str]:
    values = [value for name, value in headers if name.lower() not in _PLAIN]
    texts = {text for value in values for text in (value, value.partition(" ")[2])}
    return longest_first(
        (form for text in texts for form in (text, json.dumps(text)[1:-1])), chars_min=SECRET_CHARS_MIN
    )
