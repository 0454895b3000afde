"""Results about managed resources -> replies (WIRE.md, Q22). No reply holds the value of a header."""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from dragoman.core import resources as res
from dragoman.dialects.grafana import resource_shapes as shapes
from dragoman.dialects.grafana.encode import success
from dragoman.dialects.grafana.resource_requests import KEPT
from dragoman.dialects.grafana.shapes import Pagination
from dragoman.dialects.grafana.times import rfc3339
from dragoman.wire.dialect import Reply, Request

NOT_CONNECTED = (
    "This server keeps the settings of MCP servers, but does not connect to them: nothing was checked, and the"
    " assistant does not have their tools."
)
TERMS_VERSION = 1
MILLION = 1_000_000


def created(encode: Callable[[res.Resource[Any]], object]) -> Callable[[res.Resource[Any], Request], Reply]:
    def answer(resource: res.Resource[Any], request: Request) -> Reply:
        return success(encode(resource), status=201)

    return answer


def shown(encode: Callable[[res.Resource[Any]], object]) -> Callable[[res.Resource[Any], Request], Reply]:
    def answer(resource: res.Resource[Any], request: Request) -> Reply:
        return success(encode(resource))

    return answer


# -- each kind -------------------------------------------------------------------------------------------------------


def rule(resource: res.Resource[res.Rule]) -> shapes.Rule:
    content = resource.content
    return shapes.Rule(
        id=resource.id,
        created=rfc3339(resource.created_at),
        modified=rfc3339(resource.updated_at),
        createdBy=resource.created_by,
        updatedBy=resource.updated_by,
        userId=_user(resource),
        name=content.name,
        description=content.description,
        ruleContent=content.content,
        enabled=content.enabled,
        priority=content.priority,
        scope=_scope(resource),
        applications=content.applications,
    )


def skill(resource: res.Resource[res.Skill]) -> shapes.Skill:
    content = resource.content
    callable_ = bool(content.command)
    return shapes.Skill(
        id=resource.id,
        name=content.name,
        body=content.body,
        commandName=content.command or UNSET,
        commandEnabledAt=rfc3339(content.command_since) if callable_ else UNSET,
        commandEnabledBy=content.command_by if callable_ else UNSET,
        created=rfc3339(resource.created_at),
        createdBy=resource.created_by,
        modified=rfc3339(resource.updated_at),
        updatedBy=resource.updated_by,
        userId=_user(resource),
        version=resource.version,
        includeInKnowledgebase=content.known,
        contextItems=_raw(content.context_items),
        allowedTools=tuple(shapes.AllowedTool(tool.integration, tool.tool) for tool in content.allowed_tools),
        scope=_scope(resource),
    )


def quickstart(resource: res.Resource[res.Quickstart]) -> shapes.Quickstart:
    content = resource.content
    return shapes.Quickstart(
        id=resource.id,
        created=rfc3339(resource.created_at),
        modified=rfc3339(resource.updated_at),
        createdBy=resource.created_by,
        updatedBy=resource.updated_by,
        userId=_user(resource),
        title=content.title,
        prompt=content.prompt,
        contextItems=_raw(content.context_items),
        enabled=content.enabled,
        scope=_scope(resource),
    )


def integration(resource: res.Resource[res.Integration]) -> shapes.Integration:
    content = resource.content
    return shapes.Integration(
        id=resource.id,
        created=rfc3339(resource.created_at),
        modified=rfc3339(resource.updated_at),
        createdBy=resource.created_by,
        updatedBy=resource.updated_by,
        userId=_user(resource),
        name=content.name,
        description=content.description,
        type=content.type,
        enabled=content.enabled,
        scope=_scope(resource),
        applications=content.applications,
        configuration=Raw(content.configuration),
        customHeaders=tuple(shapes.KeyedHeader(header.name, KEPT) for header in content.headers),
        custom_headers=tuple(shapes.NamedHeader(header.name, KEPT) for header in content.headers),
    )


def integration_written(resource: res.Resource[res.Integration]) -> shapes.IntegrationWritten:
    whole = integration(resource)
    return shapes.IntegrationWritten(**msgspec.structs.asdict(whole), integration=whole)


# -- lists -----------------------------------------------------------------------------------------------------------


def rules(page: res.ResourcePage[res.Rule], request: Request) -> Reply:
    return success(shapes.Rules(tuple(map(rule, page.items)), _pagination(page), page.total))


def skills(page: res.ResourcePage[res.Skill], request: Request) -> Reply:
    return success(shapes.Skills(tuple(map(skill, page.items)), _pagination(page), page.total))


def quickstarts(page: res.ResourcePage[res.Quickstart], request: Request) -> Reply:
    return success(shapes.Quickstarts(tuple(map(quickstart, page.items)), _pagination(page), page.total))


def integrations(page: res.ResourcePage[res.Integration], request: Request) -> Reply:
    return success(shapes.Integrations(tuple(map(integration, page.items)), _pagination(page), page.total))


# -- the rest --------------------------------------------------------------------------------------------------------


def deleted(gone: res.ResourceGone, request: Request) -> Reply:
    return success(shapes.ResourceDeleted(gone.id))


def validated(resource: res.Resource[res.Integration], request: Request) -> Reply:
    return success(shapes.Validation(shapes.ValidationResult("error", NOT_CONNECTED)))


def terms(said: res.Terms, request: Request) -> Reply:
    return success(shapes.Terms(said.accepted, TERMS_VERSION if said.accepted else 0, TERMS_VERSION))


def prompt_limit(usage: res.PromptUsage, request: Request) -> Reply:
    return success(shapes.PromptLimit(usage.turns, usage.limit, usage.month))


def token_limits(limits: res.TokenLimits, request: Request) -> Reply:
    return success(
        shapes.TokenLimits(
            stackTotalMtok=limits.project // MILLION,
            perUserDefaultMtok=limits.person // MILLION,
            serviceAccountPoolMtok=limits.services // MILLION,
            teams=(),
        )
    )


def feedback_given(kept: res.FeedbackKept, request: Request) -> Reply:
    return success(shapes.FeedbackGiven(kept.id))


def nothing(result: object, request: Request) -> Reply:
    """For rows whose `decode` always refuses."""
    return success({})


# -- parts -----------------------------------------------------------------------------------------------------------


def _scope(resource: res.Resource[Any]) -> shapes.Scope:
    return "tenant" if resource.wide else "user"


def _user(resource: res.Resource[Any]) -> str:
    return "" if resource.wide else resource.owner


def _raw(text: str) -> Raw | UnsetType:
    return Raw(text) if text else UNSET


def _pagination(page: res.ResourcePage[Any]) -> Pagination:
    return Pagination(page.total, page.limit, page.offset)
