"""`dragoman connectors`, beside a running server whose clients make them."""

import io

import httpx
import pytest

from tests.cli.conftest import CommandLine, Served

CONNECTOR = "/api/actions/connector"
SECRET = "only-the-server-knows"


def make(served: Served, key: str, **fields: object) -> None:
    credential = (served.folder / ".dragoman/admin-credential").read_text().strip()
    headers = {"Authorization": f"ApiKey {credential}", "kbn-xsrf": "true"}
    answer = httpx.post(f"{served.url}{CONNECTOR}/{key}", json=fields, headers=headers, trust_env=False)
    assert answer.status_code == 200, answer.text


@pytest.fixture
def made(served: Served) -> Served:
    """With a model, and a webhook, unless they are there."""
    config = {"apiProvider": "Other", "apiUrl": "http://127.0.0.1:9/v1/chat/completions", "defaultModel": "tiny"}
    if not (served.folder / "made").exists():
        make(
            served, "local", name="local model", connector_type_id=".gen-ai", config=config, secrets={"apiKey": SECRET}
        )
        make(served, "pager", name="pager", connector_type_id=".webhook", config={"url": "http://127.0.0.1:9/"})
        (served.folder / "made").touch()
    return served


def test_what_was_made_is_listed_beside_the_server_and_configured_models_with_it(
    made: Served, beside: CommandLine
) -> None:
    shown = {each["id"]: each for each in beside.ok("connectors", "ls", "--json").json}

    assert set(shown) == {"main", "spare", "local", "pager"}
    assert (shown["spare"]["preconfigured"], shown["spare"]["created_at"]) == (True, None)
    assert (shown["local"]["type"], shown["local"]["model"], shown["pager"]["model"]) == (".gen-ai", True, False)
    models = beside.ok("connectors", "ls", "--models").out
    assert "local  .gen-ai     local model  model\n" in models
    assert "spare  .inference  spare        model, preconfigured\n" in models
    assert "pager" not in models


def test_one_is_shown_without_its_secrets(made: Served, beside: CommandLine) -> None:
    done = beside.ok("connectors", "show", "local")

    assert done.out.startswith("local model  id local  type .gen-ai  model\n")
    assert '  defaultModel = "tiny"\n' in done.out
    shown = beside.ok("connectors", "show", "local", "--json")
    assert shown.json["config"]["defaultModel"] == "tiny"
    assert SECRET not in done.out + shown.out


def test_what_a_type_lacks_here_is_said(made: Served, beside: CommandLine) -> None:
    make(
        made,
        "bedrock",
        name="far away",
        connector_type_id=".bedrock",
        config={"apiUrl": "http://127.0.0.1:9/"},
        secrets={"accessKey": "a", "secret": "b"},
    )
    done = beside.ok("connectors", "show", "bedrock")

    assert "cannot be used here" in done.out
    assert "its provider is not part of this version" in done.err
    beside.ok("connectors", "rm", "bedrock", "--yes")


def test_removing_asks_first_and_the_server_knows_at_once(
    made: Served, beside: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert beside.run("connectors", "rm", "pager").code == 130
    assert beside.ok("connectors", "rm", "pager", "--yes", "--json").json == {"id": "pager", "deleted": True}
    (made.folder / "made").unlink()
    beside.ok("connectors", "rm", "local", "--yes")

    assert {each["id"] for each in beside.ok("connectors", "ls", "--json").json} == {"main", "spare"}
    headers = {"Authorization": f"Bearer {(made.folder / '.dragoman/admin-credential').read_text().strip()}"}
    assert httpx.get(f"{made.url}{CONNECTOR}/pager", headers=headers, trust_env=False).status_code == 404


def test_what_is_not_there_or_belongs_to_the_file_is_said(cli: CommandLine) -> None:
    assert cli.run("connectors", "show", "nothing").code == 3
    done = cli.run("connectors", "rm", "main", "--yes")
    assert done.code == 2
    assert "it is a model of the configuration file" in done.err
