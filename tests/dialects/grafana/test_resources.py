"""Managed resources through the whole server, as Terraform and the command-line clients use them."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dragoman.access.ports import Project
from dragoman.access.scopes import DEFAULT_SCOPES
from dragoman.core.messages import said as message
from dragoman.core.names import ConversationId, Principal, Scope
from dragoman.core.operations import StartTurn
from dragoman.dialects.grafana import decode, errors, resources
from dragoman.dialects.grafana.resource_replies import NOT_CONNECTED
from dragoman.server.assemble import open_house
from dragoman.server.house import House, Parts
from dragoman.stores.memory import MemoryStore
from dragoman.wire.dialect import Dialect
from tests.parts import ADMIN, LedgerTools, ScriptedReplies, open_config, text_reply
from tests.streaming_client import Client
from tests.support import FixedClock

BASE = "/api/plugins/grafana-assistant-app/resources/api/v1"
DIALECT = Dialect("grafana", "Resources", ("/api/",), resources.routes(BASE), decode.credential, errors.fail)
ROUTES = {(route.method, route.path): route for route in DIALECT.routes}


class Caller:
    """Somebody with a credential."""

    def __init__(self, house: House, credential: str) -> None:
        headers = {"authorization": f"Bearer {credential}", "content-type": "application/json"}
        self._client = Client(house.app, headers=headers)

    async def call(
        self, method: str, path: str, body: Any = None, *, scope: str = "", status: int = 200, base: str = BASE
    ) -> Any:
        headers = {"x-resource-scope": scope} if scope else {}
        data = b"" if body is None else json.dumps(body).encode()
        answer = await self._client.request(method, f"{base}{path}", headers=headers, body=data)
        assert answer.status == status, answer.body
        told = json.loads(answer.body)
        if status >= 400:
            assert told["status"] == "error"
            assert told["message"] == told["error"]
            return told["message"]
        assert told["status"] == "success"
        return told["data"]

    async def raw(self, method: str, path: str, body: str = "", *, status: int = 200) -> str:
        answer = await self._client.request(method, f"{BASE}{path}", body=body.encode())
        assert answer.status == status, answer.body
        return answer.body.decode()


class Scene:
    def __init__(self, house: House) -> None:
        self.house = house
        self.model: ScriptedReplies
        self.admin: Caller
        self.ann: Caller
        self.bob: Caller

    async def caller(self, name: str, scopes: tuple[Scope, ...]) -> Caller:
        minted = await self.house.mint.create(name, ADMIN.project, scopes=scopes)
        return Caller(self.house, minted.text)


@asynccontextmanager
async def opened(home: Path) -> AsyncIterator[Scene]:
    clock = FixedClock(1_793_880_000.0)
    store = MemoryStore(clock)
    model = ScriptedReplies(text_reply("Fine."))
    parts: Any = Parts(
        clock=clock,
        store=store,
        access=store,
        models={"offline": model},
        tools=LedgerTools({}),
        dialects=(DIALECT,),
    )
    async with open_house(open_config(), home, parts=parts) as house:
        if await store.project(ADMIN.project) is None:
            await store.put_project(Project(ADMIN.project, "default", 0.0))
        scene = Scene(house)
        scene.model = model
        scene.admin = await scene.caller("admin", (Scope.ADMIN,))
        scene.ann = await scene.caller("ann", DEFAULT_SCOPES)
        scene.bob = await scene.caller("bob", DEFAULT_SCOPES)
        yield scene


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with opened(tmp_path) as made:
        yield made


# -- as Terraform does it --------------------------------------------------------------------------------------------

CREATED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "rules",
        {"scope": "tenant", "name": "n", "ruleContent": "c", "enabled": True, "priority": 5, "applications": ["all"]},
        {"scope": "tenant", "name": "new", "ruleContent": "c", "enabled": False},
    ),
    (
        "skills",
        {"scope": "tenant", "name": "n", "body": "b", "includeInKnowledgebase": True},
        {"scope": "tenant", "name": "new", "body": "b2", "includeInKnowledgebase": False},
    ),
    (
        "quickstarts",
        {"scope": "tenant", "title": "t", "prompt": "p", "enabled": True},
        {"scope": "tenant", "title": "t2", "enabled": False},
    ),
    (
        "integrations",
        {
            "scope": "tenant",
            "name": "n",
            "type": "mcp",
            "enabled": True,
            "configuration": {"url": "https://mcp.example.com", "toolPreferences": {"a": "disabled"}},
        },
        {"scope": "tenant", "name": "new", "enabled": False},
    ),
]
HEADERS = {"customHeaders": [{"key": "Authorization", "value": "Bearer s3cret"}]}


@pytest.mark.parametrize(("plural", "create", "change"), CREATED)
async def test_a_resource_is_made_read_changed_listed_and_deleted(
    scene: Scene, plural: str, create: dict[str, Any], change: dict[str, Any]
) -> None:
    admin = scene.admin
    hidden = HEADERS if plural == "integrations" else {}
    made = await admin.call("POST", f"/{plural}", {**create, **hidden}, status=201)
    assert {key: made[key] for key in create} == create
    assert made["createdBy"] and made["created"] == made["modified"] == "2026-11-05T12:00:00.000Z"
    one = f"/{plural}/{made['id']}"
    read = await admin.call("GET", one)
    assert read == {key: value for key, value in made.items() if key != "integration"}
    changed = await admin.call("PUT", one, change, scope="tenant")
    assert {key: changed[key] for key in {**create, **change}} == {**create, **change}
    listed = await scene.ann.call("GET", f"/{plural}?limit=100&offset=0")
    assert [each["id"] for each in listed[plural]] == [made["id"]]
    assert listed["pagination"] == {"total": 1, "limit": 100, "offset": 0}
    assert (await admin.call("GET", f"/{plural}?scope=user"))[plural] == []
    assert await admin.call("DELETE", one, scope="tenant") == {"id": made["id"]}
    assert made["id"] in await admin.call("GET", one, status=404)
    assert made["id"] in await admin.call("DELETE", one, scope="tenant", status=404)


async def test_clients_page_until_a_page_is_short(scene: Scene) -> None:
    for number in range(5):
        await scene.ann.call("POST", "/quickstarts", {"scope": "user", "prompt": f"p{number}"}, status=201)
    read: list[str] = []
    while True:
        page = await scene.ann.call("GET", f"/quickstarts?limit=2&offset={len(read)}")
        read += [each["prompt"] for each in page["quickstarts"]]
        if len(page["quickstarts"]) < 2:
            break
    assert sorted(read) == ["p0", "p1", "p2", "p3", "p4"]


# -- whose they are --------------------------------------------------------------------------------------------------


async def test_what_is_somebodys_is_theirs_and_what_is_the_projects_needs_the_right(scene: Scene) -> None:
    ann, bob, admin = scene.ann, scene.bob, scene.admin
    rule = {"scope": "user", "name": "n", "ruleContent": "c"}
    mine = await ann.call("POST", "/rules", rule, status=201)
    assert mine["userId"] == mine["createdBy"]
    for caller in (bob, admin):
        await caller.call("GET", f"/rules/{mine['id']}", status=404)
        await caller.call("PUT", f"/rules/{mine['id']}", {"name": "x"}, status=404)
        await caller.call("DELETE", f"/rules/{mine['id']}", status=404)
    assert "resources:write" in await ann.call("POST", "/rules", {**rule, "scope": "tenant"}, status=403)
    assert "resources:write" in await ann.call("POST", "/skills", {"name": "n", "body": "b"}, status=403)
    shared = await admin.call("POST", "/rules", {**rule, "scope": "tenant"}, status=201)
    assert "userId" not in shared
    assert (await bob.call("GET", f"/rules/{shared['id']}"))["name"] == "n"
    await bob.call("PUT", f"/rules/{shared['id']}", {"name": "x"}, scope="tenant", status=403)
    await bob.call("DELETE", f"/rules/{shared['id']}", scope="tenant", status=403)


async def test_one_of_the_other_scope_is_not_the_one_that_is_meant(scene: Scene) -> None:
    made = await scene.admin.call("POST", "/rules", {"scope": "user", "name": "n", "ruleContent": "c"}, status=201)
    one = f"/rules/{made['id']}"
    message = await scene.admin.call("PUT", one, {"name": "x"}, scope="tenant", status=404)
    assert message == f"There is no rule {made['id']} of scope tenant; its scope is user."
    moved = await scene.admin.call("PUT", one, {"scope": "tenant"}, scope="user")
    assert moved["scope"] == "tenant"
    await scene.admin.call("DELETE", one, scope="user", status=404)
    await scene.admin.call("DELETE", one, scope="tenant")


async def test_a_credential_without_the_assistants_scopes_gets_nowhere(scene: Scene) -> None:
    other = await scene.caller("other", (Scope.CHAT_RUN,))
    await other.call("GET", "/rules", status=403)
    await Caller(scene.house, "nonsense").call("GET", "/rules", status=401)


# -- secrets ---------------------------------------------------------------------------------------------------------


async def test_the_value_of_a_header_is_nowhere_to_be_seen(scene: Scene) -> None:
    body = {"name": "n", "type": "mcp", "scope": "user", "configuration": {"url": "https://x"}, "enabled": True}
    sent = {**body, "custom_headers": [{"name": "Authorization", "value": "Bearer s3cret"}]}
    made = await scene.ann.call("POST", "/integrations", sent, status=201)
    assert made["integration"]["id"] == made["id"]
    one = f"/integrations/{made['id']}"
    changed = await scene.ann.call("PUT", one, {"custom_headers": made["custom_headers"]})
    told = [made, changed, await scene.ann.call("GET", one), await scene.ann.call("GET", "/integrations")]
    assert "s3cret" not in json.dumps(told)
    kept = await scene.house.records.page(ADMIN.project, "integration", limit=0, offset=0)
    assert "s3cret" not in kept.items[0].body
    assert '"value":"s1.' in kept.items[0].body


async def test_a_header_that_comes_without_a_value_keeps_the_one_it_has(scene: Scene) -> None:
    """gcx sends every header's name with each change, and a value only with those that change."""
    body = {"name": "n", "type": "mcp", "scope": "user", "configuration": {"url": "https://x"}, "enabled": True}
    headers = [{"name": "Authorization", "value": "Bearer s3cret"}, {"name": "X-Team", "value": "ops"}]
    made = await scene.ann.call("POST", "/integrations", {**body, "custom_headers": headers}, status=201)
    one = f"/integrations/{made['id']}"
    before = (await scene.house.records.page(ADMIN.project, "integration", limit=0, offset=0)).items[0].body
    named = [{"name": "Authorization"}, {"name": "X-Team", "value": ""}]
    await scene.ann.call("PUT", one, {**body, "custom_headers": named})
    after = (await scene.house.records.page(ADMIN.project, "integration", limit=0, offset=0)).items[0].body
    assert json.loads(after)["headers"] == json.loads(before)["headers"]
    fewer = await scene.ann.call("PUT", one, {"custom_headers": named[:1]})
    assert [header["name"] for header in fewer["custom_headers"]] == ["Authorization"]
    new = [{"name": "X-New"}]
    assert "X-New has no value" in await scene.ann.call("PUT", one, {"custom_headers": new}, status=400)
    assert "X-New has no value" in await scene.ann.call(
        "POST", "/integrations", {**body, "customHeaders": [{"key": "X-New"}]}, status=400
    )


