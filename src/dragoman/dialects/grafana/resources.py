"""What people set up for the assistant: rules, skills, quickstarts, integrations; terms, limits and feedback; and what
this server does not have, each answered as clients understand it (specification 3.5, 3.6)."""

from collections.abc import Callable
from typing import Any, Never

from dragoman.core import resources as res
from dragoman.core.names import Scope
from dragoman.core.operations import Operation
from dragoman.dialects.grafana import parameters
from dragoman.dialects.grafana import resource_replies as replies
from dragoman.dialects.grafana import resource_requests as requests
from dragoman.dialects.grafana import resource_shapes as shapes
from dragoman.dialects.grafana.shapes import ErrorBody, Success
from dragoman.wire.dialect import Parameter, Reply, Request, Route

_SCOPES = (Scope.PLUGINS_APP_ACCESS, Scope.GRAFANA_CHATS_ACCESS)

_INVESTIGATIONS = "This server runs no investigations; ask the assistant in a chat instead."
_AUTOMATIONS = "This server runs nothing on a schedule; let a scheduler of your own post to /assistant/chats."
_OAUTH = "This server does not connect to MCP servers and cannot log in to them."
_SEARCH = "This server keeps no search index of your Grafana; ask the assistant, whose tools look things up."
_INVESTIGATIONS_V2 = "There are no investigations of version 2 here."
_WATCHERS = "There are no watcher agents here."


def routes(base: str) -> tuple[Route[Any], ...]:
    """The rows under `base`, which ends in `/v1`."""
    return (
        *_rule_routes(f"{base}/rules"),
        *_skill_routes(f"{base}/skills"),
        *_quickstart_routes(f"{base}/quickstarts"),
        *_integration_routes(f"{base}/integrations"),
        *_project_routes(base),
        *_missing_routes(base),
    )


def _rule_routes(path: str) -> tuple[Route[Any], ...]:
    one = f"{path}/{{id}}"
    return (
        _row(
            "GET",
            path,
            requests.page_of(res.Rule),
            replies.rules,
            "Rules: yours and the project's",
            gives=Success[shapes.Rules],
            asks=parameters.RESOURCES,
        ),
        _row(
            "POST",
            path,
            requests.create_rule,
            replies.created(replies.rule),
            "Add a rule: instructions that go with every question",
            takes=parameters.needing(shapes.RuleRequest, "name", "ruleContent"),
            gives=Success[shapes.Rule],
            status=201,
        ),
        _row("GET", one, requests.one_of(res.Rule), replies.shown(replies.rule), "A rule", gives=Success[shapes.Rule]),
        _row(
            "PUT",
            one,
            requests.change_rule,
            replies.shown(replies.rule),
            "Change a rule; what is not sent stays",
            takes=shapes.RuleRequest,
            gives=Success[shapes.Rule],
            asks=parameters.RESOURCE_SCOPE,
        ),
        _deletion(one, res.Rule, "Delete a rule"),
    )


def _skill_routes(path: str) -> tuple[Route[Any], ...]:
    one = f"{path}/{{id}}"
    return (
        _row(
            "GET",
            path,
            requests.page_of(res.Skill),
            replies.skills,
            "Skills: yours and the project's",
            gives=Success[shapes.Skills],
            asks=parameters.RESOURCES,
        ),
        _row(
            "POST",
            path,
            requests.create_skill,
            replies.created(replies.skill),
            "Add a skill: knowledge that a question can call up",
            takes=parameters.needing(shapes.SkillRequest, "name", "body"),
            gives=Success[shapes.Skill],
            status=201,
        ),
        _row(
            "GET", one, requests.one_of(res.Skill), replies.shown(replies.skill), "A skill", gives=Success[shapes.Skill]
        ),
        _row(
            "PUT",
            one,
            requests.change_skill,
            replies.shown(replies.skill),
            "Change a skill; what is not sent stays",
            takes=shapes.SkillRequest,
            gives=Success[shapes.Skill],
            asks=parameters.RESOURCE_SCOPE,
        ),
        _row(
            "PUT",
            f"{one}/command",
            requests.change_command,
            replies.shown(replies.skill),
            "Give a skill its slash command, or take it away (null)",
            takes=shapes.SkillCommand,
            gives=Success[shapes.Skill],
            asks=parameters.RESOURCE_SCOPE,
        ),
        _deletion(one, res.Skill, "Delete a skill"),
    )


def _quickstart_routes(path: str) -> tuple[Route[Any], ...]:
    one = f"{path}/{{id}}"
    return (
        _row(
            "GET",
            path,
            requests.page_of(res.Quickstart),
            replies.quickstarts,
            "Quickstarts: yours and the project's",
            gives=Success[shapes.Quickstarts],
            asks=parameters.RESOURCES,
        ),
        _row(
            "POST",
            path,
            requests.create_quickstart,
            replies.created(replies.quickstart),
            "Add a quickstart: a prompt to begin with",
            takes=parameters.needing(shapes.QuickstartRequest, "prompt"),
            gives=Success[shapes.Quickstart],
            status=201,
        ),
        _row(
            "GET",
            one,
            requests.one_of(res.Quickstart),
            replies.shown(replies.quickstart),
            "A quickstart",
            gives=Success[shapes.Quickstart],
        ),
        _row(
            "PUT",
            one,
            requests.change_quickstart,
            replies.shown(replies.quickstart),
            "Change a quickstart; what is not sent stays",
            takes=shapes.QuickstartRequest,
            gives=Success[shapes.Quickstart],
            asks=parameters.RESOURCE_SCOPE,
        ),
        _deletion(one, res.Quickstart, "Delete a quickstart"),
    )


