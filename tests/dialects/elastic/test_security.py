"""Attacks over this wire, against a whole house on disk: other people's things, secrets, addresses. What stands against
each: `docs/security.md`. What models are told, and requests made to hurt: `test_security_turns.py`."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from dragoman.dialects.elastic import DIALECT
from tests.dialects.elastic.fortress import (
    CANARY,
    GEN_AI,
    INTERNAL,
    PUBLIC,
    Fortress,
    asking,
    called,
    connector,
    entry,
    fortress,
    message,
    on_disk,
)


def document(title: str, said: str, *, id: str = "", public: bool = False) -> dict[str, Any]:
    head = {"title": title} | ({"id": id} if id else {})
    return {
        "conversation": {
            "@timestamp": "2026-01-01T00:00:00.000Z",
            "conversation": head,
            "messages": [message(said)],
            "labels": {},
            "numeric_labels": {},
            "public": public,
        }
    }


# -- whose it is -------------------------------------------------------------------------------------------------------


class Belongings:
    """What the owner has, all of it with the canary in it."""

    conversation = ""
    connector = "mine"
    entry = "note"

    def __init__(self, f: Fortress) -> None:
        self.f = f

    async def put(self) -> None:
        f = self.f
        f.model.rows = [f"It is {CANARY}."]
        self.conversation = await f.conversation("owner", title=f"{CANARY} title")
        made = await f.call(
            "owner", "POST", "/api/actions/connector/mine", connector(GEN_AI | {"defaultModel": CANARY})
        )
        assert made.status == 200
        for kind, body in (
            ("entries/save", entry("note", f"{CANARY} note", public=False)),
            ("entries/save", entry("told", f"{CANARY} told", public=True)),
        ):
            assert (await f.call("owner", "POST", f"{INTERNAL}/kb/{kind}", body)).status == 200
        wish = {"id": "wish", "text": f"{CANARY} wish", "public": False}
        assert (await f.call("owner", "PUT", f"{INTERNAL}/kb/user_instructions", wish)).status == 200

    def path(self, template: str, space: str) -> str:
        return (
            template.replace("{space}", space)
            .replace("{conversation}", self.conversation)
            .replace("{id}", self.connector)
            .replace("{connectorId}", self.connector)
            .replace("{entryId}", self.entry)
        )

    def body(self, method: str, path: str) -> Any:
        """One that is well made and names what is the owner's."""
        one = self.conversation
        if "chat/complete" in path:
            inside = {"screenContexts": [], "scopes": ["all"]} if "internal" in path else {}
            return asking("What do I like?", persist=True, conversationId=one) | inside
        bodies: dict[str, Any] = {
            "/chat/recall": {"connectorId": "mine", "scopes": ["all"], "messages": [message("What?")]},
            "/chat": {
                **asking("Hi", connectorId="mine"),
                **{"name": "n", "systemMessage": "", "functions": [], "scopes": ["all"]},
            },
            "/conversations": {},
            "/duplicate": None,
            "/conversation": document("t", "hello"),
            "/functions/recall": {"queries": [{"text": CANARY}]},
            "/summarize": {"title": "t", "text": "t", "public": True, "labels": {}},
            "/user_instructions": {"id": "wish", "text": "theirs", "public": True},
            "/entries/save": entry("note", "theirs", public=False),
            "/entries/import": {"entries": [entry("note", "theirs", public=False)]},
            "/_execute": {"params": {}},
        }
        if f"conversation/{one}" in path and method == "PUT":
            return document("theirs", "theirs", id=one)
        if f"conversation/{one}" in path and method == "PATCH":
            return {"public": True}
        if "connector/" in path and method in ("POST", "PUT") and not path.endswith("_execute"):
            whole = connector()
            return {key: whole[key] for key in ("name", "config")} if method == "PUT" else whole
        if "chat" in path:
            bodies["/chat"].pop("persist", None)
        return next((value for end, value in bodies.items() if path.endswith(end)), None)

    async def stand(self) -> None:
        """Everything is there, as it was."""
        f = self.f
        found = await f.call("owner", "GET", f"{INTERNAL}/conversation/{self.conversation}")
        assert found.status == 200
        told = json.loads(found.body)
        assert told["conversation"]["title"] == f"{CANARY} title" and not told["public"]
        assert len(told["messages"]) == 4
        assert CANARY in (await f.call("owner", "GET", "/api/actions/connector/mine")).body.decode()
        listed = await f.call("owner", "GET", f"{INTERNAL}/kb/entries?query=&sortBy=title&sortDirection=asc")
        assert [each["text"] for each in json.loads(listed.body)["entries"][:1]] == [f"{CANARY} note"]
        wishes = json.loads((await f.call("owner", "GET", f"{INTERNAL}/kb/user_instructions")).body)
        assert wishes["userInstructions"][0]["text"] == f"{CANARY} wish"


