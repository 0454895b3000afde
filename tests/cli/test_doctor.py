"""`dragoman doctor`."""


def states(cli, *args: str) -> dict[str, str]:
    return {finding["name"]: finding["state"] for finding in cli.run("doctor", "--json", *args).json}


def test_a_good_installation_is_all_ok(cli):
    cli.ok("credentials", "create", "ci")
    assert states(cli) == {
        "config": "ok",
        "home": "ok",
        "disk": "ok",
        "workspace": "ok",
        "database": "ok",
        "server": "ok",
        "pepper": "ok",
        "credentials": "ok",
        "model main": "ok",
        "model spare": "ok",
    }
    lines = cli.ok("doctor").out.splitlines()
    assert all(line.startswith(" ok    ") for line in lines)


def test_a_bad_config_is_named_and_the_rest_is_looked_at_where_it_can_be(cli):
    (cli.folder / "dragoman.toml").write_text("[limits]\nbody = 1\n")
    done = cli.run("doctor")

    assert done.code == 78
    lines = done.out.splitlines()
    assert lines[0] == (
        ' fail  config         limits.body: is not a key of [limits]; did you mean "body_mb"?'
        "      fix: dragoman config check"
    )
    assert [line.split()[1] for line in lines] == ["config", "home", "disk"]


def test_a_model_that_fails_is_named_with_what_to_do(cli):
    (cli.folder / "script.toml").write_text('[[reply]]\nfault = "upstream_refused"\n')
    done = cli.run("doctor")

    assert done.code == 1
    (line,) = [line for line in done.out.splitlines() if line.startswith(" fail")]
    assert line.startswith(" fail  model main     ")
    assert line.endswith("fix: dragoman models test main")


def test_a_home_open_to_others_is_a_warning_only(cli):
    cli.home.chmod(0o755)
    done = cli.ok("doctor")
    assert f"      fix: chmod 700 {cli.home.relative_to(cli.folder)}" in done.out


def test_a_damaged_database_is_not_opened_further(cli):
    (cli.home / "dragoman.db").write_bytes(b"this is no database " * 1000)
    found = states(cli)
    assert found["database"] == "fail"
    assert "model main" not in found


def test_connections_are_knocked_at_only_when_told_to(cli):
    with (cli.folder / "dragoman.toml").open("a") as file:
        file.write('[connections.prom]\nkind = "prometheus"\nurl = "http://127.0.0.1:9"\n')
    assert "connection prom" not in states(cli)
    assert states(cli, "--probe")["connection prom"] == "warn"
