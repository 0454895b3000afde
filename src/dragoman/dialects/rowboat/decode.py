"""Chat requests -> turns (rowboat spec 1.1, 2, 3.1).

Both spellings of every key of a message are understood, and null wherever a key may be absent (Q1, Q3, Q4); unknown
keys mean nothing. What is wrong is collected, so that one answer names all of it.
"""

import re
from collections.abc import Mapping
from datetime import date
from typing import Any, cast

from msgspec import Struct

from dragoman.core.errors import BadRequest, NotAuthenticated, NotFound
from dragoman.core.messages import ToolCall
from dragoman.core.names import CONVERSATION_ID_CHARS_MAX, CallId, ConversationId
from dragoman.core.operations import StartTurn
from dragoman.core.workflows import WorkflowWanted
from dragoman.dialects.rowboat import issues
from dragoman.dialects.rowboat.generations import Generation, fields_of, generation_of
from dragoman.dialects.rowboat.issues import MISSING, Issue, Path
from dragoman.dialects.rowboat.messages import Told, core_messages, opening_of
from dragoman.wire.dialect import Request

ORIGIN = "rowboat"

NO_BEARER = "Authorization header must be a Bearer token"
NO_KEY = "Missing API key in request"
BAD_KEY = "Invalid API key"

CONVERSATION_DIGITS = 24
"""Of an id that is made here: as many as an ObjectId has."""
NAME_CHARS_MAX = 256
"""Of an agent's or a tool's name, and of a call's id."""
ID_CHARS_MAX = 128
"""Of a workflow's or a test profile's id; a longer one names nothing."""
MOCKS_MAX = 200
MOCK_CHARS_MAX = 20_000
"""Tools whose results are invented in one turn, and code points of what each goes by."""
TOKENS_MAX = 2**53
"""Counts beyond it are no counts: JSON numbers are exact up to there."""

PRECHECK_BYTES_MAX = 64 * 1024
"""A longer body is not looked at for who has no key."""
ROLES = ("system", "user", "assistant", "tool")
VISIBLE = ("internal", "external")

_SCHEME = "Bearer "
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,9})?)?Z", re.ASCII)


class Asked(Struct, frozen=True):
    """What a body says. `mocks` and `conversation` are empty if it does not say."""

    generation: Generation
    messages: tuple[Told, ...]
    state: Any = None
    workflow: str = ""
    test_profile: str = ""
    mocks: dict[str, str] = {}
    conversation: str = ""


def credential(headers: Mapping[str, str]) -> str:
    """What follows `Bearer ` up to the next blank, as the live system splits it. Raises NotAuthenticated."""
    text = headers.get("authorization", "")
    if not text.startswith(_SCHEME):
        raise NotAuthenticated(NO_BEARER)
    secret = text[len(_SCHEME) :].partition(" ")[0]
    if not secret:
        raise NotAuthenticated(NO_KEY)
    if not secret.isascii():
        raise NotAuthenticated(BAD_KEY)
    return secret


def project(request: Request) -> str:
    return request.params.get("projectId", "")


def precheck(request: Request) -> None:
    """Q10: G2 faults the body before the key. Raises BadRequest for what is recognisably G2 and malformed; all else is
    G1's, which asks for the key first. So does a body that is large: nobody has proven anything yet."""
    if len(request.body) > PRECHECK_BYTES_MAX:
        return
    try:
        fields = fields_of(request)
    except BadRequest:
        return
    if generation_of(fields).strict:
        _read(fields, Generation.G2)


# -- turns -------------------------------------------------------------------------------------------------------------


def g1(request: Request) -> StartTurn:
    """The whole history; who speaks next is told by `state`, and anything unusable there means the start (Q14)."""
    asked = asked_of(request)
    return _stateless(request, asked, last=last_agent(asked.state))


def g15(request: Request) -> StartTurn:
    """The whole history, which also tells who speaks next."""
    return _stateless(request, asked_of(request), last=None)


def g2(request: Request) -> StartTurn:
    """What is new in a conversation that is kept."""
    asked = asked_of(request)
    return _kept(request, asked, asked.conversation)


def ambiguous(request: Request) -> StartTurn:
    """The start of a conversation that may be gone on with in either way."""
    return _kept(request, asked_of(request), "")


def _stateless(request: Request, asked: Asked, *, last: str | None) -> StartTurn:
    """Nothing of it is kept: the caller has it all (decision 0046)."""
    opening = opening_of(asked.messages)
    return StartTurn(
        ConversationId(f"{ORIGIN}:{request.nonce}"),
        core_messages(asked.messages[opening is not None :]),
        instructions=(opening,) if opening and opening.strip() else (),
        deltas=False,
        ephemeral=True,
        origin=ORIGIN,
        workflow=_wanted(asked, last),
    )


def _kept(request: Request, asked: Asked, conversation: str) -> StartTurn:
    return StartTurn(
        ConversationId(conversation or request.nonce[:CONVERSATION_DIGITS]),
        core_messages(asked.messages),
        deltas=False,
        must_exist=bool(conversation),
        origin=ORIGIN,
        workflow=_wanted(asked, None),
    )


