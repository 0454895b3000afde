"""What clients read of managed resources (specification 3.5, Q22)."""

import json
from typing import Any, TypeVar

from dragoman.core import resources as res
from dragoman.dialects.grafana import resource_replies as replies
from dragoman.wire.dialect import Reply, Request

C = TypeVar("C")
REQUEST = Request("GET", "/x", {}, {}, {}, b"", "r", "0" * 32, 0.0)
AT = 1_700_000_000.25
STAMPED = {
    "id": "id1",
    "created": "2023-11-14T22:13:20.250Z",
    "modified": "2023-11-14T22:13:21.250Z",
    "createdBy": "ann",
    "updatedBy": "bob",
}


def kept(content: C, *, wide: bool = False) -> res.Resource[C]:
    return res.Resource("id1", content, "ann", wide, 3, AT, AT + 1, "ann", "bob")


def data(reply: Reply, *, status: int = 200) -> Any:
    assert reply.status == status
    body = json.loads(reply.body)
    assert body.keys() == {"status", "data"}
    assert body["status"] == "success"
    return body["data"]


RULE = {**STAMPED, "userId": "ann", "name": "n", "ruleContent": "c", "enabled": True, "priority": 0, "scope": "user"}


def test_a_rule() -> None:
    assert data(replies.shown(replies.rule)(kept(res.Rule("n", "c")), REQUEST)) == RULE
    whole = kept(res.Rule("n", "c", "d", False, -1, ("all",)), wide=True)
    assert data(replies.created(replies.rule)(whole, REQUEST), status=201) == {
        **STAMPED,
        "name": "n",
        "description": "d",
        "ruleContent": "c",
        "enabled": False,
        "priority": -1,
        "scope": "tenant",
        "applications": ["all"],
    }


SKILL = {
    **STAMPED,
    "userId": "ann",
    "name": "n",
    "body": "b",
    "version": 3,
    "includeInKnowledgebase": True,
    "scope": "user",
}


def test_a_skill() -> None:
    assert data(replies.shown(replies.skill)(kept(res.Skill("n", "b")), REQUEST)) == SKILL
    tools = (res.AllowedTool("i", "t"),)
    whole = res.Skill("n", "b", False, "deploy", AT, "eve", '[{"a":1}]', tools)
    assert data(replies.shown(replies.skill)(kept(whole), REQUEST)) == {
        **SKILL,
        "commandName": "deploy",
        "commandEnabledAt": "2023-11-14T22:13:20.250Z",
        "commandEnabledBy": "eve",
        "includeInKnowledgebase": False,
        "contextItems": [{"a": 1}],
        "allowedTools": [{"integrationId": "i", "toolName": "t"}],
    }


QUICKSTART = {**STAMPED, "userId": "ann", "prompt": "p", "enabled": True, "scope": "user"}


def test_a_quickstart() -> None:
    assert data(replies.shown(replies.quickstart)(kept(res.Quickstart("p")), REQUEST)) == QUICKSTART
    whole = kept(res.Quickstart("p", "t", False, "[1]"))
    assert data(replies.shown(replies.quickstart)(whole, REQUEST)) == {
        **QUICKSTART,
        "title": "t",
        "enabled": False,
        "contextItems": [1],
    }


SERVER = {
    **STAMPED,
    "userId": "ann",
    "name": "n",
    "type": "mcp",
    "enabled": True,
    "scope": "user",
    "configuration": {"url": "https://x", "opaque": "keep"},
    "customHeaders": [{"key": "Authorization", "value": "[redacted]"}],
    "custom_headers": [{"name": "Authorization", "value": "[redacted]"}],
}
CONTENT = res.Integration(
    "n", configuration='{"url":"https://x","opaque":"keep"}', headers=(res.Header("Authorization"),)
)


def test_an_integration_names_its_headers_and_not_their_values() -> None:
    assert data(replies.shown(replies.integration)(kept(CONTENT), REQUEST)) == SERVER
    bare = data(replies.shown(replies.integration)(kept(res.Integration("n")), REQUEST))
    assert bare["configuration"] == {}
    assert not {"customHeaders", "custom_headers", "description", "applications"} & bare.keys()


def test_a_written_integration_is_said_for_both_clients() -> None:
    answer = replies.created(replies.integration_written)
    assert data(answer(kept(CONTENT), REQUEST), status=201) == {**SERVER, "integration": SERVER}


def test_lists_say_what_they_are_part_of() -> None:
    pages = (
        (replies.rules, "rules", res.Rule("n", "c"), RULE),
        (replies.skills, "skills", res.Skill("n", "b"), SKILL),
        (replies.quickstarts, "quickstarts", res.Quickstart("p"), QUICKSTART),
        (replies.integrations, "integrations", CONTENT, SERVER),
    )
    for answer, plural, content, shown in pages:
        page: Any = res.ResourcePage((kept(content),), 7, 1, 2)
        expected = {plural: [shown], "pagination": {"total": 7, "limit": 1, "offset": 2}, "total": 7}
        assert data(answer(page, REQUEST)) == expected
        empty: Any = res.ResourcePage((), 0, 100, 0)
        assert data(answer(empty, REQUEST))[plural] == []


def test_the_rest() -> None:
    assert data(replies.deleted(res.ResourceGone("id1"), REQUEST)) == {"id": "id1"}
    assert data(replies.validated(kept(CONTENT), REQUEST)) == {
        "result": {"status": "error", "message": replies.NOT_CONNECTED}
    }
    assert data(replies.terms(res.Terms(True), REQUEST)) == {
        "acceptedTermsAndConditions": True,
        "acceptedVersion": 1,
        "version": 1,
        "termsType": "msa",
    }
    assert data(replies.terms(res.Terms(False), REQUEST))["acceptedVersion"] == 0
    usage = res.PromptUsage(12, 0, "2026-11")
    assert data(replies.prompt_limit(usage, REQUEST)) == {"total": 12, "limit": 0, "month": "2026-11"}
    assert data(replies.token_limits(res.TokenLimits(5_000_000, 2_500_000, 0), REQUEST)) == {
        "stackTotalMtok": 5,
        "perUserDefaultMtok": 2,
        "serviceAccountPoolMtok": 0,
        "teams": [],
    }
    assert data(replies.feedback_given(res.FeedbackKept("f1"), REQUEST)) == {"id": "f1"}
    assert data(replies.nothing(None, REQUEST)) == {}
