"""The kinds of connectors: what each takes, what it is for, and whether this server can do it. Data, and pure checks.

Fields are those of Kibana's connectors (elastic spec 3.6). Known ones are checked; others are kept and given back as
they came, for newer clients send more than we know of. `null` counts as not there.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
from msgspec import Struct

from dragoman.core.connectors import Connector, ConnectorType
from dragoman.core.errors import BadRequest
from dragoman.runtime.reach import Reach

ID_CHARS_MAX = 36
"""Elastic spec 3.6."""
NAME_CHARS_MAX = 200
PART_BYTES_MAX = 32 * 1024
"""Of config, and of secrets, as JSON."""
HEADERS_MAX = 50
CONNECTORS_MAX = 200
"""In a project."""

GEN_AI, INFERENCE = ".gen-ai", ".inference"
OPENAI_URL = "https://api.openai.com/v1/chat/completions"
"""Where an `.inference` connector of the provider `openai` asks if it names no url."""

_ALERTING = ("alerting", "uptime", "siem")
_AI = ("generativeAIForSecurity", "generativeAIForObservability", "generativeAIForSearchPlayground")

_NO_PROVIDER = "its provider is not part of this version. "


class Field(Struct, frozen=True):
    """`kind`: text, url, flag, number, list, object, or texts (an object of strings)."""

    kind: str = "text"
    required: bool = False
    among: tuple[str, ...] = ()


class Kind(Struct, frozen=True):
    """`missing` "" = it can be used; else why it cannot, as the end of a sentence. `made` False: it cannot even be set
    up. `lent`: a model may use it, by the tool."""

    id: str
    name: str
    features: tuple[str, ...]
    config: Mapping[str, Field] = {}
    secrets: Mapping[str, Field] = {}
    missing: str = ""
    made: bool = True
    model: bool = False
    lent: bool = False


_TEXT, _FLAG, _NUMBER, _URL = Field(), Field("flag"), Field("number"), Field("url", required=True)

KINDS: Mapping[str, Kind] = {
    kind.id: kind
    for kind in (
        Kind(
            GEN_AI,
            "OpenAI",
            _AI,
            {
                "apiProvider": Field(required=True, among=("OpenAI", "Azure OpenAI", "Other")),
                "apiUrl": _URL,
                "defaultModel": _TEXT,
                "organizationId": _TEXT,
                "projectId": _TEXT,
                "headers": Field("texts"),
                "contextWindowLength": _NUMBER,
                "temperature": _NUMBER,
                "useNativeFunctionCalling": _FLAG,
            },
            {"apiKey": _TEXT},
            model=True,
        ),
        Kind(
            INFERENCE,
            "AI Connector",
            _AI,
            {
                "provider": Field(required=True),
                "taskType": Field(required=True),
                "inferenceId": _TEXT,
                "providerConfig": Field("object"),
                "taskTypeConfig": Field("object"),
                "contextWindowLength": _NUMBER,
            },
            {"providerSecrets": Field("object")},
            model=True,
        ),
        Kind(
            ".bedrock",
            "Amazon Bedrock",
            _AI,
            {"apiUrl": _URL, "defaultModel": _TEXT},
            {"accessKey": Field(required=True), "secret": Field(required=True)},
            missing=_NO_PROVIDER
            + "Bedrock also speaks OpenAI's API: set up a .gen-ai connector (apiProvider Other) with that address",
        ),
        Kind(
            ".gemini",
            "Google Gemini",
            _AI,
            {"apiUrl": _URL, "gcpRegion": _TEXT, "gcpProjectID": _TEXT, "defaultModel": _TEXT},
            {"credentialsJson": Field(required=True)},
            missing=_NO_PROVIDER
            + "Gemini also speaks OpenAI's API: set up a .gen-ai connector (apiProvider Other) with that address",
        ),
        Kind(
            ".webhook",
            "Webhook",
            _ALERTING,
            {
                "url": _URL,
                "method": Field(among=("post", "put", "patch", "get", "delete")),
                "headers": Field("texts"),
                "hasAuth": _FLAG,
                "authType": Field(among=("webhook-authentication-basic",)),
                "verificationMode": Field(among=("full",)),
            },
            {"user": _TEXT, "password": _TEXT, "secretHeaders": Field("texts")},
            lent=True,
        ),
        Kind(".slack", "Slack", _ALERTING, {}, {"webhookUrl": _URL}, lent=True),
        Kind(
            ".slack_api",
            "Slack API",
            _ALERTING,
            {"allowedChannels": Field("list")},
            {"token": Field(required=True)},
            lent=True,
        ),
        Kind(
            ".email",
            "Email",
            _ALERTING,
            {
                "from": Field(required=True),
                "service": Field(among=("other", "gmail", "outlook365")),
                "host": _TEXT,
                "port": _NUMBER,
                "secure": _FLAG,
                "hasAuth": _FLAG,
            },
            {"user": _TEXT, "password": _TEXT},
            lent=True,
        ),
        Kind(
            ".index",
            "Index",
            _ALERTING,
            {"index": Field(required=True), "refresh": _FLAG, "executionTimeField": _TEXT},
        ),
        Kind(".server-log", "Server log", ("alerting", "uptime")),
        *(
            Kind(
                id,
                name,
                features,
                made=False,
                missing="it is not part of this version. A .webhook connector can often do the same",
            )
            for id, name, features in (
                (".jira", "Jira", (*_ALERTING, "cases")),
                (".opsgenie", "Opsgenie", _ALERTING),
                (".pagerduty", "PagerDuty", _ALERTING),
                (".servicenow", "ServiceNow ITSM", (*_ALERTING, "cases")),
                (".teams", "Microsoft Teams", _ALERTING),
            )
        ),
    )
}

_TYPES: Mapping[str, tuple[type, ...]] = {
    "text": (str,),
    "url": (str,),
    "flag": (bool,),
    "number": (int, float),
    "list": (list,),
    "object": (dict,),
    "texts": (dict,),
}
_SAID = {"flag": "true or false", "number": "a number", "list": "an array", "object": "an object"}


def kind_of(type_id: str) -> Kind:
    """Raises BadRequest naming what there is."""
    kind = KINDS.get(type_id)
    if kind is None:
        there = ", ".join(sorted(known for known, kind in KINDS.items() if kind.made))
        raise BadRequest(f"There is no connector type {type_id[:100]!r}; known are: {there}.")
    return kind


def shown_type(kind: Kind, *, lacking: str = "") -> ConnectorType:
    """`lacking`: what else this server has not set up for it, as the end of a sentence."""
    missing = kind.missing or lacking
    return ConnectorType(kind.id, kind.name, kind.features, not missing, f"{kind.name}: {missing}." if missing else "")


def answers(type_id: str, config: Mapping[str, Any]) -> bool:
    """A connector like this can answer turns."""
    if type_id == INFERENCE:
        return config.get("provider") == "openai" and config.get("taskType") == "chat_completion"
    return type_id == GEN_AI


def meant_as_model(type_id: str) -> bool:
    """Whoever names it asks for an answer, also of a kind that this server cannot ask."""
    return type_id in (GEN_AI, INFERENCE, ".bedrock", ".gemini")


def lacks_secrets(kind: Kind, secrets: Mapping[str, Any]) -> bool:
    return any(field.required and secrets.get(name) is None for name, field in kind.secrets.items())


def check(kind: Kind, name: str, config: Mapping[str, Any], secrets: Mapping[str, Any], reach: Reach) -> None:
    """Raises BadRequest on what a connector of this kind may not hold."""
    if not name.strip() or len(name) > NAME_CHARS_MAX or not name.isprintable():
        raise BadRequest(f"The name of a connector has 1 to {NAME_CHARS_MAX} printable characters.")
    for what, given, fields in (("config", config, kind.config), ("secrets", secrets, kind.secrets)):
        if len(msgspec.json.encode(given)) > PART_BYTES_MAX:
            raise BadRequest(f"The {what} of a connector may have at most {PART_BYTES_MAX} bytes of JSON.")
        for field_name, field in fields.items():
            _check_field(f"{what}.{field_name}", field, given.get(field_name), kind, reach)
    _check_together(kind, config, secrets, reach)


def preconfigured(name: str, model_kind: str, model_name: str = "") -> Connector:
    """A model of the configuration file, as the connector it shows up as.

    One of kind `openai` is a `.gen-ai`; ours that ask nobody (`offline`, `scripted`) are endpoints of the server's own,
    `.inference`. Neither url nor key are told.
    """
    if model_kind == "openai":
        config: dict[str, Any] = {"apiProvider": "Other", "defaultModel": model_name}
        return Connector(name, GEN_AI, name, config, preconfigured=True, model=True)
    config = {"provider": model_kind, "taskType": "chat_completion", "inferenceId": name}
    return Connector(name, INFERENCE, name, config, preconfigured=True, model=True)


def headers_of(value: Any) -> tuple[tuple[str, str], ...]:
    """A checked field of kind `texts`."""
    return tuple(cast("Mapping[str, str]", value or {}).items())


def _check_field(place: str, field: Field, value: Any, kind: Kind, reach: Reach) -> None:
    if value is None or (value == "" and field.required):
        if field.required:
            raise BadRequest(f"{place} is required for a connector of type {kind.id}.")
        return
    wanted = _TYPES[field.kind]
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        raise BadRequest(f"{place} must be {_SAID.get(field.kind, 'a string')}.")
    if field.among and value not in field.among:
        raise BadRequest(f"{place}: this server takes {_or(field.among)} for a connector of type {kind.id}.")
    if field.kind == "url":
        reach.check_url(cast("str", value), field=place)
    if field.kind == "texts":
        _check_texts(place, cast("dict[str, Any]", value))


def _check_texts(place: str, value: Mapping[str, Any]) -> None:
    """They become headers of a request."""
    if len(value) > HEADERS_MAX or not all(isinstance(text, str) for text in value.values()):
        raise BadRequest(f"{place} must be an object of at most {HEADERS_MAX} strings.")
    for name, text in value.items():
        if (
            not name
            or not name.isascii()
            or not name.isprintable()
            or any(char in name for char in ' :"(),/;<=>?@[]{}')
        ):
            raise BadRequest(f"{place}: {name[:100]!a} is not the name of a header.")
        if not (text.isascii() and text.isprintable()):
            raise BadRequest(f"{place}.{name[:100]}: a header's value is one line of printable ASCII.")


def _check_together(kind: Kind, config: Mapping[str, Any], secrets: Mapping[str, Any], reach: Reach) -> None:
    """What no field says alone."""
    if kind.id in (".webhook", ".email") and (secrets.get("user") is None) != (secrets.get("password") is None):
        raise BadRequest("secrets.user and secrets.password go together: give both or none.")
    if kind.id == ".webhook" and ":" in (secrets.get("user") or ""):
        raise BadRequest("secrets.user may not hold a colon.")
    if kind.id == ".email" and (config.get("service") or "other") == "other":
        if not config.get("host") or config.get("port") is None:
            raise BadRequest("config.host and config.port are required for a connector of type .email.")
        port = config["port"]
        if not isinstance(port, int) or not 1 <= port <= 65535:
            raise BadRequest("config.port must be a whole number from 1 to 65535.")
        reach.check_host(str(config["host"]), field="config.host")
    if kind.id == INFERENCE:
        url = cast("dict[str, Any]", config.get("providerConfig") or {}).get("url")
        if url is not None and not isinstance(url, str):
            raise BadRequest("config.providerConfig.url must be a string.")
        if url:
            reach.check_url(url, field="config.providerConfig.url")


def _or(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
