"""What a managed resource may hold, how a change is put into it, and what makes its name unique. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from dragoman.core.errors import BadRequest
from dragoman.core.resources import (
    Change,
    Content,
    Feedback,
    Header,
    Integration,
    Quickstart,
    Rule,
    Skill,
)

NAME_CHARS_MAX = 200
DESCRIPTION_CHARS_MAX = 2000
RULE_CHARS_MAX = 10_000
SKILL_BODY_BYTES_MAX = 65_535
PROMPT_CHARS_MAX = 10_000
JSON_CHARS_MAX = 32_000
"""Of a free-form part."""
APPLICATIONS_MAX = 16
APPLICATION_CHARS_MAX = 64
ALLOWED_TOOLS_MAX = 100
HEADERS_MAX = 20
URL_CHARS_MAX = 2000
HEADER_VALUE_CHARS_MAX = 4096
COMMENT_CHARS_MAX = 4000
TARGET_CHARS_MAX = 200
PRIORITY_MAX = 1_000_000

AUTH_HEADERS = ("authorization", "x-api-key", "api-key", "x-auth-token", "x-grafana-api-key", "x-ch-auth-api-token")
"""One of them must be there if everybody in the project is to use a server: nobody's own login stands in for it."""

_COMMAND = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]+")

C = TypeVar("C", bound=Content)


class Kind(Struct, frozen=True):
    """`most`: so many wide ones in a project, and so many of one owner's own."""

    name: str
    most: int
    decoder: "msgspec.json.Decoder[Any]"


KINDS: dict[type[Any], Kind] = {
    Rule: Kind("rule", 100, msgspec.json.Decoder(Rule)),
    Skill: Kind("skill", 100, msgspec.json.Decoder(Skill)),
    Quickstart: Kind("quickstart", 100, msgspec.json.Decoder(Quickstart)),
    Integration: Kind("integration", 50, msgspec.json.Decoder(Integration)),
}


def check(content: Content, *, wide: bool) -> None:
    """Raises BadRequest on what may not be. Values of headers are sealed by now: see `check_headers`."""
    match content:
        case Rule():
            _check_rule(content)
        case Skill():
            _check_skill(content)
        case Quickstart():
            _text("prompt", content.prompt, PROMPT_CHARS_MAX, needed=True)
            _text("title", content.title, NAME_CHARS_MAX)
            _json("list of context items", content.context_items, list)
        case Integration():
            _check_integration(content, wide=wide)


def check_feedback(feedback: Feedback) -> None:
    """Raises BadRequest."""
    if feedback.rating not in (1, -1):
        raise BadRequest("The rating must be 1 or -1.")
    _text("kind of the target", feedback.target_kind, TARGET_CHARS_MAX, needed=True)
    _text("id of the target", feedback.target_id, TARGET_CHARS_MAX, needed=True)
    _text("comment", feedback.comment, COMMENT_CHARS_MAX)
    _json("metadata", feedback.metadata, dict)


def check_headers(headers: Iterable[Header]) -> None:
    """As they come from outside, before their values are sealed. Raises BadRequest."""
    for header in headers:
        if _HEADER_NAME.fullmatch(header.name) is None:
            raise BadRequest("A custom header's name has 1 to 100 letters, digits and signs such as - and _.")
        value = "kept" if header.value is None else header.value
        if len(value) > HEADER_VALUE_CHARS_MAX or _HEADER_VALUE.fullmatch(value) is None:
            raise BadRequest(
                f"The value of the custom header {header.name} must be 1 to {HEADER_VALUE_CHARS_MAX} printable ASCII"
                " characters."
            )


def changed(content: C, change: Change, *, at: float, by: str) -> C:
    """The content with what the change names. A header without a value keeps the one it has. Raises BadRequest."""
    named: dict[str, Any] = {
        field: value for field in change.__struct_fields__ if (value := getattr(change, field)) is not UNSET
    }
    if isinstance(content, Skill) and "command" in named:
        command = named["command"]
        named |= {"command_since": at if command else 0.0, "command_by": by if command else ""}
        if command == content.command:
            named |= {"command_since": content.command_since, "command_by": content.command_by}
    if isinstance(content, Integration) and "headers" in named:
        kept = {header.name.lower(): header for header in content.headers}
        named["headers"] = tuple(_kept_value(header, kept) for header in named["headers"])
    return replace(content, **named)


def key_of(content: Content, *, owner: str, wide: bool) -> str:
    """What must be unique: a skill's command, among the wide ones and among each owner's own."""
    if not isinstance(content, Skill) or not content.command:
        return ""
    return command_key(content.command, owner=owner, wide=wide)