@pytest.mark.parametrize("plural", ["skills", "quickstarts"])
async def test_context_items_come_back_letter_by_letter(scene: Scene, plural: str) -> None:
    """Terraform compares texts: one that is written in another way, though it means the same, is an error to it."""
    items = '[{"node":{"name":"a \\u003c b","id":"1","n":1.0,"e":1e3,"data":{"type":"t","data":{}}}}]'
    body = {"name": "n", "body": "b", "prompt": "p", "scope": "user"}
    sent = f'{json.dumps(body)[:-1]},"contextItems":{items}}}'
    made = await scene.ann.raw("POST", f"/{plural}", sent, status=201)
    one = f"/{plural}/{json.loads(made)['data']['id']}"
    for told in (made, await scene.ann.raw("PUT", one, sent), await scene.ann.raw("GET", one)):
        assert f'"contextItems":{items}' in told
    emptied = await scene.ann.call("PUT", one, {"contextItems": None})
    assert "contextItems" not in emptied


async def test_a_server_is_not_checked_and_nobody_says_it_was(scene: Scene) -> None:
    body = {"name": "n", "type": "mcp", "scope": "user", "configuration": {"url": "https://x"}, "enabled": True}
    made = await scene.ann.call("POST", "/integrations", body, status=201)
    validated = await scene.ann.call("GET", f"/integrations/{made['id']}/validate")
    assert validated["result"] == {"status": "error", "message": NOT_CONNECTED}
    await scene.bob.call("GET", f"/integrations/{made['id']}/validate", status=404)
    await scene.ann.call("POST", "/integrations/oauth/initiate", {"integration_id": made["id"]}, status=501)


