"""What no single key shows: names, circles, addresses, kinds."""

from pathlib import Path

import pytest

from dragoman.server.config_checks import CONNECTION_KINDS, MCP_TIMEOUT_MAX_S, check, complete, installed_dialects
from dragoman.server.config_reading import Faults
from dragoman.server.config_shapes import (
    AgentTable,
    Config,
    ConnectionTable,
    Defaults,
    DialectTable,
    OfflineModel,
    OpenAIModel,
    ScriptedModel,
    Seconds,
    Secret,
    Server,
    StoreTable,
    Timeouts,
    Workspace,
)

FOLDER = Path("/etc/dragoman")
STORES = 'write "sqlite:dragoman.db" or "postgresql://USER@HOST/DATABASE"'


def faults_of(config: Config) -> list[str]:
    faults = Faults()
    check(complete(config, folder=FOLDER), faults)
    return list(faults)


def openai(*fallback: str, url: str = "http://127.0.0.1/v1", name: str = "m") -> OpenAIModel:
    return OpenAIModel(url=url, model_name=name, fallback=fallback)


def test_nothing_configured_is_completed_to_something_that_works():
    config = complete(Config(), folder=FOLDER)

    assert config == Config(
        models={"offline": OfflineModel()},
        agents={"assistant": AgentTable()},
        defaults=Defaults("default", "offline", "assistant"),
    )
    assert faults_of(Config()) == []


@pytest.mark.parametrize(
    ("models", "default"),
    [
        ({"main": openai()}, "main"),
        ({"small": openai()}, "small"),
        ({"small": openai(), "main": openai()}, "main"),
    ],
)
def test_the_default_model_is_main_or_the_only_one(models: dict[str, OpenAIModel], default: str):
    assert complete(Config(models=dict(models)), folder=FOLDER).defaults.model == default


def test_of_several_models_or_agents_one_must_be_named():
    config = Config(models={"a": openai(), "b": openai()}, agents={"x": AgentTable(), "y": AgentTable()})

    assert faults_of(config) == [
        "defaults.model: is not set, and there are several: a, b",
        "defaults.agent: is not set, and there are several: x, y",
    ]


