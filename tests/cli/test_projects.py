"""`dragoman projects`."""

import io
import re
import uuid

from dragoman.access.texts import credential_id_of


def test_a_project_comes_with_a_uuid_a_secret_to_sign_with_and_a_credential(cli):
    created = cli.ok("projects", "create", "Shop", "--json").json

    assert list(created) == ["id", "name", "client_id", "secret", "credential"]
    assert uuid.UUID(created["id"]).version == 4
    assert created["name"] == "Shop"
    assert re.fullmatch("[0-9a-f]{64}", created["secret"]) and re.fullmatch("[A-Za-z0-9_-]{22}", created["client_id"])
    kid = credential_id_of(created["credential"])
    (credential,) = cli.ok("credentials", "ls", "--project", created["id"], "--json").json
    assert (credential["id"], credential["project"], credential["name"]) == (kid, created["id"], "Shop")


def test_an_id_may_be_chosen_once(cli):
    cli.ok("projects", "create", "Shop", "--id", "shop")

    assert cli.run("projects", "create", "Other", "--id", "shop").code == 2
    assert cli.run("projects", "create", "Other", "--id", "a/b").code == 2
    assert [project["id"] for project in cli.ok("projects", "ls", "--json").json] == ["shop"]


def test_for_a_person_only_the_id_and_the_credential_are_on_stdout(cli):
    done = cli.ok("projects", "create", "Shop", "--id", "shop")
    first, second = done.out.splitlines()

    assert first == "Shop  id shop"
    assert credential_id_of(second) is not None


def test_show_counts_what_it_owns(cli):
    created = cli.ok("projects", "create", "Shop", "--id", "shop", "--json").json
    shown = cli.ok("projects", "show", "shop", "--json").json

    assert (shown["id"], shown["name"], shown["conversations"]) == ("shop", "Shop", 0)
    assert [each["id"] for each in shown["credentials"]] == [credential_id_of(created["credential"])]
    assert (shown["client_id"], shown["webhook"], shown["mcp_servers"]) == (created["client_id"], "", [])
    assert created["secret"] not in cli.ok("projects", "show", "shop", "--json").out
    assert "Shop  id shop  made " in cli.ok("projects", "show", "shop").out


def test_removing_asks_first_and_takes_everything_along(cli, monkeypatch):
    cli.ok("projects", "create", "Shop", "--id", "shop")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert cli.run("projects", "rm", "shop").code == 130
    done = cli.ok("projects", "rm", "shop", "--yes")

    assert done.out == "Shop (shop) and everything it owned is deleted.\n"
    assert cli.ok("projects", "ls", "--json").json == []
    assert cli.ok("credentials", "ls", "--json").json == []


def test_the_default_project_stays(cli):
    cli.ok("credentials", "create", "ci")
    done = cli.run("projects", "rm", "default", "--yes")

    assert done.code == 2
    assert (
        done.err == "dragoman: default is the default project; make another the default first ([defaults] project).\n"
    )


def test_a_project_that_does_not_exist_is_not_found(cli):
    for verb in ("show", "rm"):
        done = cli.run("projects", verb, "nowhere")
        assert (done.code, done.err) == (
            3,
            "dragoman: There is no project nowhere; list them with: dragoman projects ls\n",
        )