def _wanted(asked: Asked, last: str | None) -> WorkflowWanted:
    return WorkflowWanted(asked.workflow, asked.test_profile, last, asked.mocks)


def last_agent(state: Any) -> str:
    """Who spoke last as a state has it; "" if it does not say."""
    name = cast("dict[str, Any]", state).get("last_agent_name") if isinstance(state, dict) else None
    return name if isinstance(name, str) and len(name) <= NAME_CHARS_MAX else ""


def used_tokens(state: Any) -> tuple[int, int, int]:
    """Total, prompt, completion as a state has them; zeros if it does not say, or says something else."""
    tokens = cast("dict[str, Any]", state).get("tokens") if isinstance(state, dict) else None
    if not isinstance(tokens, dict):
        return 0, 0, 0
    counts = [cast("dict[str, Any]", tokens).get(name) for name in ("total", "prompt", "completion")]
    good = [count for count in counts if isinstance(count, int) and not isinstance(count, bool)]
    if len(good) < len(counts) or not all(0 <= count <= TOKENS_MAX for count in good):
        return 0, 0, 0
    return good[0], good[1], good[2]


# -- bodies ------------------------------------------------------------------------------------------------------------


def asked_of(request: Request) -> Asked:
    """Raises BadRequest, naming every fault; NotFound for an id that can name nothing."""
    return asked_in(fields_of(request))


def asked_in(fields: Mapping[str, Any]) -> Asked:
    asked = _read(fields, generation_of(fields))
    _check_id(asked.workflow, what="workflow", detail="Workflow not found")
    _check_id(asked.test_profile, what="test_profile", detail="Test profile not found")
    if len(asked.conversation) > CONVERSATION_ID_CHARS_MAX or "\0" in asked.conversation:
        raise NotFound("Conversation not found", what="conversation")
    return asked


def _read(fields: Mapping[str, Any], generation: Generation) -> Asked:
    """What the body says, whether or not its ids can name anything: that is told only to who may ask."""
    body = _Body(fields, timed=generation.strict)
    messages = body.messages()
    workflow, test_profile = body.text("workflowId"), body.text("testProfileId")
    mocks = body.mocks()
    conversation = body.text("conversationId")
    body.flag("stream")
    if body.faults:
        raise issues.invalid(body.faults, silent=generation.strict)
    return Asked(generation, messages, fields.get("state"), workflow, test_profile, mocks, conversation)


def _check_id(text: str, *, what: str, detail: str) -> None:
    """Q13: whatever cannot be an id is not found."""
    if len(text) > ID_CHARS_MAX or "\0" in text:
        raise NotFound(detail, what=what)