def queries(path: str) -> str:
    """What a route wants in its query."""
    if path.endswith("kb/entries"):
        return "?query=&sortBy=title&sortDirection=asc"
    if path.endswith("get_dataset_info"):
        return "?index=&connectorId=mine"
    return "?inference_id=x" if path.endswith(("kb/setup", "kb/warmup_model")) else ""


@pytest.mark.parametrize("who", ["stranger", "viewer", "other"])
async def test_what_belongs_to_somebody_is_there_for_nobody_else(tmp_path: Path, who: str) -> None:
    """Over the route table: every route, its paths without a space and in the owner's and their own. The project's
    people share its connectors and its public knowledge, and nothing else; who may not chat gets nothing at all."""
    shared_with_project = ("/connector", "/connectors", "/kb/entries", "/functions/recall", "/chat/recall")
    async with fortress(tmp_path, "Hm.") as f:
        mine = Belongings(f)
        await mine.put()
        f.model.rows = ["Hm."]
        asked, statuses = 0, set[int]()
        for route in DIALECT.routes:
            for template in (route.path, *route.also):
                for space in ("default", "elsewhere") if "{space}" in template else ("",):
                    path = mine.path(template, space)
                    before = len(f.model.prompts)
                    reply = await f.call(who, route.method, path + queries(path), mine.body(route.method, path))
                    asked += 1
                    what = (who, route.method, path, reply.status, reply.body)
                    if who == "viewer" or (space == "elsewhere" and who == "other"):
                        assert reply.status in (403, 404), what
                    if not (who == "other" and any(each in path for each in shared_with_project)):
                        assert CANARY not in reply.body.decode(), what
                    if "recall" in path:
                        assert f"{CANARY} note" not in reply.body.decode(), what
                    heard = repr(f.model.prompts[before:])
                    assert f"{CANARY} note" not in heard and f"{CANARY} wish" not in heard, what
                    if "/chat/complete" in path and reply.status == 200 and who == "other":
                        assert b"Conversation not found" in reply.body and len(f.model.prompts) == before, what
                    statuses.add(reply.status)
        assert asked > 80 and (who == "viewer" or 200 in statuses)
        await mine.stand()


async def test_what_is_not_kept_is_there_for_who_asked_alone(tmp_path: Path) -> None:
    """Also on a wire that knows no users, by the id of the run."""
    async with fortress(tmp_path, CANARY) as f:
        run = (await f.ask("owner", "Hello")).headers["x-run-id"]
        for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel")):
            for who in ("other", "viewer", "stranger"):
                reply = await f.call(who, method, f"/api/runs/{run}{path}")
                assert reply.status == 404 and CANARY not in reply.body.decode(), (who, path)
        assert CANARY in (await f.call("owner", "GET", f"/api/runs/{run}")).body.decode()


async def test_knowledge_for_everybody_is_written_by_who_may_write_it(tmp_path: Path) -> None:
    """On every way in; private notes are for everybody to keep, and nobody's to make public by the way."""
    kb = f"{INTERNAL}/kb"
    wish = {"id": "w", "text": "mine", "public": False}
    two = [entry("p", "p", public=False), entry("e", CANARY, public=True)]
    by_tool = called("summarize", json.dumps({"title": "t", "text": CANARY, "public": True}))
    async with fortress(tmp_path, "Done.") as f:
        requests: tuple[tuple[str, str, Any], ...] = (
            (f"{kb}/entries/save", "POST", entry("e", CANARY, public=True)),
            (f"{kb}/entries/save", "POST", {"id": "e", "title": "e", "text": CANARY}),
            (f"{kb}/entries/import", "POST", {"entries": two}),
            (f"{INTERNAL}/functions/summarize", "POST", {"title": "t", "text": CANARY, "public": True, "labels": {}}),
            (f"{kb}/user_instructions", "PUT", wish | {"public": True, "text": CANARY}),
        )
        for path, method, sent in requests:
            assert (await f.call("other", method, path, sent)).status == 403, (path, sent)
        assert (await f.call("other", "PUT", f"{kb}/user_instructions", wish)).status == 200
        assert (await f.call("other", "PUT", f"{kb}/user_instructions", wish | {"public": True})).status == 403
        assert (await f.ask("other", "Remember", by_tool)).status == 200
        assert "resources:write" in f.model.heard.decode()
        listed = f"{kb}/entries?query=&sortBy=title&sortDirection=asc"
        assert json.loads((await f.call("owner", "GET", listed)).body)["entries"] == []
        assert (await f.call("owner", "POST", f"{kb}/entries/save", entry("e", "e", public=True))).status == 200
        for body in (entry("e", "theirs", public=False), entry("e", "theirs", public=True)):
            assert (await f.call("other", "POST", f"{kb}/entries/save", body)).status == 403
        assert (await f.call("other", "DELETE", f"{kb}/entries/e")).status == 403


