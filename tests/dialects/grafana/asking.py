"""A request as the edge hands it over."""

import json
from typing import Any

from dragoman.wire.dialect import Request

NONCE = "0123456789abcdef0123456789abcdef"


def request(
    body: Any = None,
    *,
    raw: bytes | None = None,
    chat: str = "c1",
    query: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> Request:
    data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
    params = {"chatId": chat}
    return Request("GET", "/", params, query or {}, headers or {}, data, "abcdef012345", NONCE, 1_700_000_000.0)
