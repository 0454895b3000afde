"""What turns use, as the configuration says it: models, connectors, tools, knowledge and the one key of secrets."""

import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.access.sealing import SECRET_KEY_VARIABLE
from dragoman.core import events as ev
from dragoman.core.connectors import (
    Connector,
    ConnectorList,
    CreateConnector,
    ExecuteConnector,
    ListConnectors,
    ListConnectorTypes,
)
from dragoman.core.errors import BadRequest
from dragoman.core.messages import said
from dragoman.core.names import ConversationId
from dragoman.core.operations import StartTurn
from dragoman.server.assemble import open_house
from dragoman.server.config_checks import complete
from dragoman.server.config_shapes import (
    Anonymization,
    Config,
    ConnectionTable,
    ConnectorsTable,
    OfflineModel,
    OpenAIModel,
    Secret,
)
from dragoman.server.house import House, Parts
from tests.elasticsearch_server import KEY, elasticsearch
from tests.parts import ADMIN, ScriptedReplies, open_config, text_reply
from tests.runtime.scene import within
from tests.upstream import Upstream, serving

FIRST_KEY, SECOND_KEY = "0123456789abcdef" * 4, "fedcba9876543210" * 4
AI = {"apiProvider": "Other", "defaultModel": "small"}


def turn(model: str, text: str = "hello") -> StartTurn:
    return StartTurn(ConversationId("c"), (said("user", text),), model=model)


async def end_of(house: House, turn: StartTurn) -> ev.Event:
    return (await within(house.desk.outcome(await house.desk.answer(ADMIN, turn)))).end


def connector_of(upstream: Upstream) -> CreateConnector:
    config = AI | {"apiUrl": f"{upstream.url}/chat/completions"}
    return CreateConnector(".gen-ai", "Ours", config, {"apiKey": "sk-1"}, id="ours")


async def test_models_of_the_configuration_are_connectors_too(tmp_path: Path) -> None:
    models = {"main": OpenAIModel("http://127.0.0.1:9/v1", "big", key=Secret("k3y")), "offline": OfflineModel()}
    config = complete(replace(open_config(), models=models, defaults=Config().defaults), folder=tmp_path)
    async with open_house(config, tmp_path) as house:
        assert await house.desk.answer(ADMIN, ListConnectors(models_only=True)) == ConnectorList(
            (
                Connector("main", ".gen-ai", "main", {"apiProvider": "Other", "defaultModel": "big"}, True, model=True),
                Connector(
                    "offline",
                    ".inference",
                    "offline",
                    {"provider": "offline", "taskType": "chat_completion", "inferenceId": "offline"},
                    True,
                    model=True,
                ),
            )
        )


async def test_a_connector_answers_turns_as_a_configured_model_does(tmp_path: Path) -> None:
    async with serving() as upstream, open_house(open_config(), tmp_path) as house:
        await house.desk.answer(ADMIN, connector_of(upstream))
        assert isinstance(await end_of(house, turn("ours")), ev.RunCompleted)
        seen = await upstream.request()
        assert (seen.headers["authorization"], seen.json()["model"]) == ("Bearer sk-1", "small")


async def test_under_another_secret_key_it_says_so_and_turns_fail_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def missing(house: House) -> bool:
        listed = await house.desk.answer(ADMIN, ListConnectors())
        return next(each for each in listed.items if each.id == "ours").missing_secrets

    async with serving() as upstream:
        monkeypatch.setenv(SECRET_KEY_VARIABLE, FIRST_KEY)
        async with open_house(open_config(), tmp_path) as house:
            await house.desk.answer(ADMIN, connector_of(upstream))
            assert not await missing(house)
        monkeypatch.setenv(SECRET_KEY_VARIABLE, SECOND_KEY)
        async with open_house(open_config(), tmp_path) as house:
            assert await missing(house)
            end = await end_of(house, turn("ours"))
            assert isinstance(end, ev.RunFailed)
            assert end.code == "upstream_refused"
            assert re.fullmatch(
                r"The connector ours cannot be asked: A secret that is kept here was kept under another key and cannot"
                r" be read; put the old key back \(.*\), or enter the secret anew\.",
                end.detail,
            )
        assert not upstream.requests


async def test_both_kinds_of_models_get_the_mask(tmp_path: Path) -> None:
    rules = Anonymization(({"type": "RegExp", "entity_class": "EMAIL", "pattern": r"\S+@\S+"},))
    scripted = ScriptedReplies(text_reply("fine"))
    async with serving() as upstream:
        config = replace(open_config(), anonymization=rules)
        async with open_house(config, tmp_path, parts=Parts(models={"offline": scripted})) as house:
            await house.desk.answer(ADMIN, connector_of(upstream))
            await end_of(house, turn("ours", "I am ann@example.com"))
            await end_of(house, turn("offline", "I am ann@example.com"))
        told = (await upstream.request()).body + b"".join(
            message.text.encode() for prompt in scripted.prompts for message in prompt.messages
        )
        assert b"I am" in told and b"ann@example.com" not in told


async def test_hosts_hold_for_connectors_and_not_for_what_is_configured(tmp_path: Path) -> None:
    async with elasticsearch() as searched:
        searched.add("logs", {"message": "text"})
        table = ConnectionTable("elasticsearch", searched.url, headers={"Authorization": Secret(KEY)})
        config = replace(
            open_config(),
            connections={"es": table},
            connectors=ConnectorsTable(hosts=("*.example.com",), email_domains=("example.com",)),
        )
        async with open_house(config, tmp_path) as house:

            async def make(type_id: str, config: dict[str, Any], **secrets: Any) -> Connector:
                return await house.desk.answer(ADMIN, CreateConnector(type_id, "n", config, secrets))

            with pytest.raises(BadRequest, match=r"127\.0\.0\.1 is not one of the hosts"):
                await make(".gen-ai", AI | {"apiUrl": "http://127.0.0.1:9/"})
            await make(".gen-ai", AI | {"apiUrl": "http://llm.example.com/"})

            email = await make(".email", {"from": "d@example.com", "host": "mail.example.com", "port": 25})
            letter = {"to": ["ann@elsewhere.org"], "subject": "s", "message": "m"}
            with pytest.raises(BadRequest, match=r"may not be sent to elsewhere\.org"):
                await house.desk.answer(ADMIN, ExecuteConnector(email.id, letter))

            index = await make(".index", {"index": "logs"})
            documents = {"documents": [{"message": "full"}]}
            assert (await house.desk.answer(ADMIN, ExecuteConnector(index.id, documents))).ok
        assert [document["message"] for document in searched.indices["logs"]] == ["full"]


@pytest.mark.parametrize("connected", [True, False])
async def test_what_the_connections_make_possible(tmp_path: Path, connected: bool) -> None:
    table = ConnectionTable("elasticsearch", "http://127.0.0.1:9")
    config = replace(open_config(), connections={"es": table} if connected else {})
    async with open_house(config, tmp_path) as house:
        types = (await house.desk.answer(ADMIN, ListConnectorTypes())).items
        assert next(each for each in types if each.id == ".index").enabled is connected
        names = {spec.name for spec in house.tools.specs(("*",))}
        assert {"read_file", "get_connector_info", "execute_connector", "summarize"} <= names
        assert ("elasticsearch" in names) is connected
