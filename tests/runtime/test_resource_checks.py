import pytest
from msgspec.structs import replace

from dragoman.core.errors import BadRequest
from dragoman.core.resources import (
    AllowedTool,
    Content,
    Feedback,
    Header,
    Integration,
    IntegrationChange,
    Quickstart,
    QuickstartChange,
    Rule,
    RuleChange,
    Skill,
    SkillChange,
)
from dragoman.runtime import resource_checks as checks

RULE = Rule("Short", "Be short.")
SKILL = Skill("Deploy", "How to deploy.")
QUICK = Quickstart("What is broken?")
SERVER = Integration("Files", configuration='{"url":"https://mcp.example.com/x"}')

TOO_MUCH: list[tuple[Content, Content, str]] = [
    (
        replace(RULE, name="x" * 200),
        replace(RULE, name="x" * 201),
        "The name has 201 characters; at most 200 are taken.",
    ),
    (
        replace(RULE, content="x" * 10_000),
        replace(RULE, content="x" * 10_001),
        "The rule's text has 10001 characters; at most 10000 are taken.",
    ),
    (
        replace(RULE, description="x" * 2000),
        replace(RULE, description="x" * 2001),
        "The description has 2001 characters; at most 2000 are taken.",
    ),
    (
        replace(RULE, priority=-1_000_000),
        replace(RULE, priority=1_000_001),
        "The priority must lie between -1000000 and 1000000.",
    ),
    (
        replace(RULE, applications=("a",) * 16),
        replace(RULE, applications=("a",) * 17),
        "There are 17 applications; at most 16 are taken.",
    ),
    (
        replace(RULE, applications=("a" * 64,)),
        replace(RULE, applications=("a" * 65,)),
        "The name of an application has 65 characters; at most 64 are taken.",
    ),
    (
        replace(SKILL, body="ü" * 32_767 + "x"),
        replace(SKILL, body="ü" * 32_768),
        "The body has 65536 bytes; at most 65535 are taken.",
    ),
    (
        replace(SKILL, command="a" * 64),
        replace(SKILL, command="a" * 65),
        "A command's name has 1 to 64 letters, digits, -, _ or ., and begins and ends with a letter or digit.",
    ),
    (
        replace(SKILL, allowed_tools=(AllowedTool("i", "t"),) * 100),
        replace(SKILL, allowed_tools=(AllowedTool("i", "t"),) * 101),
        "There are 101 allowed tools; at most 100 are taken.",
    ),
    (
        replace(SKILL, context_items=f'["{"x" * 31_996}"]'),
        replace(SKILL, context_items=f'["{"x" * 31_997}"]'),
        "The list of context items has 32001 characters; at most 32000 are taken.",
    ),
    (
        replace(QUICK, prompt="x" * 10_000),
        replace(QUICK, prompt="x" * 10_001),
        "The prompt has 10001 characters; at most 10000 are taken.",
    ),
    (
        replace(SERVER, headers=tuple(Header(f"x-{n}", "s") for n in range(20))),
        replace(SERVER, headers=tuple(Header(f"x-{n}", "s") for n in range(21))),
        "There are 21 custom headers; at most 20 are taken.",
    ),
]


@pytest.mark.parametrize(("fits", "too_much", "sentence"), TOO_MUCH)
def test_everything_has_a_limit(fits: Content, too_much: Content, sentence: str):
    checks.check(fits, wide=False)
    with pytest.raises(BadRequest) as refused:
        checks.check(too_much, wide=False)
    assert refused.value.detail == sentence


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (replace(RULE, name=" "), "The name is missing."),
        (replace(RULE, content="\n"), "The rule's text is missing."),
        (replace(RULE, applications=("",)), "The name of an application is missing."),
        (replace(SKILL, body=""), "The body is missing."),
        (replace(SKILL, command="a b"), TOO_MUCH[7][2]),
        (replace(SKILL, command="-a"), TOO_MUCH[7][2]),
        (replace(SKILL, context_items="{}"), "The list of context items must be a JSON array."),
        (replace(SKILL, allowed_tools=(AllowedTool("", "t"),)), "The integration of an allowed tool is missing."),
        (replace(QUICK, prompt=""), "The prompt is missing."),
        (replace(SERVER, type="http"), "The type of an integration must be mcp."),
        (replace(SERVER, configuration="[]"), "The configuration must be a JSON object."),
        (
            replace(SERVER, configuration='{"url":"ftp://x"}'),
            "The URL must begin with http:// or https:// and name a host.",
        ),
        (
            replace(SERVER, configuration='{"url":"https://[x"}'),
            "The URL must begin with http:// or https:// and name a host.",
        ),
        (replace(SERVER, configuration='{"url":3}'), "The URL must be text of at most 2000 characters."),
        (
            replace(SERVER, configuration='{"url":"https://ann:pw@x/"}'),
            "The URL must hold no password; send it as a custom header, whose value is kept secret.",
        ),
        (
            replace(SERVER, headers=(Header("A", "x"), Header("a", "y"))),
            "One custom header is named twice.",
        ),
        (replace(SERVER, headers=(Header("A"),)), "The custom header A has no value, and none is kept."),
    ],
)
def test_what_may_not_be_is_refused_with_a_sentence(content: Content, sentence: str):
    with pytest.raises(BadRequest) as refused:
        checks.check(content, wide=False)
    assert refused.value.detail == sentence


