"""Requests about managed resources -> operations (WIRE.md, Q22)."""

from collections.abc import Callable
from typing import Any, Never, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from dragoman.core import resources as res
from dragoman.core.errors import NotFound, NotOffered
from dragoman.core.operations import Operation
from dragoman.dialects.grafana import resource_shapes as shapes
from dragoman.dialects.grafana.decode import bad_field, body_of, offset_of
from dragoman.wire.dialect import Request

PAGE_MAX = 100
"""Clients page until a page is shorter than this."""
SCOPE_HEADER = "x-resource-scope"
"""Which scope the resource has now; one of the other scope is not the one that is meant."""
KEPT = "[redacted]"
"""Stands in answers for a header's value; sent back, it keeps the value that is there."""

_WIDE = {"user": False, "tenant": True}

C = TypeVar("C", bound=res.Content)
T = TypeVar("T")

# -- all kinds -------------------------------------------------------------------------------------------------------


def page_of(kind: type[C]) -> Callable[[Request], res.ListResources[C]]:
    """`?scope=`, `?limit=` (at most 100 come), `?offset=`."""

    def decode(request: Request) -> res.ListResources[C]:
        return res.ListResources(
            kind, _wide(request.query.get("scope", ""), "scope"), _limit(request), offset_of(request.query)
        )

    return decode


def one_of(kind: type[C]) -> Callable[[Request], res.ReadResource[C]]:
    def decode(request: Request) -> res.ReadResource[C]:
        return res.ReadResource(kind, request.params["id"])

    return decode


def deletion_of(kind: type[res.Content]) -> Callable[[Request], res.DeleteResource]:
    def decode(request: Request) -> res.DeleteResource:
        return res.DeleteResource(kind, request.params["id"], _was_wide(request))

    return decode


# -- rules -----------------------------------------------------------------------------------------------------------


def create_rule(request: Request) -> res.CreateResource[res.Rule]:
    asked = body_of(request, shapes.RuleRequest)
    rule = res.Rule(
        name=_needed(asked.name, "name"),
        content=_needed(asked.ruleContent, "ruleContent"),
        description=asked.description or "",
        enabled=_default(asked.enabled, True),
        priority=asked.priority or 0,
        applications=asked.applications or (),
    )
    return res.CreateResource(rule, _wide_or(asked.scope, False))


def change_rule(request: Request) -> res.ChangeResource[res.Rule]:
    asked = body_of(request, shapes.RuleRequest)
    change = res.RuleChange(
        name=_said(asked.name),
        content=_said(asked.ruleContent),
        description=_emptied(asked.description, ""),
        enabled=_said(asked.enabled),
        priority=_emptied(asked.priority, 0),
        applications=_emptied(asked.applications, ()),
    )
    return res.ChangeResource(res.Rule, request.params["id"], change, _new_wide(asked.scope), _was_wide(request))


# -- skills ----------------------------------------------------------------------------------------------------------


def create_skill(request: Request) -> res.CreateResource[res.Skill]:
    asked = body_of(request, shapes.SkillRequest)
    skill = res.Skill(
        name=_needed(asked.name, "name"),
        body=_needed(asked.body, "body"),
        known=_default(asked.includeInKnowledgebase, True),
        context_items=_default(_items(request, asked.contextItems), ""),
        allowed_tools=_allowed(asked.allowedTools or ()),
    )
    return res.CreateResource(skill, _wide_or(asked.scope, True))


def change_skill(request: Request) -> res.ChangeResource[res.Skill]:
    asked = body_of(request, shapes.SkillRequest)
    tools = _emptied(asked.allowedTools, ())
    change = res.SkillChange(
        name=_said(asked.name),
        body=_said(asked.body),
        known=_said(asked.includeInKnowledgebase),
        context_items=_items(request, asked.contextItems),
        allowed_tools=UNSET if tools is UNSET else _allowed(tools),
    )
    return res.ChangeResource(res.Skill, request.params["id"], change, _new_wide(asked.scope), _was_wide(request))


def change_command(request: Request) -> res.ChangeResource[res.Skill]:
    """A slash before the name is not part of it."""
    asked = body_of(request, shapes.SkillCommand)
    change = res.SkillChange(command=(asked.commandName or "").strip().removeprefix("/"))
    return res.ChangeResource(res.Skill, request.params["id"], change, None, _was_wide(request))


# -- quickstarts -----------------------------------------------------------------------------------------------------


def create_quickstart(request: Request) -> res.CreateResource[res.Quickstart]:
    asked = body_of(request, shapes.QuickstartRequest)
    quickstart = res.Quickstart(
        prompt=_needed(asked.prompt, "prompt"),
        title=asked.title or "",
        enabled=_default(asked.enabled, True),
        context_items=_default(_items(request, asked.contextItems), ""),
    )
    return res.CreateResource(quickstart, _wide_or(asked.scope, False))


def change_quickstart(request: Request) -> res.ChangeResource[res.Quickstart]:
    asked = body_of(request, shapes.QuickstartRequest)
    change = res.QuickstartChange(
        prompt=_said(asked.prompt),
        title=_emptied(asked.title, ""),
        enabled=_said(asked.enabled),
        context_items=_items(request, asked.contextItems),
    )
    return res.ChangeResource(res.Quickstart, request.params["id"], change, _new_wide(asked.scope), _was_wide(request))


