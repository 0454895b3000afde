"""`dragoman credentials`."""

import re

import pytest

from dragoman.access.scopes import DEFAULT_SCOPES
from dragoman.access.texts import credential_id_of


def test_a_credential_is_shown_once_and_then_only_listed(cli):
    created = cli.ok("credentials", "create", "ci bot", "--json").json

    assert credential_id_of(created["credential"]) == created["id"]
    assert created == {
        "id": created["id"],
        "name": "ci bot",
        "project": "default",
        "credential": created["credential"],
        "scopes": [str(scope) for scope in DEFAULT_SCOPES],
        "expires_at": created["expires_at"],
    }
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", created["expires_at"])
    (listed,) = cli.ok("credentials", "ls", "--json").json
    assert (listed["id"], listed["name"], listed["state"], listed["last_used_at"]) == (
        created["id"],
        "ci bot",
        "good",
        None,
    )
    assert created["credential"] not in cli.ok("credentials", "ls").out


def test_for_a_person_only_the_text_is_on_stdout(cli):
    done = cli.ok("credentials", "create", "ci", "--expires", "never", "--scope", "admin")

    assert credential_id_of(done.out.strip()) is not None
    assert "never expires  admin\n" in done.err
    quiet = cli.ok("-q", "credentials", "create", "ci2")
    assert (credential_id_of(quiet.out.strip()) is not None, quiet.err) == (True, "")


def test_scopes_and_limits_are_as_asked(cli):
    cli.ok("credentials", "create", "a", "--scope", "chat:run", "--scope", "metrics:read", "--rpm", "0")
    (listed,) = cli.ok("credentials", "ls", "--json").json

    assert (listed["scopes"], listed["rpm"]) == (["chat:run", "metrics:read"], 0)


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (("create", "a", "--scope", "chat:rum"), 2, 'There is no scope "chat:rum"; did you mean chat:run?'),
        (("create", " "), 2, "The name of a credential has 1 to 100 printable characters."),
        (("create", "a", "--expires", "0s"), 2, "A credential must be good for more than 0 seconds."),
        (
            ("create", "a", "--project", "p"),
            3,
            "There is no project p; make it with: dragoman projects create NAME --id p",
        ),
        (("revoke", "nobody"), 3, "There is no credential nobody; list them with: dragoman credentials ls"),
        (("rotate", "nobody"), 3, "There is no credential nobody; list them with: dragoman credentials ls"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_code(cli, args: tuple[str, ...], code: int, sentence: str):
    done = cli.run("credentials", *args)
    assert (done.code, done.out, done.err) == (code, "", f"dragoman: {sentence}\n")


def test_a_duration_that_is_none_is_a_usage_error(cli):
    done = cli.run("credentials", "create", "a", "--expires", "soon")
    assert done.code == 2
    assert '"soon" is not a duration' in done.err


def test_a_rotation_gives_a_new_text_for_the_same_id(cli):
    first = cli.ok("credentials", "create", "ci", "--json").json
    done = cli.ok("credentials", "rotate", "ci")

    assert credential_id_of(done.out.strip()) == first["id"]
    assert done.out.strip() != first["credential"]
    assert done.err.endswith("The old text stays good for 24 h.\n")
    again = cli.ok("credentials", "rotate", first["id"], "--overlap", "0s", "--json").json
    assert again["id"] == first["id"]


def test_a_revoked_credential_is_listed_as_such_and_cannot_come_back(cli):
    created = cli.ok("credentials", "create", "ci", "--json").json
    done = cli.ok("credentials", "revoke", "ci")

    assert done.out == f"ci ({created['id']}) is revoked; running servers refuse it within 5 seconds.\n"
    assert cli.ok("credentials", "ls", "--json").json[0]["state"] == "revoked"
    assert cli.run("credentials", "rotate", created["id"]).code == 2


def test_a_name_that_several_have_must_be_an_id(cli):
    ids = [cli.ok("credentials", "create", "twin", "--json").json["id"] for _ in range(2)]
    done = cli.run("credentials", "revoke", "twin")

    assert done.code == 2
    assert done.err == f"dragoman: Several credentials are called twin; say which one by its id: {', '.join(ids)}\n"
    cli.ok("credentials", "revoke", ids[0])
    cli.ok("credentials", "revoke", "twin")


def test_an_empty_list_says_how_to_make_one(cli):
    done = cli.ok("credentials", "ls")
    assert (done.out, done.err) == ("", "No credential yet. Make one with: dragoman credentials create NAME\n")


def test_no_secret_of_a_model_is_needed(cli):
    (cli.folder / "dragoman.toml").write_text(
        '[models.main]\nkind = "openai"\nurl = "http://h/v1"\nname = "m"\nkey = "${NOT_SET_ANYWHERE}"\n'
    )
    cli.ok("credentials", "create", "ci")


def test_a_credential_may_be_written_as_grafana_does(cli):
    created = cli.ok("credentials", "create", "grafana", "--form", "glsa", "--json").json
    rotated = cli.ok("credentials", "rotate", "grafana", "--form", "glsa", "--json").json

    assert re.fullmatch(r"glsa_[0-9A-Za-z]{32}_[0-9a-f]{8}", created["credential"])
    assert credential_id_of(created["credential"]) == created["id"] == rotated["id"]
    assert rotated["credential"][:15] == created["credential"][:15]
    assert cli.run("credentials", "create", "a", "--form", "gat").code == 2


def test_a_list_says_whom_a_credential_stands_for(cli):
    cli.ok("credentials", "create", "me")

    (listed,) = cli.ok("credentials", "ls", "--json").json
    assert listed["subject"] == ""
    assert "itself" in cli.ok("credentials", "ls").out.split()