def command_key(command: str, *, owner: str, wide: bool) -> str:
    return f"wide /{command.lower()}" if wide else f"own /{command.lower()} of {owner}"


# -- each kind -------------------------------------------------------------------------------------------------------


def _check_rule(rule: Rule) -> None:
    _text("name", rule.name, NAME_CHARS_MAX, needed=True)
    _text("rule's text", rule.content, RULE_CHARS_MAX, needed=True)
    _text("description", rule.description, DESCRIPTION_CHARS_MAX)
    _applications(rule.applications)
    if abs(rule.priority) > PRIORITY_MAX:
        raise BadRequest(f"The priority must lie between -{PRIORITY_MAX} and {PRIORITY_MAX}.")


def _check_skill(skill: Skill) -> None:
    _text("name", skill.name, NAME_CHARS_MAX, needed=True)
    _text("body", skill.body, SKILL_BODY_BYTES_MAX, needed=True)
    if (size := len(skill.body.encode())) > SKILL_BODY_BYTES_MAX:
        raise BadRequest(f"The body has {size} bytes; at most {SKILL_BODY_BYTES_MAX} are taken.")
    if skill.command and _COMMAND.fullmatch(skill.command) is None:
        raise BadRequest(
            "A command's name has 1 to 64 letters, digits, -, _ or ., and begins and ends with a letter or digit."
        )
    _count("allowed tools", len(skill.allowed_tools), ALLOWED_TOOLS_MAX)
    for allowed in skill.allowed_tools:
        _text("integration of an allowed tool", allowed.integration, NAME_CHARS_MAX, needed=True)
        _text("name of an allowed tool", allowed.tool, NAME_CHARS_MAX, needed=True)
    _json("list of context items", skill.context_items, list)


def _check_integration(integration: Integration, *, wide: bool) -> None:
    _text("name", integration.name, NAME_CHARS_MAX, needed=True)
    _text("description", integration.description, DESCRIPTION_CHARS_MAX)
    if integration.type != "mcp":
        raise BadRequest("The type of an integration must be mcp.")
    _applications(integration.applications)
    url = _json("configuration", integration.configuration, dict).get("url")
    if url not in (None, ""):
        _check_url(url)
    _count("custom headers", len(integration.headers), HEADERS_MAX)
    names = [header.name.lower() for header in integration.headers]
    if len(set(names)) < len(names):
        raise BadRequest("One custom header is named twice.")
    for header in integration.headers:
        if header.value is None:
            raise BadRequest(f"The custom header {header.name} has no value, and none is kept.")
    if wide and url and not any(name in AUTH_HEADERS for name in names):
        raise BadRequest(
            f"A server for the whole project needs one of these custom headers: {', '.join(AUTH_HEADERS)}."
        )


def _check_url(url: Any) -> None:
    if not isinstance(url, str) or len(url) > URL_CHARS_MAX:
        raise BadRequest(f"The URL must be text of at most {URL_CHARS_MAX} characters.")
    try:
        parts = urlsplit(url)
        host, secret = parts.hostname, "@" in parts.netloc
    except ValueError:
        host, secret, parts = None, False, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise BadRequest("The URL must begin with http:// or https:// and name a host.")
    if secret:
        raise BadRequest("The URL must hold no password; send it as a custom header, whose value is kept secret.")


def _kept_value(header: Header, kept: Mapping[str, Header]) -> Header:
    return kept.get(header.name.lower(), header) if header.value is None else header


# -- parts -----------------------------------------------------------------------------------------------------------


def _text(noun: str, text: str, chars_max: int, *, needed: bool = False) -> None:
    if needed and not text.strip():
        raise BadRequest(f"The {noun} is missing.")
    if len(text) > chars_max:
        raise BadRequest(f"The {noun} has {len(text)} characters; at most {chars_max} are taken.")


def _count(noun: str, count: int, most: int) -> None:
    if count > most:
        raise BadRequest(f"There are {count} {noun}; at most {most} are taken.")


def _applications(applications: tuple[str, ...]) -> None:
    _count("applications", len(applications), APPLICATIONS_MAX)
    for application in applications:
        _text("name of an application", application, APPLICATION_CHARS_MAX, needed=True)


def _json(noun: str, text: str, shape: type[Any]) -> Any:
    """The value; an empty one for "". Raises BadRequest if it is too long or of another shape."""
    _text(noun, text, JSON_CHARS_MAX)
    value = msgspec.json.decode(text) if text else shape()
    if not isinstance(value, shape):
        raise BadRequest(f"The {noun} must be a JSON {'object' if shape is dict else 'array'}.")
    return value