# -- skills and rules at work ----------------------------------------------------------------------------------------


async def test_a_turn_goes_by_the_rules_and_the_skill_that_is_called(scene: Scene) -> None:
    await scene.ann.call("POST", "/rules", {"name": "Tone", "ruleContent": "Be short.", "scope": "user"}, status=201)
    skill = await scene.admin.call("POST", "/skills", {"name": "Deploy", "body": "Step one."}, status=201)
    one = f"/skills/{skill['id']}"
    called = await scene.admin.call("PUT", f"{one}/command", {"commandName": "deploy"}, scope="tenant")
    assert (called["commandName"], called["version"]) == ("deploy", 2)
    assert called["commandEnabledAt"] == "2026-11-05T12:00:00.000Z"

    instructions = await said(scene, "ann", "/deploy now")
    assert "## Tone\nBe short." in instructions
    assert "- Deploy (/deploy): Step one." in instructions
    assert instructions.endswith("The user called this skill with /deploy. Go by it.\n\nStep one.")

    gone = await scene.admin.call("PUT", f"{one}/command", {"commandName": None}, scope="tenant")
    assert "commandName" not in gone
    instructions = await said(scene, "bob", "/deploy now")
    assert "Be short" not in instructions
    assert "# Skill: Deploy" not in instructions


