"""Webhooks and Slack, against servers on loopback that obey the test."""

from typing import Any

import pytest
from aiohttp import web

from dragoman.core.connectors import Executed
from dragoman.core.errors import BadRequest
from dragoman.tools.connectors.webhook import MESSAGE_CHARS_MAX
from tests.tools.conftest import Serve
from tests.tools.connectors.rig import CLOSED, Notes, Rig, rigged

# -- webhooks ----------------------------------------------------------------------------------------------------------


async def test_a_webhook_is_posted_to(rig: Rig, serve: Serve):
    notes = Notes()
    url = await serve(notes.take) + "/hook?key=1"
    config = {"url": url, "headers": {"X-Team": "sre"}}
    secrets = {"user": "me", "password": "p:w", "secretHeaders": {"X-Secret": "hush"}}

    assert await rig(".webhook", config, secrets, body='{"a":1}') == Executed("c", True, data={"taken": True})
    [(method, path, headers, body)] = notes.seen
    assert (method, path, body) == ("POST", "/hook?key=1", '{"a":1}')
    assert headers["authorization"] == "Basic bWU6cDp3"
    assert (headers["x-team"], headers["x-secret"]) == ("sre", "hush")
    assert headers["content-type"] == "application/json"
    assert headers["idempotency-key"] == "run:call"


@pytest.mark.parametrize(
    ("config", "params", "method", "media_type", "body"),
    [
        ({"method": "put"}, {"body": "plain"}, "PUT", "text/plain; charset=utf-8", "plain"),
        ({"method": "get"}, {"body": "ignored"}, "GET", None, ""),
        ({"method": "delete"}, {}, "DELETE", None, ""),
        ({"headers": {"content-type": "application/x-own"}}, {"body": "{}"}, "POST", "application/x-own", "{}"),
    ],
)
async def test_methods_and_media_types(
    rig: Rig, serve: Serve, config: dict[str, Any], params: dict[str, str], method: str, media_type: str, body: str
):
    notes = Notes(web.Response(text="fine"))
    config["url"] = await serve(notes.take)

    assert (await rig(".webhook", config, {}, **params)).data == "fine"
    [(seen_method, _, headers, seen_body)] = notes.seen
    assert (seen_method, seen_body) == (method, body)
    if media_type:
        assert headers["content-type"] == media_type
    assert "authorization" not in headers


async def test_no_login_where_none_is_wanted(rig: Rig, serve: Serve):
    notes = Notes()
    config = {"url": await serve(notes.take), "hasAuth": False}
    await rig(".webhook", config, {"user": "u", "password": "p"}, body="x")
    assert "authorization" not in notes.seen[0][2]


@pytest.mark.parametrize(
    ("answer", "message", "service_message", "retry"),
    [
        (
            web.Response(status=400, text="bad thing"),
            "error calling webhook, invalid response",
            "[400] Bad Request: bad thing",
            False,
        ),
        (web.Response(status=404), "error calling webhook, invalid response", "[404] Not Found", False),
        (web.Response(status=503), "error calling webhook, retry later", "[503] Service Unavailable", True),
        (web.Response(status=429), "error calling webhook, retry later", "", True),
        (web.Response(status=429, headers={"Retry-After": "7"}), "error calling webhook, retry later in 7 s", "", True),
        (
            web.Response(status=302, headers={"Location": "http://169.254.169.254/"}),
            "error calling webhook, invalid response",
            "[302] Found: redirects are not followed",
            False,
        ),
    ],
)
async def test_what_is_not_taken_is_an_outcome(
    rig: Rig, serve: Serve, answer: web.Response, message: str, service_message: str, retry: bool
):
    notes = Notes(answer)
    got = await rig(".webhook", {"url": await serve(notes.take)}, {}, body="x")
    assert got == Executed("c", False, message=message, service_message=service_message, retry=retry)
    assert len(notes.seen) == 1


async def test_nobody_there(rig: Rig):
    got = await rig(".webhook", {"url": CLOSED}, {}, body="x")
    assert got.service_message == "127.0.0.1 could not be reached"
    assert (got.ok, got.retry, got.message) == (False, True, "error calling webhook, unexpected error")


# -- Slack -------------------------------------------------------------------------------------------------------------


async def test_slack_by_webhook(rig: Rig, serve: Serve):
    notes = Notes(web.Response(text="ok"))
    url = await serve(notes.take) + "/services/T/B/x"
    assert (await rig(".slack", {}, {"webhookUrl": url}, message="Disk is full")).ok
    [(_, path, _, body)] = notes.seen
    assert (path, body) == ("/services/T/B/x", '{"text":"Disk is full"}')


async def test_slack_that_is_gone_and_slack_that_refuses(rig: Rig, serve: Serve):
    url = await serve(Notes(web.Response(status=404, text="no_team")).take)
    got = await rig(".slack", {}, {"webhookUrl": url}, message="x")
    assert (got.message, got.service_message) == ("error calling slack, invalid response", "[404] Not Found: no_team")
    assert not (await rig(".slack", {}, {"webhookUrl": CLOSED}, message="x")).ok


@pytest.mark.parametrize(
    ("then", "why"),
    [
        (web.json_response({"ok": False, "error": "channel_not_found"}), "channel_not_found"),
        (web.Response(text="no json"), "no JSON"),
        (web.Response(status=500), "[500] Internal Server Error"),
        (web.Response(status=429), ""),
    ],
)
async def test_what_some_channels_of_slack_got_is_not_said_to_be_unsent(serve: Serve, then: web.Response, why: str):
    """Whoever sent it all again would post it twice."""
    notes = Notes(web.json_response({"ok": True}), then)
    async with rigged(slack_api=await serve(notes.take) + "/api") as rig:
        post = {"channels": ["general", "ops"], "text": "hi"}
        executed = await rig(".slack_api", {}, {"token": "xoxb-1"}, subAction="postMessage", subActionParams=post)
    assert (executed.ok, executed.retry) == (False, False)
    assert executed.service_message == f"{why}; it was posted to general before that".removeprefix("; ")


async def test_slack_api(serve: Serve):
    notes = Notes(
        web.json_response({"ok": True}),
        web.json_response({"ok": False, "error": "channel_not_found"}),
        web.Response(text="no json"),
        web.Response(status=500),
    )
    async with rigged(slack_api=await serve(notes.take) + "/api") as rig:

        async def post(*channels: str, text: str = "hi", sub: str = "postMessage") -> Executed:
            config = {"allowedChannels": [{"id": "C1", "name": "#general"}, "ops"]}
            params = {"subAction": sub, "subActionParams": {"channels": channels, "text": text}}
            return await rig(".slack_api", config, {"token": "xoxb-1"}, **params)

        assert (await post("general")).ok
        assert (await post("#ops")).service_message == "channel_not_found"
        assert (await post("C1")).service_message == "no JSON"
        assert (await post("C1")).retry
        for channels, options, sentence in (
            ((), {}, "must name 1 to 20 channels"),
            (("secret",), {}, "may not post to the channel secret"),
            (("ops",), {"text": " "}, "must have 1 to 40000 characters"),
            (("ops",), {"text": "x" * (MESSAGE_CHARS_MAX + 1)}, "must have 1 to 40000 characters"),
            (("ops",), {"sub": "validChannelId"}, "takes postMessage"),
        ):
            with pytest.raises(BadRequest, match=sentence):
                await post(*channels, **options)
    assert [(seen[1], seen[2]["authorization"], seen[3]) for seen in notes.seen][:1] == [
        ("/api", "Bearer xoxb-1", '{"channel":"general","text":"hi"}')
    ]
