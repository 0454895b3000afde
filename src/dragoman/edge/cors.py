"""Pages of other origins: which may call, and what their browsers must be told (CORS: Fetch standard, section 3.3).

Nothing here lets anybody in: a page needs a credential as every caller does, and sends it in a header. So no answer
allows credentials in the sense of that standard, which are cookies.
"""

import re
from collections.abc import Mapping, Sequence

from dragoman.edge.authenticate import RawHeaders
from dragoman.wire.dialect import Dialect, Reply

ANY_ORIGIN = "*"
EXPOSED = (
    "x-request-id, x-run-id, x-should-retry, idempotency-replayed, retry-after, location,"
    " x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset"
)
"""Headers of ours that a page may read."""
PREFLIGHT_S = 600
"""How long a browser may remember what it was allowed."""

_EXPOSE = (b"access-control-expose-headers", EXPOSED.encode())
OPEN_TO_ALL: RawHeaders = [(b"access-control-allow-origin", b"*"), _EXPOSE]
"""For an answer whose request carried its authority in its address: whoever has the address may read it."""

_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,1024}")


class Cors:
    """`origins` may call every dialect, those in `Dialect.cors` that one."""

    def __init__(self, origins: Sequence[str] = ()) -> None:
        self._origins = frozenset(origins)

    def headers(self, dialect: Dialect | None, asked: Mapping[str, str]) -> RawHeaders:
        """What the answer says to the page that asks; nothing if none does, or if it may not. A wire with headers of
        its own says them to everybody."""
        origin = asked.get("origin")
        if dialect is None:
            return []
        if dialect.cors_headers:
            own = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in dialect.cors_headers]
            return own if origin is None else [*own, _EXPOSE]
        if origin is None:
            return []
        if ANY_ORIGIN in self._origins or ANY_ORIGIN in dialect.cors:
            return OPEN_TO_ALL
        if origin in self._origins or origin in dialect.cors:
            return [(b"access-control-allow-origin", origin.encode("latin-1")), _EXPOSE, (b"vary", b"origin")]
        return []


def options(dialect: Dialect | None) -> Reply | None:
    """The answer to OPTIONS of a wire that says the same to every page; None if that depends on who asks."""
    return Reply(200, b"{}") if dialect is not None and dialect.cors_headers else None


def preflight(asked: Mapping[str, str], methods: Sequence[str]) -> Reply | None:
    """The answer to a browser that asks for a page, before the request itself, whether it may send it; None if it does
    not ask. To be given only to pages that may."""
    if "access-control-request-method" not in asked:
        return None
    headers = [
        ("access-control-allow-methods", ", ".join(methods)),
        ("access-control-max-age", str(PREFLIGHT_S)),
    ]
    # Whatever headers it wants to send: what we do not know means nothing to us.
    wanted = asked.get("access-control-request-headers", "")
    if _HEADER_NAMES.fullmatch(wanted):
        headers.append(("access-control-allow-headers", wanted))
    return Reply(204, media_type="", headers=tuple(headers))