async def said(scene: Scene, who: str, text: str) -> str:
    """What the model is told when somebody says this: the system message."""
    credential = next(each for each in await scene.house.access.credentials(None) if each.name == who)
    principal = Principal(credential.project, credential.id, who, frozenset(credential.scopes))
    turn = StartTurn(ConversationId(f"c-{len(scene.model.prompts)}"), (message("user", text),), managed=True)
    started = await scene.house.desk.answer(principal, turn)
    await scene.house.desk.outcome(started)
    prompt = scene.model.prompts[-1]
    assert prompt.messages[-1].text == text
    return prompt.messages[0].text


# -- the project's own, and what is not there ------------------------------------------------------------------------


async def test_terms_are_accepted_and_withdrawn(scene: Scene) -> None:
    assert (await scene.ann.call("GET", "/settings/terms"))["acceptedTermsAndConditions"] is True
    await scene.ann.call("PUT", "/settings/accept-terms", {"acceptedTermsAndConditions": True}, status=403)
    for accepted in (False, True):
        body = {"acceptedTermsAndConditions": accepted}
        assert (await scene.admin.call("PUT", "/settings/accept-terms", body))["acceptedTermsAndConditions"] is accepted
        assert (await scene.ann.call("GET", "/settings/terms"))["acceptedTermsAndConditions"] is accepted


async def test_questions_of_this_month_are_counted(scene: Scene) -> None:
    assert await scene.ann.call("GET", "/usage/limits/prompt") == {"total": 0, "limit": 0, "month": "2026-11"}
    await said(scene, "ann", "hello")
    assert (await scene.ann.call("GET", "/usage/limits/prompt"))["total"] == 1
    assert (await scene.ann.call("GET", "/usage/tokens/limits"))["stackTotalMtok"] == 0


async def test_feedback_is_taken(scene: Scene) -> None:
    given = {"targetKind": "chat", "targetId": "c1", "rating": 1, "comment": "Well said", "metadata": {"a": 1}}
    first = await scene.ann.call("POST", "/feedback", given)
    assert await scene.ann.call("POST", "/feedback", {**given, "rating": -1}) == first
    assert await scene.ann.call("POST", "/feedback", {**given, "rating": 3}, status=400) == (
        "The rating must be 1 or -1."
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/investigations/summary?limit=10", 501),
        ("POST", "/investigations", 501),
        ("GET", "/investigations/i1", 501),
        ("POST", "/investigations/i1/cancel", 501),
        ("POST", "/investigations/from-irm-incident", 501),
        ("GET", "/automations", 501),
        ("PUT", "/automations/a1", 501),
        ("POST", "/assistant-search", 501),
        ("GET", "/watcher-agents?page_size=100", 404),
        ("GET", "/watcher-agents/w1", 404),
        ("GET", "/v2/investigations?limit=1", 404),
    ],
)
async def test_what_is_not_there_is_said_as_clients_understand_it(
    scene: Scene, method: str, path: str, status: int
) -> None:
    base = BASE.removesuffix("/v1") if path.startswith("/v2/") else BASE
    assert (await scene.ann.call(method, path, status=status, base=base)).endswith(".")


async def test_every_row_asks_for_a_credential(scene: Scene) -> None:
    anonymous = Client(scene.house.app)
    for method, path in ROUTES:
        answer = await anonymous.request(method, path.replace("{id}", "i").replace("{rest:path}", "x"))
        assert answer.status == 401, (method, path)
    assert len(ROUTES) == len(DIALECT.routes) == 50


def test_the_rows_stand_under_any_base() -> None:
    paths = {route.path for route in resources.routes("/api/cli/v1")}
    assert {"/api/cli/v1/rules/{id}", "/api/cli/v1/skills/{id}/command", "/api/cli/v2/investigations"} <= paths
    assert all(route.scopes == (Scope.PLUGINS_APP_ACCESS, Scope.GRAFANA_CHATS_ACCESS) for route in DIALECT.routes)
