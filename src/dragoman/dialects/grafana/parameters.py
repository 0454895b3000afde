"""What rows read from the query string and from headers, as the document of this API tells it."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from dragoman.dialects.grafana.decode import CURSOR_FIELD, LIMIT_MAX, MAIN_THREAD, NUMBER_MAX
from dragoman.dialects.grafana.resource_requests import PAGE_MAX, SCOPE_HEADER
from dragoman.wire.dialect import Parameter


def needing(shape: type, *fields: str) -> Any:
    """The shape, of which a creation needs these texts: to `decode` they are optional, so that it says so itself."""
    texts = {field: {"type": "string", "minLength": 1} for field in fields}
    return Annotated[shape, Meta(extra_json_schema={"required": list(fields), "properties": texts})]


_Offset = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
_Count = Annotated[int, Meta(ge=1)]
_Cursor = Annotated[str, Meta(pattern=r"^[0-9]{1,16}(\.[1-9][0-9]{0,15})?$")]

_OFFSET = Parameter("offset", "How many to leave out at the beginning", _Offset)

CHATS = (
    Parameter("source", "Where a chat began: one source, several with commas between them, or all"),
    Parameter("limit", "How many to show", Annotated[int, Meta(ge=1, le=LIMIT_MAX)]),
    _OFFSET,
    Parameter("includeArchived", "Whether archived chats are shown too", bool),
    Parameter("archivedOnly", "Whether only archived chats are shown", bool),
)
THREAD = (Parameter("thread", f"Only {MAIN_THREAD} is there, which is the default"),)
EVENTS = (
    Parameter("Last-Event-ID", "The id of the last event you have; what came after it is sent", _Cursor, "header"),
    Parameter(CURSOR_FIELD, "The same, for callers that cannot send headers", _Cursor),
)
RESOURCES = (
    Parameter("scope", "Only yours, or only the project's", Literal["user", "tenant"]),
    Parameter("limit", f"How many to show; at most {PAGE_MAX} come", _Count),
    _OFFSET,
)
RESOURCE_SCOPE = (
    Parameter(
        SCOPE_HEADER, "The scope that the resource has now; one of the other is not meant", RESOURCES[0].shape, "header"
    ),
)
ACCOUNTS = (
    Parameter("query", "Text that the name holds"),
    Parameter("disabled", "Only those that are disabled, or only those that are not", bool),
    Parameter("page", "Which page, from 1", _Count),
    Parameter("perpage", "How many are on a page", _Count),
)
A2A = (
    Parameter("X-A2A-Extensions", "URIs of the extensions the client knows, with commas between them", where="header"),
    Parameter("X-App-Source", "Which client asks: the source of chats it begins", where="header"),
    Parameter("Last-Event-ID", "Of tasks/resubscribe: the id of the last frame you have", _Cursor, "header"),
)
LOGIN = (
    Parameter("callback_port", "Where the program waits on this machine", int, required=True),
    Parameter("state", "What the program sent, and gets back", required=True),
    Parameter("code_challenge", "SHA-256 of the code verifier, in base64url", required=True),
    Parameter("code_challenge_method", "How the challenge was made", Literal["S256"], required=True),
    Parameter("device_name", "What the program calls its machine"),
    Parameter("scopes", "What the program asks for, with commas between them"),
)
