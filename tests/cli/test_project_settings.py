"""`dragoman projects` set, secret, client, mcp."""

import re

import pytest

CONNECTION = """
[connections.hook]
kind = "webhook"
url = "http://127.0.0.1:9000/tool_call"
"""


@pytest.fixture
def shop(cli):
    with (cli.folder / "dragoman.toml").open("a") as config:
        config.write(CONNECTION)
    cli.shop = cli.ok("projects", "create", "Shop", "--id", "shop", "--json").json
    return cli


@pytest.mark.parametrize("webhook", ["https://hooks.example.com/x", "connection:hook", ""])
def test_a_webhook_is_set_and_shown(shop, webhook):
    shop.ok("projects", "set", "shop", "--webhook", "https://before.example")
    done = shop.ok("projects", "set", "shop", "--webhook", webhook, "--json").json

    assert (done["id"], done["name"], done["webhook"], done["webhook_style"]) == ("shop", "Shop", webhook, "full")
    assert "secret" not in done
    assert shop.ok("projects", "show", "shop", "--json").json["webhook"] == webhook
    assert f"webhook {webhook or 'none'}" in shop.ok("projects", "show", "shop").out


def test_how_much_is_signed_is_set_by_itself(shop):
    shop.ok("projects", "set", "shop", "--webhook", "connection:hook")
    done = shop.ok("projects", "set", "shop", "--webhook-style", "minimal")

    assert done.out == "Shop (shop): calls go to connection:hook, signed minimal.\n"
    assert shop.run("projects", "set", "shop", "--webhook-style", "other").code == 2


@pytest.mark.parametrize(
    ("webhook", "sentence"),
    [
        ("http://127.0.0.1:3000/x", "127.0.0.1 is this machine or a private network"),
        ("connection:nope", 'is no connection of kind "webhook" in the configuration. There are: hook.'),
        ("nonsense", "The webhook must be an address"),
    ],
)
def test_what_can_be_no_webhook_is_refused(shop, webhook, sentence):
    done = shop.run("projects", "set", "shop", "--webhook", webhook)

    assert done.code == 2 and sentence in done.err


def test_nothing_to_set_is_a_slip(shop):
    done = shop.run("projects", "set", "shop")

    assert (done.code, done.err) == (2, "dragoman: Say what to set: --webhook, --webhook-style.\n")


def test_the_secret_is_printed_and_changed(shop):
    assert shop.ok("projects", "secret", "shop").out == shop.shop["secret"] + "\n"
    assert shop.ok("projects", "secret", "shop", "--json").json == {"id": "shop", "secret": shop.shop["secret"]}
    new = shop.ok("projects", "secret", "shop", "--rotate").out.strip()
    assert re.fullmatch("[0-9a-f]{64}", new) and new != shop.shop["secret"]
    assert shop.ok("projects", "secret", "shop").out.strip() == new


def test_the_client_id_is_printed_and_changed(shop):
    assert shop.ok("projects", "client", "shop").out == shop.shop["client_id"] + "\n"
    new = shop.ok("projects", "client", "shop", "--rotate", "--json").json["client_id"]
    assert new != shop.shop["client_id"]
    assert shop.ok("projects", "show", "shop", "--json").json["client_id"] == new


def test_mcp_servers_are_added_listed_and_removed_and_their_headers_not_shown(shop):
    assert shop.ok("projects", "mcp", "ls", "shop", "--json").json == []
    url = "https://mcp.example.com/mcp"
    added = shop.ok(
        *("projects", "mcp", "add", "shop", "helpdesk", url, "--transport", "sse"),
        *("--header", "Authorization: Bearer hunter2", "--header", "X-A:b", "--json"),
    )
    server = {"name": "helpdesk", "url": url, "transport": "sse", "headers": ["Authorization", "X-A"]}
    assert added.json == server
    shop.ok("projects", "mcp", "add", "shop", "plain", url)
    plain = {"name": "plain", "url": url, "transport": None, "headers": []}
    listed = shop.ok("projects", "mcp", "ls", "shop", "--json")
    assert listed.json == [server, plain]
    for shown in (listed.out, shop.ok("projects", "mcp", "ls", "shop").out, shop.ok("projects", "show", "shop").out):
        assert "hunter2" not in shown
    assert shop.ok("projects", "mcp", "rm", "shop", "helpdesk", "--json").json == {"name": "helpdesk", "deleted": True}
    assert shop.run("projects", "mcp", "rm", "shop", "helpdesk").code == 3
    assert shop.ok("projects", "show", "shop", "--json").json["mcp_servers"] == [plain]


def test_a_header_has_a_colon(shop):
    done = shop.run("projects", "mcp", "add", "shop", "m", "https://mcp.example.com", "--header", "Authorization")

    assert done.code == 2 and "with a colon between them" in done.err


def test_the_default_project_can_be_set_before_anything_was_made_in_it(cli):
    cli.ok("projects", "set", "default", "--webhook", "https://hooks.example.com/x")

    assert cli.ok("projects", "show", "default", "--json").json["webhook"] == "https://hooks.example.com/x"


@pytest.mark.parametrize(
    "verb",
    [
        ("set", "nowhere", "--webhook", ""),
        ("secret", "nowhere"),
        ("client", "nowhere"),
        ("mcp", "ls", "nowhere"),
        ("mcp", "add", "nowhere", "m", "https://mcp.example.com"),
        ("mcp", "rm", "nowhere", "m"),
    ],
)
def test_a_project_that_does_not_exist_is_not_found(cli, verb):
    done = cli.run("projects", *verb)

    assert (done.code, done.err) == (
        3,
        "dragoman: There is no project nowhere; list them with: dragoman projects ls\n",
    )
