"""Requests about managed resources become operations (specification 3.5, Q22)."""

import json
from typing import Any

import pytest
from msgspec import UNSET

from dragoman.core import resources as res
from dragoman.core.errors import BadRequest, NotFound, NotOffered
from dragoman.dialects.grafana import resource_requests as requests
from dragoman.wire.dialect import Request


def request(
    body: Any = None, *, query: dict[str, str] | None = None, scope: str = "", record_id: str = "id1"
) -> Request:
    headers = {"x-resource-scope": scope} if scope else {}
    data = b"" if body is None else json.dumps(body).encode()
    return Request("PUT", "/x", {"id": record_id}, query or {}, headers, data, "r", "0" * 32, 0.0)


# -- lists -----------------------------------------------------------------------------------------------------------

PAGES: list[tuple[dict[str, str], bool | None, int, int]] = [
    ({}, None, 100, 0),
    ({"limit": "100", "offset": "200"}, None, 100, 200),
    ({"limit": "7"}, None, 7, 0),
    ({"limit": "5000"}, None, 100, 0),
    ({"scope": "tenant"}, True, 100, 0),
    ({"scope": "user"}, False, 100, 0),
]


@pytest.mark.parametrize(("query", "wide", "limit", "offset"), PAGES)
def test_a_page_has_at_most_a_hundred(query: dict[str, str], wide: bool | None, limit: int, offset: int) -> None:
    decode = requests.page_of(res.Rule)
    assert decode(request(query=query)) == res.ListResources(res.Rule, wide, limit, offset)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"limit": "0"}, "limit must be a whole number from 1."),
        ({"limit": "-1"}, "limit must be a whole number from 1."),
        ({"limit": "ten"}, "limit must be a whole number from 1."),
        ({"limit": "٣"}, "limit must be a whole number from 1."),
        ({"offset": "-1"}, "offset must be a whole number, 0 or more."),
        ({"scope": "everybody"}, "scope must be user or tenant."),
    ],
)
def test_a_page_that_cannot_be_is_refused(query: dict[str, str], sentence: str) -> None:
    with pytest.raises(BadRequest) as refused:
        requests.page_of(res.Skill)(request(query=query))
    assert refused.value.detail == sentence


def test_one_is_read_and_deleted_by_its_id() -> None:
    assert requests.one_of(res.Skill)(request()) == res.ReadResource(res.Skill, "id1")
    for scope, was_wide in (("", None), ("user", False), ("tenant", True), ("Tenant ", True)):
        assert requests.deletion_of(res.Rule)(request(scope=scope)) == res.DeleteResource(res.Rule, "id1", was_wide)
    with pytest.raises(BadRequest, match="X-Resource-Scope must be user or tenant"):
        requests.deletion_of(res.Rule)(request(scope="org"))


# -- rules -----------------------------------------------------------------------------------------------------------