def test_a_script_lies_beside_the_config_file():
    config = complete(Config(models={"main": ScriptedModel("scripts/a.toml")}), folder=FOLDER)
    assert config.models["main"] == ScriptedModel("/etc/dragoman/scripts/a.toml")


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        (
            Config(defaults=Defaults(model="offlin")),
            'defaults.model: there is no model "offlin"; did you mean "offline"?',
        ),
        (
            Config(defaults=Defaults(agent="x")),
            'defaults.agent: there is no agent "x"; known are: assistant',
        ),
        (
            Config(defaults=Defaults(project="a/b")),
            "defaults.project: \"a/b\" cannot be a project's id: use a UUID or 1 to 64 letters, digits, - and _,"
            " beginning and ending with a letter or digit.",
        ),
        (
            Config(server=Server(listen="8080")),
            'server.listen: "8080" is not an address; write HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080',
        ),
        (
            Config(server=Server(trusted_proxies=("10.0.0.0/8", "proxy"))),
            'server.trusted_proxies: "proxy" is neither an address nor a network such as 10.0.0.0/8',
        ),
        (
            Config(server=Server(public_url="assistant.example.com")),
            'server.public_url: "assistant.example.com" is not a URL that begins with http:// or https://',
        ),
        *(
            (
                Config(server=Server(base_path=path)),
                f'server.base_path: "{path}" is not a path such as /grafana, without a slash at its end',
            )
            for path in ("grafana", "/", "/grafana/", "/a//b", "/a b", "/{a}", "/..?")
        ),
        *(
            (
                Config(server=Server(cors_origins=("*", origin))),
                f'server.cors_origins: "{origin}" is not an origin as browsers send it, such as https://app.example.com'
                ' or http://localhost:3000; "*" allows every page',
            )
            for origin in ("example.com", "https://example.com/", "https://Example.com", "https://*.example.com", "")
        ),
        (
            Config(store=StoreTable("postgresql://db")),
            "store.url: must name a database: postgresql://USER@HOST:PORT/DATABASE",
        ),
        (
            Config(store=StoreTable("postgresql://me:hush@db/x")),
            'store.url: holds a password in clear; write it as store.password = "${PGPASSWORD}"',
        ),
        (
            Config(store=StoreTable("postgresql://me@db/x?sslmode=require&password=hush")),
            'store.url: holds a password in clear; write it as store.password = "${PGPASSWORD}"',
        ),
        (Config(store=StoreTable("sqlite:")), f'store.url: "sqlite:" is not a store; {STORES}'),
        (Config(store=StoreTable("a.db")), f'store.url: "a.db" is not a store; {STORES}'),
        (Config(store=StoreTable(lease_s=Seconds(0.5))), "store.lease: must be from 1 s to 600 s"),
        (
            Config(store=StoreTable(wakeups="redis://h")),
            "store.wakeups: is a redis:// URL, and for a store in PostgreSQL only",
        ),
        (Config(workspace=Workspace("")), 'workspace.root: must name a folder; the default is "workspace"'),
        (Config(models={"main": openai("other")}), 'models.main.fallback: there is no model "other"; known are: main'),
        (Config(models={"main": openai(name="")}), "models.main.name: must say what the server calls the model"),
        (
            Config(models={"main": openai(url="localhost:80")}),
            'models.main.url: "localhost:80" is not a URL that begins with http:// or https://',
        ),
        (Config(models={"main": openai(url="http://[x")}), 'models.main.url: "http://[x" is not a URL'),
        (
            Config(models={"main": openai(url="http://u:p@h/v1")}),
            "models.main.url: must not hold a password; put it into `key` or `headers` as ${NAME}",
        ),
        (
            Config(models={"main": openai(url="http://h/v1?x=1")}),
            "models.main.url: must end with its path: no ? and no #",
        ),
        (
            Config(models={"main": OpenAIModel("http://h", "m", timeout=Timeouts(connect_s=Seconds(16)))}),
            "models.main.timeout.connect: must be 15s at most: longer nobody waits for a server that is not there",
        ),
        (
            Config(models={"main": OpenAIModel("http://h", "m", timeout=Timeouts(total_s=Seconds(0)))}),
            "models.main.timeout.total: must be longer than nothing",
        ),
        (
            Config(models={"main": OpenAIModel("http://h", "m", params={"top_p": 1, "stream": True})}),
            "models.main.params.stream: is set by this program; take it out",
        ),
        (Config(models={"main": ScriptedModel("no.toml")}), "models.main.file: there is no file /etc/dragoman/no.toml"),
        (Config(agents={"a": AgentTable(model="big")}), 'agents.a.model: there is no model "big"; known are: offline'),
        (Config(agents={"a": AgentTable(approval_s=Seconds(0.9))}), "agents.a.approval: must be from 1s to 1d"),
        (Config(agents={"a": AgentTable(approval_s=Seconds(86_401))}), "agents.a.approval: must be from 1s to 1d"),
        (
            Config(connections={"c": ConnectionTable("promethus", "http://h")}),
            'connections.c.kind: there is no kind "promethus"; did you mean "prometheus"?',
        ),
        (
            Config(connections={"c": ConnectionTable("grafana", "http://h")}),
            f'connections.c.kind: kind "grafana" is not part of this version; known are: {", ".join(CONNECTION_KINDS)}',
        ),
        (Config(connections={"c": ConnectionTable("prometheus")}), "connections.c.url: is missing"),
        (
            Config(connections={"c": ConnectionTable("prometheus", "http://h", command=("x",))}),
            'connections.c.command: is for the kind "mcp"; take it out',
        ),
        (
            Config(connections={"c": ConnectionTable("mcp")}),
            "connections.c.url: is missing; a server that is a program on this machine has a command instead",
        ),
        (
            Config(connections={"c": ConnectionTable("mcp", "ftp://h")}),
            'connections.c.url: "ftp://h" is not a URL that begins with http:// or https://',
        ),
        (
            Config(connections={"c": ConnectionTable("mcp", "http://h", transport="htp")}),
            'connections.c.transport: there is no transport "htp"; did you mean "http"?',
        ),
        (
            Config(connections={"c": ConnectionTable("mcp", "http://h", command=("x",))}),
            "connections.c: has both url and command; a server is reached either way",
        ),
        (
            Config(connections={"c": ConnectionTable("mcp", transport="stdio")}),
            'connections.c.command: must name a program: command = ["uvx", "mcp-server-time"]',
        ),
        (
            Config(connections={"c": ConnectionTable("mcp", command=("",))}),
            'connections.c.command: must name a program: command = ["uvx", "mcp-server-time"]',
        ),
        (
            Config(connections={"c": ConnectionTable("mcp", command=("x",), transport="sse")}),
            'connections.c.transport: is "sse", and a command speaks stdio',
        ),
        (
            Config(connections={"c": ConnectionTable("mcp", command=("x",), key=Secret("k"))}),
            "connections.c: has no use for key and headers: a command is given its secrets by env",
        ),
        (
            Config(connections={"c": ConnectionTable("mcp", "http://h", Secret("k\n"))}),
            "connections.c: the header Authorization must be one line of printable ASCII",
        ),
        (
            Config(connections={"c": ConnectionTable("mcp", "http://h", headers={"X-A": Secret("ü")})}),
            "connections.c: the header X-A must be one line of printable ASCII",
        ),
        (
            Config(connections={"c": ConnectionTable("mcp", "http://h", env=("X",))}),
            "connections.c.env: is for a command; take it out",
        ),
        *(
            (
                Config(connections={"c": ConnectionTable("mcp", "http://h", timeout_s=Seconds(seconds))}),
                "connections.c.timeout: must be longer than nothing and 10m at most",
            )
            for seconds in (0, MCP_TIMEOUT_MAX_S + 0.1)
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_named(config: Config, fault: str):
    assert faults_of(config) == [fault]


@pytest.mark.parametrize(
    ("models", "faults"),
    [
        ({"main": openai("main")}, ["models.main.fallback: names the model itself, which has failed by then"]),
        ({"main": openai("b"), "b": openai("main")}, []),
        ({"main": openai("b"), "b": openai("c"), "c": openai("b")}, []),
        ({"main": openai("b", "c"), "b": openai("c"), "c": openai()}, []),
    ],
)
def test_models_may_stand_in_for_each_other_but_not_for_themselves(models: dict[str, OpenAIModel], faults: list[str]):
    assert faults_of(Config(models=dict(models))) == faults


def test_a_dialect_that_is_not_installed_is_said_to_be_of_another_version_or_unknown():
    known = ", ".join(installed_dialects())
    assert "grip" in installed_dialects()

    assert faults_of(Config(server=Server(dialects=("grp",)))) == [
        'server.dialects: there is no dialect "grp"; did you mean "grip"?'
    ]
    assert faults_of(Config(dialects={"grip": DialectTable(), "zzz": DialectTable()})) == [
        f'dialects.zzz: there is no dialect "zzz"; known are: {known}'
    ]


def test_a_system_whose_dialect_is_not_installed_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dragoman.server.config_checks.installed_dialects", lambda: ("grip",))

    assert faults_of(Config(server=Server(dialects=("rowboat", "grip")))) == [
        "server.dialects: the dialect rowboat (Rowboat) is not part of this version; installed are: grip"
    ]


@pytest.mark.parametrize(
    "table",
    [
        ConnectionTable(
            "mcp", "http://h/mcp", Secret("k"), {"X-Team": Secret("t")}, timeout_s=Seconds(MCP_TIMEOUT_MAX_S)
        ),
        ConnectionTable("mcp", "http://h/sse", transport="sse", tools=("find_*",)),
        ConnectionTable("mcp", command=("uvx", "mcp-server-time"), env=("TIME_KEY",)),
        ConnectionTable("mcp", command=("x",), transport="stdio", timeout_s=Seconds(0.1)),
    ],
)
def test_an_mcp_server_is_an_address_or_a_command(table: ConnectionTable):
    assert faults_of(Config(connections={"c": table})) == []