class _Body:
    """Reads a body member by member. `faults` is what was wrong so far; what is returned in its place means nothing.

    `timed`: messages may have a `timestamp`, which must be one then.
    """

    def __init__(self, fields: Mapping[str, Any], *, timed: bool) -> None:
        self._fields = fields
        self._timed = timed
        self.faults: list[Issue] = []

    def text(self, name: str) -> str:
        """Empty if it is null or not there."""
        value = self._fields.get(name)
        if value is None or isinstance(value, str):
            return value or ""
        self.faults.append(issues.wrong_type((name,), "string", value))
        return ""

    def flag(self, name: str) -> None:
        value = self._fields.get(name)
        if value is not None and not isinstance(value, bool):
            self.faults.append(issues.wrong_type((name,), "boolean", value))

    def mocks(self) -> dict[str, str]:
        value = self._fields.get("mockTools")
        if value is None:
            return {}
        mocks = self._object(("mockTools",), value)
        if mocks is None:
            return {}
        if len(mocks) > MOCKS_MAX:
            self.faults.append(issues.too_big(("mockTools",), "tools", len(mocks), MOCKS_MAX))
            return {}
        for name, text in mocks.items():
            path: Path = ("mockTools", name[: issues.SHOWN_CHARS_MAX])
            if not isinstance(text, str):
                self.faults.append(issues.wrong_type(path, "string", text))
            elif max(len(name), len(text)) > MOCK_CHARS_MAX:
                self.faults.append(issues.too_big(path, "characters", max(len(name), len(text)), MOCK_CHARS_MAX))
        return mocks

    def messages(self) -> tuple[Told, ...]:
        value = self._fields.get("messages", MISSING)
        if not isinstance(value, list):
            self.faults.append(issues.wrong_type(("messages",), "array", value))
            return ()
        told = [self._message(("messages", at), each) for at, each in enumerate(cast("list[Any]", value))]
        return tuple(each for each in told if each is not None)

    def _message(self, path: Path, value: Any) -> Told | None:
        fields = self._object(path, value)
        if fields is None:
            return None
        role = fields.get("role", MISSING)
        at = self._time(path, fields)
        match role:
            case "system" | "user":
                return Told(role, self._required(path, fields, "content"), at=at)
            case "assistant":
                return self._assistant(path, fields, at)
            case "tool":
                return self._result(path, fields, at)
            case _:
                self.faults.append(issues.none_of((*path, "role"), ROLES, role))
                return None

    def _assistant(self, path: Path, fields: Mapping[str, Any], at: str) -> Told:
        sender = self._name(path, fields, "agenticSender", "agentName", "agenticName")
        content = fields.get("content")
        calls_key = _key_of_calls(fields)
        if content is None and calls_key:
            # Camel case has no such field with calls (rowboat spec 2).
            self._visible(path, fields, required=calls_key == "tool_calls" and "toolCalls" not in fields)
            calls = self._calls((*path, calls_key), fields[calls_key])
            return Told("assistant", calls=calls, sender=sender, internal=True, at=at)
        # Where there is a text, calls beside it mean nothing (rowboat spec 1.1).
        text = self._required(path, fields, "content")
        internal = self._visible(path, fields, required=True) == "internal"
        return Told("assistant", text, sender=sender, internal=internal, at=at)

    def _result(self, path: Path, fields: Mapping[str, Any], at: str) -> Told:
        content = fields.get("content", MISSING)
        text = "" if content is None else self._required(path, fields, "content")
        key = "toolCallId" if fields.get("toolCallId") is not None else "tool_call_id"
        call_id = self._short((*path, key), fields.get(key, MISSING))
        return Told(
            "tool", text, call_id=CallId(call_id), tool=self._name(path, fields, "tool_name", "toolName"), at=at
        )

    def _calls(self, path: Path, value: Any) -> tuple[ToolCall, ...]:
        if not isinstance(value, list):
            self.faults.append(issues.wrong_type(path, "array", value))
            return ()
        return tuple(self._call((*path, at), each) for at, each in enumerate(cast("list[Any]", value)))

    def _call(self, path: Path, value: Any) -> ToolCall:
        call = self._object(path, value)
        function = None if call is None else self._object((*path, "function"), call.get("function", MISSING))
        if call is None or function is None:
            return ToolCall(CallId(""), "", "")
        if call.get("type", "function") != "function":
            self.faults.append(issues.none_of((*path, "type"), ("function",), call["type"]))
        return ToolCall(
            CallId(self._short((*path, "id"), call.get("id", MISSING))),
            self._short((*path, "function", "name"), function.get("name", MISSING)),
            self._required((*path, "function"), function, "arguments"),
        )

    # -- members ---------------------------------------------------------------------------------------------------

    def _object(self, path: Path, value: Any) -> dict[str, Any] | None:
        if isinstance(value, dict):
            return cast("dict[str, Any]", value)
        self.faults.append(issues.wrong_type(path, "object", value))
        return None

    def _required(self, path: Path, fields: Mapping[str, Any], name: str) -> str:
        value = fields.get(name, MISSING)
        if isinstance(value, str):
            return value
        self.faults.append(issues.wrong_type((*path, name), "string", value))
        return ""

    def _short(self, path: Path, value: Any) -> str:
        """A name or an id that must be there."""
        if not isinstance(value, str):
            self.faults.append(issues.wrong_type(path, "string", value))
            return ""
        if len(value) > NAME_CHARS_MAX:
            self.faults.append(issues.too_big(path, "characters", len(value), NAME_CHARS_MAX))
        return value

    def _name(self, path: Path, fields: Mapping[str, Any], *spellings: str) -> str:
        """The first that is there; "" if none is."""
        for name in spellings:
            if (value := fields.get(name)) is not None:
                return self._short((*path, name), value)
        return ""

    def _visible(self, path: Path, fields: Mapping[str, Any], *, required: bool) -> str:
        for name in ("agenticResponseType", "responseType"):
            if (value := fields.get(name)) is not None:
                if value not in VISIBLE:
                    self.faults.append(issues.none_of((*path, name), VISIBLE, value))
                return str(value)
        if required:
            name = "responseType" if "responseType" in fields else "agenticResponseType"
            self.faults.append(issues.none_of((*path, name), VISIBLE, fields.get(name, MISSING)))
        return ""

    def _time(self, path: Path, fields: Mapping[str, Any]) -> str:
        value = fields.get("timestamp")
        if isinstance(value, str) and _is_time(value):
            return value
        if self._timed and value is not None:
            self.faults.append(issues.not_a_time((*path, "timestamp"), value))
        return ""


def _is_time(text: str) -> bool:
    """ISO 8601 in UTC, of a day that there is in the calendar."""
    found = _TIME.fullmatch(text)
    if found is None:
        return False
    try:
        date.fromisoformat(found[1])
    except ValueError:
        return False
    return True


def _key_of_calls(fields: Mapping[str, Any]) -> str:
    """Under which name there are calls; "" if there are none. Of two lists the one that is not empty counts."""
    named = [name for name in ("tool_calls", "toolCalls") if fields.get(name) is not None]
    return next((name for name in named if fields[name]), named[0] if named else "")