async def test_what_others_keep_for_themselves_reaches_no_prompt(tmp_path: Path) -> None:
    kb = f"{INTERNAL}/kb"
    async with fortress(tmp_path, "Hm.") as f:
        for text, public in ((f"{CANARY} favourite colour blue", False), ("our favourite colour is green", True)):
            body = entry(text[-5:], text, public=public)
            assert (await f.call("owner", "POST", f"{kb}/entries/save", body)).status == 200
        wish = {"id": "w", "text": f"{CANARY} wish", "public": False}
        assert (await f.call("owner", "PUT", f"{kb}/user_instructions", wish)).status == 200
        await f.ask("other", "What is my favourite colour?")
        assert b"green" in f.model.heard and CANARY.encode() not in f.model.heard
        await f.ask("owner", "What is my favourite colour?")
        assert f"{CANARY} favourite" in f.model.heard.decode() and f"{CANARY} wish" in f.model.heard.decode()


# -- secrets -----------------------------------------------------------------------------------------------------------


async def test_secrets_of_connectors_are_told_to_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Answers, refusals, logs, metrics, the store with its journal, and what the outside system says back."""
    caplog.set_level(logging.DEBUG)
    secret = "sEcReT-5f2b9a"
    said: list[bytes] = []
    heads: list[str] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        body = json.dumps({"you sent": heads[-1]}).encode()
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (len(heads) % 2 * 200 + 200, len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    hook = {"secretHeaders": {"X-Key": f"Bearer {secret}"}, "user": "u", "password": f"{secret}-p"}
    async with server, fortress(tmp_path / "home", (("execute_connector", '{"id":"hook","params":{}}'),), "Sent.") as f:
        one = "/api/actions/connector"
        requests: list[tuple[str, str, Any]] = [
            ("POST", f"{one}/llm", connector(GEN_AI, secrets={"apiKey": secret})),
            ("PUT", f"{one}/llm", {"name": "n", "config": GEN_AI, "secrets": {"apiKey": secret}}),
            ("POST", f"{one}/hook", connector({"url": url}, kind=".webhook", secrets=hook)),
            ("POST", f"{one}/hook/_execute", {"params": {"body": "x"}}),
            ("POST", f"{one}/hook/_execute", {"params": {"body": "x"}}),
            ("POST", f"{one}/hook/_execute", {"params": {"body": "x"}}),
            ("GET", f"{one}s", None),
            ("GET", f"{INTERNAL}/connectors", None),
            ("POST", one, connector(GEN_AI, secrets={"apiKey": [secret]})),
            ("POST", one, connector(GEN_AI, secrets=secret)),
            ("POST", one, connector(GEN_AI, secrets=[secret])),
            ("POST", one, connector(GEN_AI, secrets={"apiKey": {"deep": secret}})),
            ("POST", one, connector(kind=".webhook", config={"url": url}, secrets={"secretHeaders": secret})),
            ("POST", one, connector(kind=".webhook", config={"url": url}, secrets={"secretHeaders": {"a": [secret]}})),
            (
                "POST",
                one,
                connector(kind=".webhook", config={"url": url}, secrets={"secretHeaders": {"a": f"{secret}\n"}}),
            ),
            ("POST", one, connector(kind=".slack", config={}, secrets={"webhookUrl": f"ftp://x/{secret}"})),
            ("POST", one, connector(kind=".slack", config={}, secrets={"webhookUrl": f"http://u:{secret}@h/"})),
            ("POST", one, connector(GEN_AI, secrets={"apiKey": secret}) | {"excess": 1}),
            ("POST", PUBLIC, asking("Hi", connectorId="llm")),
            ("POST", PUBLIC, asking("Tell them", persist=True)),
            ("GET", "/metrics", None),
            ("GET", "/api/server", None),
        ]
        for method, path, body in requests:
            said.append((await f.call("owner", method, path, body)).body)
        assert sum(secret in head for head in heads) == 4, "the outside system is told, and only it"
        assert b"[secret]" in f.model.heard and secret.encode() not in f.model.heard
        kept = on_disk(tmp_path)
        assert b"hook" in kept and secret.encode() not in kept
        opened = f.house.connectors.opened(await f.house.connectors.kept(f.house.project, "hook"))  # type: ignore[arg-type]
        assert secret not in repr(opened)
    assert secret.encode() not in on_disk(tmp_path)
    assert secret.encode() not in b"".join(said)
    assert secret not in caplog.text


# -- addresses ---------------------------------------------------------------------------------------------------------

METADATA = (
    "169.254.169.254",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::a9fe:a9fe]",
    "[2002:a9fe:a9fe::]",
    "[2001:0:a9fe:a9fe::1]",
    "[::a9fe:a9fe]",
    "[fd00:ec2::254]",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "169.254.169.254.",
    "\u2460\u2465\u2468.\u2461\u2464\u2463.\u2460\u2465\u2468.\u2461\u2464\u2463",
    "169\u3002254\u3002169\u3002254",
    "\uff11\uff16\uff19.254.169.254",
    "%31%36%39.254.169.254",
    "metadata.google.internal",
    "METADATA.google.internal.",
    "\u24dcetadata.google.internal",
)


async def test_no_connector_is_set_up_for_the_places_where_clouds_keep_credentials(tmp_path: Path) -> None:
    async with fortress(tmp_path) as f:
        for host in METADATA:
            url = f"http://{host}/latest"
            asked = {"provider": "openai", "taskType": "chat_completion", "providerConfig": {"url": url}}
            for body in (
                connector(GEN_AI | {"apiUrl": url}),
                connector(asked, kind=".inference"),
                connector({"url": url}, kind=".webhook"),
                connector({}, kind=".slack", secrets={"webhookUrl": url}),
                connector({"from": "a@b.example", "host": host.strip("[]"), "port": 25}, kind=".email"),
            ):
                assert (await f.call("owner", "POST", "/api/actions/connector", body)).status == 400, body


AMBIGUOUS = (
    "http://user:password@127.0.0.1/",
    "http://user@127.0.0.1/",
    "http://127.0.0.1\\@169.254.169.254/",
    "http://127.0.0.1/\r\nx-evil: 1",
    "http://127.0.0.1/\tx",
    "http://127.0.0.1:99999/",
    "file:///etc/passwd",
    "gopher://127.0.0.1/",
    "//127.0.0.1/",
    "http://",
)


async def test_addresses_that_mean_two_things_are_none(tmp_path: Path) -> None:
    async with fortress(tmp_path) as f:
        for url in AMBIGUOUS:
            for body in (connector(GEN_AI | {"apiUrl": url}), connector({"url": url}, kind=".webhook")):
                assert (await f.call("owner", "POST", "/api/actions/connector", body)).status == 400, url


async def test_a_name_that_leads_to_what_is_off_limits_is_not_followed_nor_a_redirect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.0.0.0 is one of those addresses, and would reach the server here. Each address counts, and the one that was
    looked at is the one connected to."""
    asked: list[str] = []
    heads: list[str] = []

    async def lookup(host: str, at: Any, **more: Any) -> Any:
        asked.append(host)
        return [(2, 1, 6, "", (address, int(at))) for address in ("127.0.0.1", "0.0.0.0")]

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        there = b"http://127.0.0.1:%d/second" % port
        writer.write(b"HTTP/1.1 307 X\r\nlocation: %s\r\ncontent-length: 0\r\n\r\n" % there)
        await writer.drain()
        writer.close()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lookup)
    server = await asyncio.start_server(redirect, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, fortress(tmp_path) as f:
        for name, host in (("direct", "127.0.0.1"), ("named", "rebinding.example")):
            url = f"http://{host}:{port}/first"
            for id, body in (
                (f"{name}-llm", connector(GEN_AI | {"apiUrl": url})),
                (f"{name}-hook", connector({"url": url}, kind=".webhook")),
            ):
                assert (await f.call("owner", "POST", f"/api/actions/connector/{id}", body)).status == 200
            hook = f"/api/actions/connector/{name}-hook/_execute"
            assert json.loads((await f.call("owner", "POST", hook, {"params": {}})).body)["status"] == "error"
            assert b'{"error"' in (await f.ask("owner", "Hi", connectorId=f"{name}-llm")).body
    assert set(asked) == {"127.0.0.1", "rebinding.example"} or set(asked) == {"rebinding.example"}
    assert len(heads) == 2 and all(" /first " in head and "host: 127.0.0.1" in head.lower() for head in heads)


async def test_connectors_reach_the_hosts_they_may_and_no_others(tmp_path: Path) -> None:
    async with fortress(tmp_path, hosts=("*.corp.example", "127.0.0.1")) as f:
        for host, status in (("llm.corp.example", 200), ("127.0.0.1", 200), ("corp.example.evil.example", 400)):
            body = connector(GEN_AI | {"apiUrl": f"http://{host}/v1"})
            assert (await f.call("owner", "POST", "/api/actions/connector", body)).status == status, host
