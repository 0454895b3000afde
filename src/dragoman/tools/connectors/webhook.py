"""Webhooks and Slack: something is posted, and the status says whether it was taken.

What is said of an outcome follows Kibana's `_execute`: `message` names what failed, `service_message` what the other
side said of it.
"""

from base64 import b64encode
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, cast

import msgspec
from msgspec import Struct

from dragoman.core.connectors import Executed
from dragoman.core.errors import BadRequest
from dragoman.runtime.connector_checks import headers_of
from dragoman.runtime.connectors import Opened
from dragoman.tools.connectors.posting import Posted, PostFailed, Posting

SLACK_API = "https://slack.com/api/chat.postMessage"
MESSAGE_CHARS_MAX = 40_000
"""Slack cuts longer texts off."""
CHANNELS_MAX = 20
SAID_CHARS_MAX = 300
"""So much of the other side's words is passed on."""


class WebhookParams(Struct, frozen=True, forbid_unknown_fields=True):
    body: str = ""


class SlackParams(Struct, frozen=True, forbid_unknown_fields=True):
    message: str


class SlackPost(Struct, frozen=True, forbid_unknown_fields=True):
    """`channels` are names; `channelIds` ids. One of them."""

    text: str
    channels: tuple[str, ...] = ()
    channelIds: tuple[str, ...] = ()


class SlackApiParams(Struct, frozen=True, forbid_unknown_fields=True):
    subAction: str
    subActionParams: SlackPost


class _SlackAnswer(Struct):
    ok: bool
    error: str = ""


async def execute_webhook(posting: Posting, connector: Opened, params: WebhookParams, *, key: str) -> Executed:
    config, secrets = connector.config, connector.secrets
    method = str(config.get("method") or "post").upper()
    body = params.body.encode()
    headers = {"Content-Type": _media_type(body)} if body and method != "GET" else {}
    headers |= {"Idempotency-Key": key}
    given = [*headers_of(config.get("headers")), *headers_of(secrets.get("secretHeaders"))]
    if config.get("hasAuth") is not False and secrets.get("user") is not None:
        login = b64encode(f"{secrets['user']}:{secrets['password']}".encode()).decode()
        given.append(("Authorization", f"Basic {login}"))
    named = {name.lower() for name, _ in given}
    sent = [*((name, value) for name, value in headers.items() if name.lower() not in named), *given]
    try:
        posted = await posting.send(method, str(config["url"]), headers=sent, body=b"" if method == "GET" else body)
    except PostFailed as failed:
        return _unreached(connector.id, "webhook", failed)
    if 200 <= posted.status < 300:
        return Executed(connector.id, True, data=_readable(posted.body))
    return _refused(connector.id, "webhook", posted)


async def execute_slack(posting: Posting, connector: Opened, params: SlackParams) -> Executed:
    _check_message(params.message)
    body = msgspec.json.encode({"text": params.message})
    url = str(connector.secrets["webhookUrl"])
    try:
        posted = await posting.send("POST", url, headers=[("Content-Type", "application/json")], body=body)
    except PostFailed as failed:
        return _unreached(connector.id, "slack", failed)
    if 200 <= posted.status < 300:
        return Executed(connector.id, True, data={"text": "ok"})
    return _refused(connector.id, "slack", posted)


async def execute_slack_api(posting: Posting, connector: Opened, params: SlackApiParams, *, url: str) -> Executed:
    """`url` is Slack's own."""
    if params.subAction != "postMessage":
        raise BadRequest("params.subAction: this server takes postMessage for a connector of type .slack_api.")
    post = params.subActionParams
    _check_message(post.text)
    channels = post.channelIds or post.channels
    if not channels or len(channels) > CHANNELS_MAX:
        raise BadRequest(f"params.subActionParams.channels must name 1 to {CHANNELS_MAX} channels.")
    _check_channels(channels, connector.config.get("allowedChannels"))
    headers = [
        ("Authorization", f"Bearer {connector.secrets['token']}"),
        ("Content-Type", "application/json; charset=utf-8"),
    ]
    for number, channel in enumerate(channels):
        body = msgspec.json.encode({"channel": channel, "text": post.text})
        failed = await _posted_to_slack(posting, connector.id, url, headers=headers, body=body)
        if failed is not None:
            return _after(channels[:number], failed)
    return Executed(connector.id, True, data={"ok": True, "channels": channels})


async def _posted_to_slack(
    posting: Posting, connector_id: str, url: str, *, headers: Sequence[tuple[str, str]], body: bytes
) -> Executed | None:
    """Why Slack did not take it; None: it did."""
    try:
        posted = await posting.send("POST", url, headers=headers, body=body)
    except PostFailed as failed:
        return _unreached(connector_id, "slack", failed)
    if posted.status != 200:
        return _refused(connector_id, "slack", posted)
    try:
        answer = msgspec.json.decode(posted.body, type=_SlackAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Executed(connector_id, False, message="error posting slack message", service_message="no JSON")
    if answer.ok:
        return None
    said = answer.error[:SAID_CHARS_MAX]
    return Executed(connector_id, False, message="error posting slack message", service_message=said)


def _after(channels: Sequence[str], failed: Executed) -> Executed:
    """The failure, if these channels have the message already: it is not to be sent again as it is."""
    if not channels:
        return failed
    sent = f"it was posted to {', '.join(channels)} before that"
    said = f"{failed.service_message}; {sent}" if failed.service_message else sent
    return msgspec.structs.replace(failed, service_message=said, retry=False)


def _check_message(text: str) -> None:
    if not text.strip() or len(text) > MESSAGE_CHARS_MAX:
        raise BadRequest(f"The message must have 1 to {MESSAGE_CHARS_MAX} characters.")


def _check_channels(channels: tuple[str, ...], allowed: Any) -> None:
    """`allowedChannels` holds objects with `id` and `name`; none = all are allowed."""
    if not allowed:
        return
    entries = cast("list[Any]", allowed)
    known = {
        str(value).removeprefix("#")
        for entry in entries
        for value in (cast("dict[str, Any]", entry).values() if isinstance(entry, dict) else (entry,))
    }
    for channel in channels:
        if channel.removeprefix("#") not in known:
            raise BadRequest(f"This connector may not post to the channel {channel[:100]}.")


def _media_type(body: bytes) -> str:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "text/plain; charset=utf-8"
    return "application/json"


def _readable(body: bytes) -> Any:
    """JSON as what it says, other text as text."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode("utf-8", "replace")


def _unreached(connector_id: str, what: str, failed: PostFailed) -> Executed:
    return Executed(
        connector_id,
        False,
        message=f"error calling {what}, unexpected error",
        service_message=str(failed),
        retry=failed.retry,
    )


def _refused(connector_id: str, what: str, posted: Posted) -> Executed:
    try:
        phrase = HTTPStatus(posted.status).phrase
    except ValueError:
        phrase = "unknown status"
    said = f"[{posted.status}] {phrase}"
    if 300 <= posted.status < 400:
        said += ": redirects are not followed"
    if posted.status == 429:
        when = "" if posted.retry_after_s is None else f" in {posted.retry_after_s:g} s"
        return Executed(connector_id, False, message=f"error calling {what}, retry later{when}", retry=True)
    if posted.status >= 500:
        message = f"error calling {what}, retry later"
        return Executed(connector_id, False, message=message, service_message=said, retry=True)
    words = posted.body[: SAID_CHARS_MAX * 4].decode("utf-8", "replace")[:SAID_CHARS_MAX].strip()
    message = f"error calling {what}, invalid response"
    return Executed(connector_id, False, message=message, service_message=f"{said}: {words}" if words else said)