def test_a_rule_is_added() -> None:
    assert requests.create_rule(request({"name": "n", "ruleContent": "c"})) == res.CreateResource(
        res.Rule("n", "c"), False
    )
    whole = {
        "scope": "tenant",
        "name": "n",
        "description": "d",
        "ruleContent": "c",
        "enabled": False,
        "priority": 3,
        "applications": ["all"],
        "more": 1,
    }
    assert requests.create_rule(request(whole)) == res.CreateResource(res.Rule("n", "c", "d", False, 3, ("all",)), True)
    empty = {"name": "n", "ruleContent": "c", "description": None, "enabled": None, "priority": None, "scope": None}
    assert requests.create_rule(request(empty)) == res.CreateResource(res.Rule("n", "c"), False)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (None, "The body is empty: send a JSON object."),
        ({}, "name is required."),
        ({"name": "n"}, "ruleContent is required."),
        ({"name": "", "ruleContent": "c"}, "name is required."),
        ({"name": 3, "ruleContent": "c"}, "name: expected str | null, got int"),
        ({"name": "n", "ruleContent": "c", "scope": "org"}, "scope: invalid enum value 'org'"),
        ([], "Expected object, got array"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(body: Any, sentence: str) -> None:
    with pytest.raises(BadRequest) as refused:
        requests.create_rule(request(body))
    assert refused.value.detail == sentence


def test_a_change_says_only_what_is_sent() -> None:
    assert requests.change_rule(request({})) == res.ChangeResource(res.Rule, "id1", res.RuleChange())
    sent = {"scope": "tenant", "name": "n", "ruleContent": "c", "enabled": False, "priority": 0, "description": ""}
    assert requests.change_rule(request({**sent, "applications": []}, scope="user")) == res.ChangeResource(
        res.Rule, "id1", res.RuleChange("n", "c", "", False, 0, ()), True, False
    )


def test_null_empties_what_can_be_empty_and_else_says_nothing() -> None:
    nulls = {"name": None, "ruleContent": None, "enabled": None, "scope": None}
    assert requests.change_rule(request(nulls)).change == res.RuleChange()
    empties = {"description": None, "applications": None, "priority": None}
    assert requests.change_rule(request(empties)).change == res.RuleChange(description="", applications=(), priority=0)


# -- skills ----------------------------------------------------------------------------------------------------------


def test_a_skill_is_the_projects_unless_it_says_otherwise() -> None:
    assert requests.create_skill(request({"name": "n", "body": "b"})) == res.CreateResource(res.Skill("n", "b"), True)
    whole = {
        "scope": "user",
        "name": "n",
        "body": "b",
        "includeInKnowledgebase": False,
        "contextItems": [{"node": {"id": "ü"}}],
        "allowedTools": [{"integrationId": "i", "toolName": "t"}],
    }
    skill = res.Skill(
        "n",
        "b",
        known=False,
        context_items='[{"node": {"id": "\\u00fc"}}]',  # as it was written
        allowed_tools=(res.AllowedTool("i", "t"),),
    )
    assert requests.create_skill(request(whole)) == res.CreateResource(skill, False)
    for field in ("name", "body"):
        with pytest.raises(BadRequest, match=f"{field} is required"):
            requests.create_skill(request({key: value for key, value in whole.items() if key != field}))


def test_a_skill_is_changed() -> None:
    assert requests.change_skill(request({})).change == res.SkillChange()
    sent = {"name": "n", "body": "b", "includeInKnowledgebase": False, "contextItems": [1], "allowedTools": []}
    assert requests.change_skill(request(sent, scope="tenant")) == res.ChangeResource(
        res.Skill,
        "id1",
        res.SkillChange("n", "b", False, context_items="[1]", allowed_tools=()),
        None,
        True,
    )
    emptied = requests.change_skill(request({"contextItems": None, "allowedTools": None})).change
    assert emptied == res.SkillChange(context_items="", allowed_tools=())


@pytest.mark.parametrize(("said", "command"), [("deploy", "deploy"), ("/deploy", "deploy"), (None, ""), ("", "")])
def test_a_skill_gets_its_command_or_loses_it(said: str | None, command: str) -> None:
    assert requests.change_command(request({"commandName": said}, scope="user")) == res.ChangeResource(
        res.Skill, "id1", res.SkillChange(command=command), None, False
    )


def test_a_command_must_be_said() -> None:
    with pytest.raises(BadRequest, match="commandName"):
        requests.change_command(request({}))


# -- quickstarts -----------------------------------------------------------------------------------------------------


def test_a_quickstart_is_added_and_changed() -> None:
    assert requests.create_quickstart(request({"prompt": "p", "scope": "user"})) == res.CreateResource(
        res.Quickstart("p"), False
    )
    whole = {"scope": "tenant", "title": "t", "prompt": "p", "contextItems": [1], "enabled": False}
    assert requests.create_quickstart(request(whole)) == res.CreateResource(
        res.Quickstart("p", "t", False, "[1]"), True
    )
    with pytest.raises(BadRequest, match="prompt is required"):
        requests.create_quickstart(request({"title": "t"}))
    assert requests.change_quickstart(request({})).change == res.QuickstartChange()
    assert requests.change_quickstart(request(whole)) == res.ChangeResource(
        res.Quickstart, "id1", res.QuickstartChange("p", "t", False, "[1]"), True, None
    )
    assert requests.change_quickstart(request({"title": None, "contextItems": []})).change == res.QuickstartChange(
        title="", context_items="[]"
    )


# -- integrations ----------------------------------------------------------------------------------------------------

SERVER = {"type": "mcp", "name": "n", "enabled": True, "scope": "user", "configuration": {"url": "https://x", "o": 1}}
KEYED = [{"key": "Authorization", "value": "s"}]
NAMED = [{"name": "Authorization", "value": "s"}]


def test_an_integration_is_added() -> None:
    bare = res.Integration("n", configuration='{"url":"https://x","o":1}')
    assert requests.create_integration(request(SERVER)) == res.CreateResource(bare, False)
    assert requests.create_integration(request({"name": "n", "scope": "tenant"})) == res.CreateResource(
        res.Integration("n"), True
    )
    nulls = {"name": "n", "description": None, "applications": None, "configuration": None, "customHeaders": None}
    assert requests.create_integration(request(nulls)) == res.CreateResource(res.Integration("n"), False)
    with pytest.raises(BadRequest, match="name is required"):
        requests.create_integration(request({"type": "mcp"}))


@pytest.mark.parametrize("spelled", [{"customHeaders": KEYED}, {"custom_headers": NAMED}])
def test_headers_are_taken_in_both_spellings(spelled: dict[str, Any]) -> None:
    header = res.Header("Authorization", "s")
    assert requests.create_integration(request({**SERVER, **spelled})).content.headers == (header,)
    assert requests.change_integration(request(spelled)).change == res.IntegrationChange(headers=(header,))


def test_of_two_spellings_the_first_counts() -> None:
    both = {"customHeaders": [], "custom_headers": NAMED}
    assert requests.change_integration(request(both)).change == res.IntegrationChange(headers=())


def test_a_value_as_it_is_shown_keeps_the_one_that_is_there() -> None:
    shown = {"custom_headers": [{"name": "Authorization", "value": "[redacted]"}]}
    assert requests.change_integration(request(shown)).change == res.IntegrationChange(
        headers=(res.Header("Authorization", None),)
    )


def test_an_integration_is_changed() -> None:
    assert requests.change_integration(request({})) == res.ChangeResource(
        res.Integration, "id1", res.IntegrationChange()
    )
    sent = {**SERVER, "description": "d", "enabled": False, "applications": ["all"], "customHeaders": None}
    assert requests.change_integration(request(sent, scope="tenant")) == res.ChangeResource(
        res.Integration,
        "id1",
        res.IntegrationChange("n", "d", False, ("all",), '{"url":"https://x","o":1}', ()),
        False,
        True,
    )
    emptied = requests.change_integration(request({"configuration": None})).change
    assert emptied == res.IntegrationChange(configuration="{}")
    assert requests.change_integration(request({"custom_headers": None})).change == res.IntegrationChange(headers=())
    with pytest.raises(BadRequest, match="type must be mcp"):
        requests.change_integration(request({"type": "http"}))


# -- the project's own -----------------------------------------------------------------------------------------------


def test_terms_and_limits() -> None:
    assert requests.read_terms(request()) == res.ReadTerms()
    for accepted in (True, False):
        body = {"acceptedTermsAndConditions": accepted}
        assert requests.accept_terms(request(body)) == res.AcceptTerms(accepted)
    with pytest.raises(BadRequest):
        requests.accept_terms(request({}))
    assert requests.prompt_usage(request()) == res.ReadPromptUsage()
    assert requests.token_limits(request()) == res.ReadTokenLimits()


def test_feedback() -> None:
    body: dict[str, Any] = {"targetKind": "chat", "targetId": "c", "rating": 1}
    assert requests.give_feedback(request(body)) == res.GiveFeedback(res.Feedback("chat", "c", 1))
    more = {**body, "comment": "so", "metadata": {"a": [1]}}
    assert requests.give_feedback(request(more)) == res.GiveFeedback(res.Feedback("chat", "c", 1, "so", '{"a":[1]}'))
    for missing in body:
        with pytest.raises(BadRequest):
            requests.give_feedback(request({key: value for key, value in body.items() if key != missing}))


def test_what_is_not_there_says_so() -> None:
    with pytest.raises(NotOffered) as declined:
        requests.not_offered("Not this.")(request())
    assert declined.value.detail == "Not this."
    with pytest.raises(NotFound) as missing:
        requests.absent("Not here.")(request())
    assert (missing.value.detail, missing.value.what) == ("Not here.", "feature")


def test_no_change_is_made_up() -> None:
    changes = (
        requests.change_rule,
        requests.change_skill,
        requests.change_quickstart,
        requests.change_integration,
    )
    for decode in changes:
        change: Any = decode(request({"unknown": 1})).change
        assert {getattr(change, field) for field in change.__struct_fields__} == {UNSET}