def _integration_routes(path: str) -> tuple[Route[Any], ...]:
    one = f"{path}/{{id}}"
    return (
        _row(
            "GET",
            path,
            requests.page_of(res.Integration),
            replies.integrations,
            "Integrations: yours and the project's",
            gives=Success[shapes.Integrations],
            asks=parameters.RESOURCES,
        ),
        _row(
            "POST",
            path,
            requests.create_integration,
            replies.created(replies.integration_written),
            "Keep the settings of an MCP server; values of headers are kept encrypted and never shown",
            takes=parameters.needing(shapes.IntegrationRequest, "name"),
            gives=Success[shapes.IntegrationWritten],
            status=201,
        ),
        _row(
            "GET",
            one,
            requests.one_of(res.Integration),
            replies.shown(replies.integration),
            "An integration",
            gives=Success[shapes.Integration],
        ),
        _row(
            "PUT",
            one,
            requests.change_integration,
            replies.shown(replies.integration_written),
            "Change an integration; what is not sent stays",
            takes=shapes.IntegrationRequest,
            gives=Success[shapes.IntegrationWritten],
            asks=parameters.RESOURCE_SCOPE,
        ),
        _deletion(one, res.Integration, "Delete an integration"),
        _row(
            "GET",
            f"{one}/validate",
            requests.one_of(res.Integration),
            replies.validated,
            "Whether an integration works; this server connects to none and says so",
            gives=Success[shapes.Validation],
        ),
        _missing("POST", f"{path}/oauth/initiate", requests.not_offered(_OAUTH), _OAUTH, status=501),
    )


def _project_routes(base: str) -> tuple[Route[Any], ...]:
    return (
        _row(
            "GET",
            f"{base}/settings/terms",
            requests.read_terms,
            replies.terms,
            "Whether terms of use are accepted; this server has none of its own",
            gives=Success[shapes.Terms],
        ),
        _row(
            "PUT",
            f"{base}/settings/accept-terms",
            requests.accept_terms,
            replies.terms,
            "Accept terms of use for the whole project, or withdraw that",
            takes=shapes.TermsRequest,
            gives=Success[shapes.Terms],
        ),
        _row(
            "GET",
            f"{base}/usage/limits/prompt",
            requests.prompt_usage,
            replies.prompt_limit,
            "How many questions this project asked this month (UTC)",
            gives=Success[shapes.PromptLimit],
        ),
        _row(
            "GET",
            f"{base}/usage/tokens/limits",
            requests.token_limits,
            replies.token_limits,
            "Limits of LLM tokens a month; 0 = none",
            gives=Success[shapes.TokenLimits],
        ),
        _row(
            "POST",
            f"{base}/feedback",
            requests.give_feedback,
            replies.feedback_given,
            "Say what you think of an answer; a second time replaces the first",
            takes=shapes.FeedbackRequest,
            gives=Success[shapes.FeedbackGiven],
        ),
    )


def _missing_routes(base: str) -> tuple[Route[Any], ...]:
    """501 where clients know the feature may be lacking, 404 where that is how they find out."""
    declined = (
        ("investigations", ("GET", "POST"), _INVESTIGATIONS),
        ("investigations/{rest:path}", ("GET", "POST"), _INVESTIGATIONS),
        ("automations", ("GET", "POST"), _AUTOMATIONS),
        ("automations/{rest:path}", ("GET", "POST", "PUT", "DELETE"), _AUTOMATIONS),
        ("assistant-search", ("POST",), _SEARCH),
    )
    v2 = f"{base.removesuffix('/v1')}/v2/investigations"
    absent = (
        (v2, ("GET", "POST"), _INVESTIGATIONS_V2),
        (f"{v2}/{{rest:path}}", ("GET", "POST", "PUT"), _INVESTIGATIONS_V2),
        (f"{base}/watcher-agents", ("GET", "POST"), _WATCHERS),
        (f"{base}/watcher-agents/{{rest:path}}", ("GET", "POST", "PUT", "DELETE"), _WATCHERS),
    )
    return (
        *(
            _missing(method, f"{base}/{path}", requests.not_offered(sentence), sentence, status=501)
            for path, methods, sentence in declined
            for method in methods
        ),
        *(
            _missing(method, path, requests.absent(sentence), sentence, status=404)
            for path, methods, sentence in absent
            for method in methods
        ),
    )


def _row(
    method: str,
    path: str,
    decode: Callable[[Request], Operation[Any]],
    answer: Callable[[Any, Request], Reply],
    summary: str,
    *,
    takes: type | None = None,
    gives: type,
    status: int = 200,
    asks: tuple[Parameter, ...] = (),
) -> Route[Any]:
    return Route(
        method,
        path,
        decode,
        answer=answer,
        scopes=_SCOPES,
        summary=summary,
        takes=takes,
        gives=gives,
        status=status,
        asks=asks,
    )


def _deletion(path: str, kind: type[res.Content], summary: str) -> Route[Any]:
    return _row(
        "DELETE",
        path,
        requests.deletion_of(kind),
        replies.deleted,
        summary,
        gives=Success[shapes.ResourceDeleted],
        asks=parameters.RESOURCE_SCOPE,
    )


def _missing(
    method: str, path: str, decode: Callable[[Request], Operation[Never]], sentence: str, *, status: int
) -> Route[Any]:
    return Route(
        method,
        path,
        decode,
        answer=replies.nothing,
        scopes=_SCOPES,
        summary=f"Not offered: {sentence}",
        gives=ErrorBody,
        status=status,
    )