def test_a_server_for_everybody_needs_a_header_that_lets_it_in():
    checks.check(SERVER, wide=False)
    checks.check(replace(SERVER, headers=(Header("X-API-Key", "s"),)), wide=True)
    checks.check(replace(SERVER, configuration='{"builtinId":"x"}'), wide=True)
    with pytest.raises(BadRequest, match="needs one of these custom headers: authorization, x-api-key"):
        checks.check(replace(SERVER, headers=(Header("X-Other", "s"),)), wide=True)


@pytest.mark.parametrize("header", [Header("", "x"), Header("a b", "x"), Header("ä", "x"), Header("a:", "x")])
def test_a_headers_name_is_one(header: Header):
    with pytest.raises(BadRequest, match="A custom header's name has"):
        checks.check_headers((header,))


@pytest.mark.parametrize("value", ["", "a\r\nb: c", "ü", "\0", "x" * 4097])
def test_a_headers_value_is_printable(value: str):
    checks.check_headers((Header("a", "x" * 4096), Header("b")))
    with pytest.raises(BadRequest) as refused:
        checks.check_headers((Header("a", value),))
    assert value == "" or value not in refused.value.detail


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (Feedback("chat", "c", 0), "The rating must be 1 or -1."),
        (Feedback("", "c", 1), "The kind of the target is missing."),
        (Feedback("chat", "", 1), "The id of the target is missing."),
        (Feedback("chat", "c" * 201, 1), "The id of the target has 201 characters; at most 200 are taken."),
        (Feedback("chat", "c", 1, "x" * 4001), "The comment has 4001 characters; at most 4000 are taken."),
        (Feedback("chat", "c", 1, metadata="[]"), "The metadata must be a JSON object."),
    ],
)
def test_feedback_is_a_thumb_up_or_down_about_something(given: Feedback, sentence: str):
    checks.check_feedback(Feedback("chat", "c" * 200, -1, "x" * 4000, "{}"))
    with pytest.raises(BadRequest) as refused:
        checks.check_feedback(given)
    assert refused.value.detail == sentence


def changed(content: Content, change: RuleChange | SkillChange | QuickstartChange | IntegrationChange) -> Content:
    return checks.changed(content, change, at=7.0, by="bob")


def test_a_change_changes_what_it_names():
    assert changed(RULE, RuleChange()) == RULE
    assert changed(RULE, RuleChange(enabled=False, description="d", priority=0)) == replace(
        RULE, enabled=False, description="d"
    )
    assert changed(replace(RULE, applications=("all",)), RuleChange(applications=())) == RULE
    assert changed(QUICK, QuickstartChange(title="T")) == replace(QUICK, title="T")


def test_a_command_says_since_when_and_by_whom():
    called = changed(SKILL, SkillChange(command="deploy"))
    assert called == replace(SKILL, command="deploy", command_since=7.0, command_by="bob")
    again = checks.changed(called, SkillChange(command="deploy", body="New."), at=9.0, by="eve")
    assert again == replace(called, body="New.")
    assert changed(called, SkillChange(command="")) == SKILL


def test_a_header_without_a_value_keeps_the_one_it_has():
    server = replace(SERVER, headers=(Header("Authorization", "sealed"), Header("X", "sealed2")))
    change = IntegrationChange(headers=(Header("authorization"), Header("Y", "new"), Header("Z")))
    assert checks.changed(server, change, at=7.0, by="bob").headers == (
        Header("Authorization", "sealed"),
        Header("Y", "new"),
        Header("Z"),
    )


def test_a_command_is_unique_where_it_is_seen():
    skill = replace(SKILL, command="Deploy")
    assert checks.key_of(RULE, owner="ann", wide=True) == ""
    assert checks.key_of(SKILL, owner="ann", wide=True) == ""
    keys = {checks.key_of(skill, owner=owner, wide=wide) for owner in ("ann", "bob") for wide in (True, False)}
    assert len(keys) == 3
    assert checks.key_of(skill, owner="ann", wide=True) == checks.command_key("dEPLOY", owner="bob", wide=True)
