"""What can go wrong with an OpenAI-compatible server, said in the words of our error tree.

`detail` names what a person can do about it and nothing of ours; `internal` has the status and the beginning of what
the server said, with our secrets blotted out.
"""

import base64
import html
import json
import math
import re
from collections.abc import Iterable, Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import cast
from urllib.parse import quote

from dragoman.core.errors import BackendFailed
from dragoman.core.names import Clock

EXCERPT_CHARS_MAX = 500
"""So much of a server's words goes into the log."""

EXCERPT_READ_MAX = 16 * 1024
"""So much of them is looked at for it: what is blotted out makes room for more."""

SECRET_CHARS_MIN = 6
"""Shorter values are not blotted out: they would tear holes into every text and protect nothing."""
SCHEMES = ("bearer", "basic", "apikey", "api-key", "key", "token")
"""What may stand before the credential in a header."""

BLOT = "[secret]"

Said = bytes | bytearray

_SEPARATORS = re.compile(r"[\s,;]+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
"""Line ends and terminal commands: the words of a server must not look like further lines of our log."""

QUOTA_SPENT = "insufficient_quota"
"""OpenAI's code, sent with status 429, for an account without credit: waiting does not help."""


class Faults:
    """Makes the errors of one model."""

    def __init__(self, *, secrets: Iterable[str], clock: Clock) -> None:
        spelled = {form for secret in secrets for part in _parts(secret) for form in _spellings(part)}
        # Longest first: one secret may be the beginning of another.
        self._secrets = sorted(spelled, key=len, reverse=True)
        self._longest = max(map(len, spelled), default=0)
        self._clock = clock

    def excerpt(self, said: Said | str) -> str:
        """The beginning of what a server said, fit for the log."""
        cut = said[:EXCERPT_READ_MAX]
        text = cut if isinstance(cut, str) else cut.decode("utf-8", "replace")
        for secret in self._secrets:
            text = text.replace(secret, BLOT)
        if len(text) < EXCERPT_CHARS_MAX + self._longest:  # its end, where we or the network cut it, may be shown
            text = self._without_half(text)
        return _CONTROLS.sub(" ", text)[:EXCERPT_CHARS_MAX]

    def _without_half(self, text: str) -> str:
        """Without the beginning of a secret that the text breaks off in."""
        for secret in self._secrets:
            for chars in range(min(len(secret) - 1, len(text)), SECRET_CHARS_MIN - 1, -1):
                if text.endswith(secret[:chars]):
                    return text[:-chars] + BLOT
        return text

    def unreachable(self, why: str, *, detail: str = "") -> BackendFailed:
        return BackendFailed(
            detail or "The model server could not be reached. Check that it runs and that the model's url is right.",
            code="upstream_unreachable",
            retryable=True,
            internal=self.excerpt(why),
        )

    def idle(self, detail: str) -> BackendFailed:
        return BackendFailed(detail, code="upstream_idle", retryable=True, internal="timeout")

    def endless(self, detail: str) -> BackendFailed:
        """It spoke, and for too long: asked again it would do the same."""
        return BackendFailed(detail, code="upstream_idle", internal="timeout of the whole reply")

    def truncated(self, why: str) -> BackendFailed:
        return BackendFailed(
            "The model's answer broke off before its end. Ask again.",
            code="upstream_truncated",
            retryable=True,
            internal=self.excerpt(why),
        )

    def too_long(self, what: str, *, most: int, unit: str) -> BackendFailed:
        return BackendFailed(
            f"The model's {what} is over our limit of {most} {unit}. Ask for less at once.", code="upstream_too_long"
        )

    def malformed(self, why: str, said: Said) -> BackendFailed:
        """Something broke the reply on its way, or the server wrote it badly: it may go well next time."""
        return BackendFailed(
            "The model server sent a reply that cannot be read. Ask again.",
            code="upstream_malformed",
            retryable=True,
            internal=f"{self.excerpt(why)}: {self.excerpt(said)}",
        )

    def no_chat(self, why: str, said: Said) -> BackendFailed:
        """What answers there is no chat API at all."""
        return BackendFailed(
            "What the model server sent is not a chat reply. Check that the model's url is that of an "
            "OpenAI-compatible API; it usually ends in /v1.",
            code="upstream_malformed",
            internal=f"{self.excerpt(why)}: {self.excerpt(said)}",
        )

    def reported(self, error: object, said: Said) -> BackendFailed:
        """An error object inside a reply of status 200. Its `code` is taken for a status if it looks like one."""
        code = cast("dict[str, object]", error).get("code") if isinstance(error, dict) else None
        if isinstance(code, int) and 400 <= code <= 599:
            return self.status(code, "", said)
        return BackendFailed(
            "The model server reported a fault of its own. Try again in a moment.",
            code="upstream_failed",
            retryable=True,
            internal=self.excerpt(said),
        )

    def status(self, status: int, retry_after: str, said: Said) -> BackendFailed:
        """An HTTP status other than success; `retry_after` is that header, "" if it is absent."""
        internal = f"status {status}: {self.excerpt(said)}"
        wait_s = self.retry_after_s(retry_after)
        if status == 429:
            spent = QUOTA_SPENT.encode() in said
            detail = (
                "The account at the model server has no credit left. Check its plan and billing."
                if spent
                else f"The model server is asked too often. Try again in {math.ceil(wait_s)} s."
                if wait_s
                else "The model server is asked too often. Try again in a moment."
            )
            return BackendFailed(
                detail, code="upstream_limited", retryable=not spent, retry_after_s=wait_s, internal=internal
            )
        if status >= 500 or status in (408, 409):
            return BackendFailed(
                f"The model server could not answer just now (status {status}). Try again in a moment.",
                code="upstream_failed",
                retryable=True,
                retry_after_s=wait_s,
                internal=internal,
            )
        return BackendFailed(_refusal(status), code="upstream_refused", internal=internal)

    def retry_after_s(self, value: str) -> float | None:
        """RFC 9110, section 10.2.3: seconds or an HTTP date. None for anything else."""
        try:
            seconds = float(value)
        except ValueError:
            try:
                at = parsedate_to_datetime(value)
            except (ValueError, OverflowError):
                return None
            if at.tzinfo is None:
                at = at.replace(tzinfo=UTC)
            seconds = at.timestamp() - self._clock.now()
        return max(0.0, seconds) if math.isfinite(seconds) else None


def _parts(secret: str) -> Iterator[str]:
    """A secret, and what of it a server may show by itself: the credential without its scheme, and of Basic what it
    stands for; the value of each cookie."""
    words = _SEPARATORS.split(secret)
    parts = [secret, *(word.partition("=")[2] for word in words)]
    if len(words) == 2 and words[0].lower() in SCHEMES:
        parts.append(words[1])
        try:
            login = base64.b64decode(words[1], validate=True).decode()
        except ValueError:
            login = ""
        parts += (login, login.partition(":")[2])
    yield from (part for part in parts if len(part) >= SECRET_CHARS_MIN)


def _spellings(secret: str) -> Iterator[str]:
    """As it is, and as JSON (with or without `\\/`), HTML and URLs write it."""
    as_json = json.dumps(secret)[1:-1]
    yield from (secret, as_json, as_json.replace("/", "\\/"), html.escape(secret), quote(secret, safe=""))


def _refusal(status: int) -> str:
    if status in (401, 403):
        return "The model server did not accept our key. Check the model's key in the configuration."
    if status == 404:
        return "The model server knows no such path or model. Check the model's url and name in the configuration."
    if status == 413:
        return "This conversation is too long for the model server. Start a new one or send less."
    if 300 <= status < 400:
        return f"The model server has moved (status {status}). Set the model's url to where it is now."
    return f"The model server refused the question (status {status}). The log says what it said."
