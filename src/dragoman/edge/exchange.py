"""One request on its way: what is known of it so far, whether its answer has begun, and what every answer carries."""

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl

from starlette.types import Scope, Send

from dragoman.core.errors import BadRequest
from dragoman.edge.authenticate import Passed, RawHeaders
from dragoman.edge.routes import Mounted
from dragoman.runtime.fuses import blow
from dragoman.wire.dialect import Dialect, Reply, Request

SECURITY_HEADERS: RawHeaders = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
"""On every answer, also the ones that refuse."""

QUERY_FIELDS_MAX = 100

SINGLE_HEADERS = frozenset(("authorization", "content-length", "content-type", "host", "x-request-id"))

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}\Z")


class Exchange:
    __slots__ = (
        "base",
        "cors",
        "dialect",
        "entropy",
        "headers",
        "method",
        "mounted",
        "passed",
        "path",
        "replayed",
        "request",
        "request_id",
        "run",
        "should_retry",
        "status",
    )

    def __init__(self, scope: Scope, entropy: str, *, base: str, path: str) -> None:
        self.method: str = scope["method"]
        self.path = path
        self.base = base
        """What stood before `path` (`[server] base_path`), "" if nothing did."""
        self.entropy = entropy
        self.headers = headers_of(scope)
        given = self.headers.get("x-request-id", "").encode("latin-1")
        self.request_id = given if _REQUEST_ID.match(given) else entropy[32:44].encode()
        self.passed = Passed()
        self.dialect: Dialect | None = None
        self.mounted: Mounted | None = None
        self.request: Request | None = None
        self.status = 0
        self.cors: RawHeaders = []
        """What a browser must be told, so that the page which asks may see the answer."""
        self.run = ""
        """The run that this request began; its answer says so in `x-run-id`, whatever the wire."""
        self.replayed = False
        """It began nothing: it is a repeat of the request that began `run`."""
        self.should_retry: bool | None = None
        """Whether sending it again can help; None = the status says it well enough."""

    def response_headers(self, media_type: str, extra: Sequence[tuple[str, str]]) -> RawHeaders:
        own: RawHeaders = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in extra]
        said = {name for name, _ in own}
        return [
            *([(b"content-type", media_type.encode())] if media_type else []),
            (b"x-request-id", self.request_id),
            *([(b"x-run-id", self.run.encode())] if self.run else []),
            *([(b"idempotency-replayed", b"true")] if self.replayed else []),
            *(
                [(b"x-should-retry", b"true" if self.should_retry else b"false")]
                if self.should_retry is not None
                else []
            ),
            *(header for header in (*SECURITY_HEADERS, *self.passed.headers(), *self.cors) if header[0] not in said),
            *own,
        ]

    async def reply(self, reply: Reply, send: Send) -> None:
        """Send an answer that is whole."""
        headers = self.response_headers(reply.media_type, reply.headers)
        if reply.status != 204:  # RFC 9110, 8.6
            headers.append((b"content-length", b"%d" % len(reply.body)))
        self.status = reply.status
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if self.method == "HEAD" else reply.body})
        if self.run and reply.status < 300:
            blow("accept.after_2xx")


def query_of(scope: Scope) -> dict[str, str]:
    """The query string's parameters, percent-decoded; of repeated ones the last."""
    raw: bytes = scope["query_string"]
    if not raw:
        return {}
    try:
        return dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX))
    except ValueError as error:
        raise BadRequest(f"The query string has more than {QUERY_FIELDS_MAX} fields.") from error


def headers_of(scope: Scope) -> dict[str, str]:
    """The request's headers by lower-case name, without the blanks around their values. Repeated ones are joined, as
    RFC 9110 (5.3) has it, but for those that mean one thing: of these the first counts, as for a proxy."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1").strip(" \t")
        if name not in headers:
            headers[name] = value
        elif name not in SINGLE_HEADERS:
            headers[name] += ", " + value
    return headers
