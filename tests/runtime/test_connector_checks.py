"""What connectors of each kind may hold."""

from typing import Any

import pytest

from dragoman.core.errors import BadRequest
from dragoman.runtime import connector_checks as checks
from dragoman.runtime.reach import Reach

URL = "https://example.com/x"
WEBHOOK = {"url": URL}
EMAIL = {"from": "a@example.com", "host": "mail.example.com", "port": 25}
AI = {"apiProvider": "Other", "apiUrl": URL}
INFERENCE = {"provider": "openai", "taskType": "chat_completion"}


def check(type_id: str, config: dict[str, Any], secrets: dict[str, Any] | None = None, name: str = "n") -> None:
    checks.check(checks.kind_of(type_id), name, config, secrets or {}, Reach())


GOOD: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (".server-log", {}, {}),
    (".index", {"index": "i", "refresh": None, "executionTimeField": "@timestamp"}, {}),
    (".gen-ai", AI, {}),
    (".gen-ai", AI | {"defaultModel": None, "verificationMode": "none", "headers": {"x-a": "b"}}, {"apiKey": "k"}),
    (".inference", INFERENCE | {"providerConfig": {"url": URL}}, {"providerSecrets": {"api_key": "k"}}),
    (".bedrock", {"apiUrl": URL, "defaultModel": "anthropic.claude-v2"}, {"accessKey": "a", "secret": "s"}),
    (".gemini", {"apiUrl": URL, "gcpRegion": "r", "gcpProjectID": "p"}, {"credentialsJson": "{}"}),
    (".webhook", WEBHOOK | {"method": "put", "hasAuth": False, "headers": None}, {}),
    (".webhook", WEBHOOK, {"user": "u", "password": "p"}),
    (".slack", {}, {"webhookUrl": URL}),
    (".slack_api", {"allowedChannels": [{"id": "C1", "name": "general"}]}, {"token": "t"}),
    (".email", EMAIL, {}),
    (".email", {"from": "a@example.com", "service": "gmail"}, {"user": "u", "password": "p"}),
]


@pytest.mark.parametrize(("type_id", "config", "secrets"), GOOD)
def test_what_each_kind_takes(type_id: str, config: dict[str, Any], secrets: dict[str, Any]):
    check(type_id, config, secrets)


BAD: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    (".index", {}, {}, "config.index is required for a connector of type .index."),
    (".index", {"index": ""}, {}, "config.index is required for a connector of type .index."),
    (".index", {"index": "i", "refresh": "yes"}, {}, "config.refresh must be true or false."),
    (".index", {"index": 3}, {}, "config.index must be a string."),
    (".gen-ai", {"apiUrl": URL}, {}, "config.apiProvider is required for a connector of type .gen-ai."),
    (
        ".gen-ai",
        AI | {"apiProvider": "Me"},
        {},
        "config.apiProvider: this server takes OpenAI, Azure OpenAI or Other for a connector of type .gen-ai.",
    ),
    (".gen-ai", AI | {"temperature": True}, {}, "config.temperature must be a number."),
    (".gen-ai", AI, {"apiKey": 7}, "secrets.apiKey must be a string."),
    (".gen-ai", AI | {"headers": {"a b": "c"}}, {}, "config.headers: 'a b' is not the name of a header."),
    (
        ".gen-ai",
        AI | {"headers": {"a": "b\nc: d"}},
        {},
        "config.headers.a: a header's value is one line of printable ASCII.",
    ),
    (".gen-ai", AI | {"headers": {"a": 1}}, {}, "config.headers must be an object of at most 50 strings."),
    (".gen-ai", AI | {"headers": []}, {}, "config.headers must be a string."),
    (
        ".gen-ai",
        AI | {"apiUrl": "http://169.254.169.254/"},
        {},
        "config.apiUrl: 169.254.169.254 is an address that connectors never reach.",
    ),
    (
        ".inference",
        INFERENCE | {"providerConfig": {"url": "http://169.254.169.254/"}},
        {},
        "config.providerConfig.url: 169.254.169.254 is an address that connectors never reach.",
    ),
    (".inference", INFERENCE | {"providerConfig": {"url": 1}}, {}, "config.providerConfig.url must be a string."),
    (".inference", INFERENCE | {"providerConfig": 1}, {}, "config.providerConfig must be an object."),
    (".bedrock", {"apiUrl": URL}, {"accessKey": "a"}, "secrets.secret is required for a connector of type .bedrock."),
    (".webhook", WEBHOOK, {"user": "u"}, "secrets.user and secrets.password go together: give both or none."),
    (".webhook", WEBHOOK, {"user": "u:v", "password": "p"}, "secrets.user may not hold a colon."),
    (
        ".webhook",
        WEBHOOK | {"authType": "webhook-authentication-ssl"},
        {},
        "config.authType: this server takes webhook-authentication-basic for a connector of type .webhook.",
    ),
    (".slack", {}, {}, "secrets.webhookUrl is required for a connector of type .slack."),
    (".slack_api", {"allowedChannels": "general"}, {"token": "t"}, "config.allowedChannels must be an array."),
    (
        ".email",
        {"from": "a@b.c"},
        {},
        "config.host and config.port are required for a connector of type .email.",
    ),
    (".email", EMAIL | {"port": 65536}, {}, "config.port must be a whole number from 1 to 65535."),
    (".email", EMAIL | {"port": 2.5}, {}, "config.port must be a whole number from 1 to 65535."),
    (
        ".email",
        EMAIL | {"host": "169.254.169.254"},
        {},
        "config.host: 169.254.169.254 is an address that connectors never reach.",
    ),
]