# -- integrations ----------------------------------------------------------------------------------------------------


def create_integration(request: Request) -> res.CreateResource[res.Integration]:
    asked = body_of(request, shapes.IntegrationRequest)
    headers = _headers(asked)
    integration = res.Integration(
        name=_needed(asked.name, "name"),
        type=asked.type or "mcp",
        description=asked.description or "",
        enabled=_default(asked.enabled, True),
        applications=asked.applications or (),
        configuration=_json(asked.configuration or {}),
        headers=() if headers is UNSET else headers,
    )
    return res.CreateResource(integration, _wide_or(asked.scope, False))


def change_integration(request: Request) -> res.ChangeResource[res.Integration]:
    asked = body_of(request, shapes.IntegrationRequest)
    if asked.type not in (UNSET, None, "mcp"):
        raise bad_field("type", "must be mcp")
    change = res.IntegrationChange(
        name=_said(asked.name),
        description=_emptied(asked.description, ""),
        enabled=_said(asked.enabled),
        applications=_emptied(asked.applications, ()),
        configuration=UNSET if asked.configuration is UNSET else _json(asked.configuration or {}),
        headers=_headers(asked),
    )
    return res.ChangeResource(res.Integration, request.params["id"], change, _new_wide(asked.scope), _was_wide(request))


# -- the project's own -----------------------------------------------------------------------------------------------


def read_terms(request: Request) -> res.ReadTerms:
    return res.ReadTerms()


def accept_terms(request: Request) -> res.AcceptTerms:
    return res.AcceptTerms(body_of(request, shapes.TermsRequest).acceptedTermsAndConditions)


def prompt_usage(request: Request) -> res.ReadPromptUsage:
    return res.ReadPromptUsage()


def token_limits(request: Request) -> res.ReadTokenLimits:
    return res.ReadTokenLimits()


def give_feedback(request: Request) -> res.GiveFeedback:
    asked = body_of(request, shapes.FeedbackRequest)
    return res.GiveFeedback(
        res.Feedback(asked.targetKind, asked.targetId, asked.rating, asked.comment or "", _json(asked.metadata or None))
    )


# -- what is not offered ---------------------------------------------------------------------------------------------


def not_offered(sentence: str) -> Callable[[Request], Operation[Never]]:
    def decode(request: Request) -> Operation[Never]:
        raise NotOffered(sentence)

    return decode


def absent(sentence: str) -> Callable[[Request], Operation[Never]]:
    """For features that clients take 404 to mean the lack of."""

    def decode(request: Request) -> Operation[Never]:
        raise NotFound(sentence, what="feature")

    return decode


# -- parts of requests -----------------------------------------------------------------------------------------------


def _limit(request: Request) -> int:
    said = request.query.get("limit", "")
    if not said:
        return PAGE_MAX
    if not (said.isascii() and said.isdigit()) or not said.strip("0"):
        raise bad_field("limit", "must be a whole number from 1")
    return min(int(said[:16]), PAGE_MAX)


def _wide(said: str, field: str) -> bool | None:
    """None if nothing is said."""
    if not said:
        return None
    wide = _WIDE.get(said)
    if wide is None:
        raise bad_field(field, "must be user or tenant")
    return wide


def _was_wide(request: Request) -> bool | None:
    return _wide(request.headers.get(SCOPE_HEADER, "").strip().lower(), "X-Resource-Scope")


def _new_wide(scope: str | UnsetType | None) -> bool | None:
    return None if scope is UNSET or scope is None else _WIDE[scope]


def _wide_or(scope: str | UnsetType | None, default: bool) -> bool:
    wide = _new_wide(scope)
    return default if wide is None else wide


def _needed(value: str | UnsetType | None, field: str) -> str:
    if value is UNSET or not value:
        raise bad_field(field, "is required")
    return value


def _default(value: T | UnsetType | None, default: T) -> T:
    return default if value is UNSET or value is None else value


def _said(value: T | UnsetType | None) -> T | UnsetType:
    """For what cannot be empty: null says nothing."""
    return UNSET if value is None else value


def _emptied(value: T | UnsetType | None, empty: T) -> T | UnsetType:
    """For what can be empty: null makes it so."""
    return empty if value is None else value


def _json(value: Any) -> str:
    return "" if value is None else msgspec.json.encode(value).decode()


def _items(request: Request, said: list[Any] | UnsetType | None) -> str | UnsetType:
    """Letter by letter as sent: Terraform takes the same value, written in another way, for another one."""
    if said is UNSET or said is None:
        return _emptied(said, "")
    return bytes(msgspec.json.decode(request.body, type=shapes.ContextItems).contextItems).decode()


def _allowed(tools: tuple[shapes.AllowedTool, ...]) -> tuple[res.AllowedTool, ...]:
    return tuple(res.AllowedTool(tool.integrationId, tool.toolName) for tool in tools)


def _headers(asked: shapes.IntegrationRequest) -> tuple[res.Header, ...] | UnsetType:
    keyed, named = asked.customHeaders, asked.custom_headers
    if keyed is not UNSET:
        return tuple(_header(each.key, each.value) for each in keyed or ())
    if named is not UNSET:
        return tuple(_header(each.name, each.value) for each in named or ())
    return UNSET


def _header(name: str, value: str) -> res.Header:
    """A client that changes something else sends the name alone, or what it was shown."""
    return res.Header(name, None if value in ("", KEPT) else value)
