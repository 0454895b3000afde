"""Models that people set up as connectors, asked over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.core.connectors import DeleteConnector, ReplaceConnector
from dragoman.core.errors import BackendFailed
from dragoman.models.catalogue import Catalogue
from dragoman.models.connected import ConnectedModels
from dragoman.models.openai_chat import OpenAIChat, OpenAIChatOptions
from dragoman.models.openai_connection import endpoint
from dragoman.runtime.ports import ReplyDone
from dragoman.runtime.reach import Reach
from tests.models.asking import HI, Puppet, ask, ask_in_vain
from tests.runtime.connecting import AI, CHIEF, KEY, STRANGER, Board, P
from tests.upstream import Upstream, serving


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with serving() as serving_upstream:
        yield serving_upstream


BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Stand:
    """Connected models over a board of connectors and one configured model."""

    def __init__(self, board: Board | None = None, *, reach: Reach | None = None, lines_max: int = 100) -> None:
        self.board = board or Board()
        self.configured = Puppet()
        self.slept: list[float] = []
        self.wrapped: list[Any] = []
        self.models = ConnectedModels(
            Catalogue({"main": self.configured, "offline": self.configured}, "main"),
            self.board.connectors,
            reach or Reach(),
            clock=self.board.clock,
            sleep=self.sleep,
            random=lambda: 0.5,
            wrap=self.wrap,
            lines_max=lines_max,
        )

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def wrap(self, model: Any) -> Any:
        self.wrapped.append(model)
        return model

    async def say(self, name: str = "ai", **prompt: Any) -> str:
        model, wire_name = await self.models.choose(P, name)
        done = (await ask(model, replace(HI, model_name=wire_name, **prompt)))[-1]
        assert isinstance(done, ReplyDone)
        return done.text


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    made = Stand()
    yield made
    await made.models.close()


# -- how it is asked ---------------------------------------------------------------------------------------------------


async def test_the_address_is_taken_as_it_is(stand: Stand, upstream: Upstream):
    await stand.board.make_ai(apiUrl=f"http://127.0.0.1:{upstream.port}/any/chat/completions?api-version=1#x")

    assert await stand.say() == "Echo: hi"
    seen = await upstream.request()
    assert (seen.method, seen.path) == ("POST", "/any/chat/completions?api-version=1")
    assert seen.headers["authorization"] == "Bearer sk-very-secret-key"
    assert seen.json()["model"] == "gpt-4"
    assert seen.json()["stream"] is True


@pytest.mark.parametrize("path", ["", "/", "/v1", "/a/b/"])
def test_nothing_is_put_behind_a_verbatim_address(path: str):
    assert str(endpoint(f"http://h:1{path}", verbatim=True)) in (f"http://h:1{path}", "http://h:1/")
    assert str(endpoint("http://h:1/v1")) == "http://h:1/v1/chat/completions"


async def test_without_a_default_model_none_is_named(stand: Stand, upstream: Upstream):
    await stand.board.make_ai(apiUrl=f"{upstream.url}/chat/completions", defaultModel=None)

    assert await stand.say() == "Echo: hi"
    assert "model" not in (await upstream.request()).json()
    assert await stand.say(max_tokens=5)
    assert (await upstream.request(2)).json()["max_tokens"] == 5


async def test_azure_has_a_header_of_its_own(stand: Stand, upstream: Upstream):
    await stand.board.make_ai(apiUrl=f"{upstream.url}/chat/completions", apiProvider="Azure OpenAI")

    await stand.say()
    headers = (await upstream.request()).headers
    assert headers["api-key"] == "sk-very-secret-key"
    assert "authorization" not in headers


async def test_headers_account_and_temperature_of_the_connector(stand: Stand, upstream: Upstream):
    await stand.board.make_ai(
        apiUrl=f"{upstream.url}/chat/completions",
        headers={"X-Team": "sre"},
        organizationId="org-1",
        projectId="proj-1",
        temperature=0.7,
    )
    await stand.say()
    seen = await upstream.request()
    assert {"x-team": "sre", "openai-organization": "org-1", "openai-project": "proj-1"}.items() <= seen.headers.items()
    assert seen.json()["temperature"] == 0.7


async def test_inference_of_the_provider_openai(stand: Stand, upstream: Upstream):
    url = f"{upstream.url}/chat/completions"
    provider = {"url": url, "model_id": "m", "organization_id": "org-2"}
    config = {"provider": "openai", "taskType": "chat_completion", "inferenceId": "i", "providerConfig": provider}
    secrets = {"providerSecrets": {"api_key": "sk-of-inference"}}
    await stand.board.make(".inference", id="inf", config=config, secrets=secrets)

    assert await stand.say("inf") == "Echo: hi"
    seen = await upstream.request()
    assert seen.headers["authorization"] == "Bearer sk-of-inference"
    assert seen.headers["openai-organization"] == "org-2"
    assert seen.json()["model"] == "m"


async def test_one_retry(stand: Stand, upstream: Upstream):
    await stand.board.make_ai(apiUrl=f"{upstream.url}/chat/completions")
    model, _ = await stand.models.choose(P, "ai")
    upstream.script(BUSY)
    assert (await ask(model))[-1]
    assert len(stand.slept) == 1

    for _ in range(3):
        upstream.script(BUSY)
    _, error = await ask_in_vain(model)
    assert error.code == "upstream_failed"
    assert len(upstream.requests) == 4


async def test_P3_a_closed_port_is_said_to_be_one(stand: Stand):
    async with serving() as gone:
        url = f"http://localhost:{gone.port}/v1/chat/completions"
    await stand.board.make_ai(apiUrl=url)
    model, _ = await stand.models.choose(P, "ai")
    _, error = await ask_in_vain(model)

    assert error.code == "upstream_unreachable"
    assert "sk-very-secret-key" not in str(error)


# -- which one it is ---------------------------------------------------------------------------------------------------


async def test_configured_models_come_first_and_unknown_names_go_to_the_default(stand: Stand):
    await stand.board.make(id="log")

    assert await stand.models.choose(P, "") == (stand.configured, "")
    assert await stand.models.choose(P, "offline") == (stand.configured, "")
    assert await stand.models.choose(P, "gpt-9") == (stand.configured, "gpt-9")
    assert await stand.models.choose(P, "log") == (stand.configured, "log")


async def test_P5_what_is_known(stand: Stand):
    await stand.board.make(id="log")
    await stand.board.make_ai()

    assert [await stand.models.knows(P, name) for name in ("main", "ai", "log", "missing", "", "x" * 500)] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]
    assert not await stand.models.knows(STRANGER.project, "ai")


@pytest.mark.parametrize(
    ("type_id", "config", "secrets", "sentence"),
    [
        (
            ".bedrock",
            {"apiUrl": "https://a.b/"},
            {"accessKey": "a", "secret": "s"},
            "The connector x cannot be asked: its provider is not part of this version. Bedrock also speaks OpenAI's"
            " API: set up a .gen-ai connector (apiProvider Other) with that address.",
        ),
        (
            ".inference",
            {"provider": "elastic", "taskType": "chat_completion"},
            {},
            "The connector x cannot be asked: only taskType chat_completion of the provider openai is part of this"
            " version.",
        ),
    ],
)
async def test_what_cannot_be_asked_says_why(
    stand: Stand, type_id: str, config: dict[str, Any], secrets: dict[str, Any], sentence: str
):
    await stand.board.make(type_id, id="x", config=config, secrets=secrets)

    assert await stand.models.knows(P, "x")
    with pytest.raises(BackendFailed) as caught:
        await stand.models.choose(P, "x")
    assert (caught.value.detail, caught.value.code) == (sentence, "upstream_refused")


async def test_hosts_that_were_forbidden_since_are_not_reached(upstream: Upstream):
    board = Board()
    await board.make_ai(apiUrl=f"{upstream.url}/chat/completions")
    stand = Stand(board, reach=Reach(("api.openai.com",)))

    with pytest.raises(BackendFailed, match=r"127\.0\.0\.1 is not one of the hosts that connectors may reach"):
        await stand.models.choose(P, "ai")
    assert not upstream.requests


async def test_a_name_that_resolves_to_a_forbidden_address_is_not_connected_to(upstream: Upstream):
    board = Board()
    options = OpenAIChatOptions(
        url=f"http://localhost:{upstream.port}/", verbatim_url=True, name="m", refuses=lambda address: True
    )
    model = OpenAIChat(options, clock=board.clock)
    _, error = await ask_in_vain(model)
    await model.close()

    assert error.code == "upstream_unreachable"
    assert upstream.counts["connections"] == 0


async def test_secrets_of_another_key_are_told(upstream: Upstream):
    board = Board()
    await board.make_ai()
    with pytest.raises(BackendFailed, match=r"The connector ai cannot be asked: A secret .* kept under another key"):
        await Stand(Board(board.records, key=b"other")).models.choose(P, "ai")


# -- changes -----------------------------------------------------------------------------------------------------------


async def test_a_change_holds_from_the_next_turn_on_and_the_line_is_kept_until_then(stand: Stand, upstream: Upstream):
    url = f"{upstream.url}/chat/completions"
    await stand.board.make_ai(apiUrl=url)
    before, _ = await stand.models.choose(P, "ai")
    assert (await stand.models.choose(P, "ai"))[0] is before
    await stand.say()

    # Another process writes: here, another board over the same records.
    elsewhere = Board(stand.board.records)
    await elsewhere.connectors.replace(
        CHIEF, ReplaceConnector("ai", "ai", AI | {"apiUrl": url, "defaultModel": "two"}, KEY)
    )
    await stand.say()

    assert [seen.json()["model"] for seen in upstream.requests] == ["gpt-4", "two"]
    assert (await stand.models.choose(P, "ai"))[0] is not before


async def test_a_turn_finishes_with_the_one_it_holds(stand: Stand, upstream: Upstream):
    url = f"{upstream.url}/chat/completions"
    await stand.board.make_ai(apiUrl=url)
    held, _ = await stand.models.choose(P, "ai")
    upstream.script(0.02, then="close")
    asking = asyncio.gather(ask(held), return_exceptions=True)
    await upstream.request(1)
    await stand.board.connectors.delete(CHIEF, DeleteConnector("ai"))

    assert await stand.models.choose(P, "ai") == (stand.configured, "ai")
    [pieces] = await asking
    assert isinstance(pieces, list)  # what the server broke off was asked again, on the retired line
    assert (await ask(held))[-1]
    while upstream.connections:  # and nothing stays open behind it
        await asyncio.sleep(0)


async def test_so_many_lines_are_kept(upstream: Upstream):
    stand = Stand(lines_max=2)
    for name in ("a", "b", "c"):
        await stand.board.make_ai(name, apiUrl=f"{upstream.url}/chat/completions")
    first = {name: (await stand.models.choose(P, name))[0] for name in ("a", "b")}
    await stand.say("a")
    await stand.say("b")
    assert (await stand.models.choose(P, "a"))[0] is first["a"]
    await stand.models.choose(P, "c")  # b was not asked for longest

    assert (await stand.models.choose(P, "a"))[0] is first["a"]
    assert (await stand.models.choose(P, "b"))[0] is not first["b"]
    await stand.models.close()


async def test_closing_closes_them_all(upstream: Upstream):
    stand = Stand()
    await stand.board.make_ai(apiUrl=f"{upstream.url}/chat/completions")
    held, _ = await stand.models.choose(P, "ai")
    await stand.say()
    await stand.models.close()

    assert stand.configured.closed == 1
    _, error = await ask_in_vain(held)
    assert error.detail == "The server is stopping. Ask again in a moment."
    with pytest.raises(BackendFailed, match="stopping"):
        await stand.models.choose(P, "ai")
    while upstream.connections:
        await asyncio.sleep(0)


async def test_what_is_built_is_wrapped(stand: Stand, upstream: Upstream):
    await stand.board.make_ai(apiUrl=f"{upstream.url}/chat/completions")
    await stand.say()
    await stand.say()
    assert len(stand.wrapped) == 1