@pytest.mark.parametrize(("type_id", "config", "secrets", "sentence"), BAD)
def test_what_each_kind_refuses(type_id: str, config: dict[str, Any], secrets: dict[str, Any], sentence: str):
    with pytest.raises(BadRequest) as caught:
        check(type_id, config, secrets)
    assert caught.value.detail == sentence


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * (checks.NAME_CHARS_MAX + 1)])
def test_a_name_is_one_printable_line(name: str):
    with pytest.raises(BadRequest, match="The name of a connector has 1 to 200 printable characters"):
        check(".server-log", {}, name=name)


def test_config_and_secrets_have_a_limit_each():
    fits = {"x": "a" * (checks.PART_BYTES_MAX - len('{"x":""}'))}
    check(".server-log", fits, fits)
    for config, secrets in (({"x": fits["x"] + "a"}, {}), ({}, {"x": fits["x"] + "a"})):
        with pytest.raises(BadRequest, match=f"at most {checks.PART_BYTES_MAX} bytes of JSON"):
            check(".server-log", config, secrets)


def test_headers_have_a_limit():
    most = {f"x-{n}": "v" for n in range(checks.HEADERS_MAX)}
    check(".webhook", WEBHOOK | {"headers": most})
    with pytest.raises(BadRequest, match="at most 50 strings"):
        check(".webhook", WEBHOOK | {"headers": most | {"x-more": "v"}})


def test_an_unknown_type_names_those_that_there_are():
    with pytest.raises(BadRequest) as caught:
        checks.kind_of(".nope")
    assert caught.value.detail == (
        "There is no connector type '.nope'; known are: .bedrock, .email, .gemini, .gen-ai, .index, .inference,"
        " .server-log, .slack, .slack_api, .webhook."
    )


def test_which_connectors_answer_turns():
    assert checks.answers(".gen-ai", {})
    assert checks.answers(".inference", INFERENCE)
    assert not checks.answers(".inference", INFERENCE | {"taskType": "sparse_embedding"})
    assert not checks.answers(".inference", INFERENCE | {"provider": "anthropic"})
    assert not checks.answers(".bedrock", {})
    assert [kind.id for kind in checks.KINDS.values() if checks.meant_as_model(kind.id)] == [
        ".gen-ai",
        ".inference",
        ".bedrock",
        ".gemini",
    ]


def test_every_type_that_cannot_be_had_says_why():
    for kind in checks.KINDS.values():
        shown = checks.shown_type(kind)
        assert shown.enabled == (not kind.missing)
        assert shown.why.startswith(f"{kind.name}: it") == (not shown.enabled)
        assert kind.made or not shown.enabled
    assert checks.shown_type(checks.KINDS[".index"], lacking="there is none").why == "Index: there is none."


def test_configured_models_show_neither_url_nor_key():
    main = checks.preconfigured("main", "openai", "gpt-4o")
    assert (main.id, main.type, main.config) == ("main", ".gen-ai", {"apiProvider": "Other", "defaultModel": "gpt-4o"})
    offline = checks.preconfigured("offline", "offline")
    assert (offline.type, offline.config["inferenceId"]) == (".inference", "offline")
    assert main.preconfigured and main.model and offline.preconfigured and offline.model
