"""What an outside system said, without what was secret in the headers that it was sent: some tell what they were asked
with, and what they say goes to models, to callers and onto tapes. Pure."""

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from dragoman.core.errors import ToolFailed

BLOT = "[secret]"
SECRET_CHARS_MIN = 12
"""Shorter values are words as well: to blot them out would tear holes into every text and protect nothing."""

_PLAIN = frozenset({"accept", "accept-language", "content-type", "user-agent"})
"""Headers that hold no secret."""

Headers = Sequence[tuple[str, str]]


def without_secrets(text: str, headers: Headers) -> str:
    """Values of headers, and what stands behind a scheme such as `Bearer`, as they are and as JSON writes them."""
    for form in _forms(headers):
        text = text.replace(form, BLOT)
    return text


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
    """Longest first: one may be the beginning of another."""
    values = [value for name, value in headers if name.lower() not in _PLAIN]
    texts = {text for value in values for text in (value, value.partition(" ")[2])}
    forms = {form for text in texts for form in (text, json.dumps(text)[1:-1]) if len(text) >= SECRET_CHARS_MIN}
    return sorted(forms, key=len, reverse=True)
