"""What stands in `dragoman.toml`: one struct per table, every key with its default. `docs/config.example.toml` says it
to people. A Python name ends in its unit; the key in the file is its `name`.
"""

from typing import Annotated

from msgspec import Meta, Struct, field

from dragoman.core.agents import AgentSpec
from dragoman.runtime.budgets import Budget


class Secret(str):
    """Text that must not be shown. In the file it is best written as `${NAME}`, a variable of the environment."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Seconds(float):
    """In the file a duration with its unit: "5s", "10m", "90d"."""

    __slots__ = ()


Rpm = Annotated[int, Meta(ge=0, le=1_000_000)]
"""Requests per minute; 0 = off."""

OFFLINE = "offline"
"""The model's name when none is configured."""
ASSISTANT = "assistant"
"""The agent's name when none is configured."""

INSTRUCTIONS = (
    "You are the assistant of a team that runs and builds software. Answer briefly and plainly, in the language of the"
    " question. When a tool can find out what you need, use it rather than guess, and give the numbers and names it"
    " returned. Say so when you do not know or could not do what was asked."
)


class Server(Struct, frozen=True):
    listen: str = "127.0.0.1:8080"
    dialects: tuple[str, ...] = ()
    """Empty = all that are installed."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks whose X-Forwarded-For and X-Forwarded-Proto count."""
    public_url: str = ""
    """How callers reach this server, a path included; "" = as each of them wrote it."""
    base_path: str = ""
    """A path under which everything is served a second time, for clients that append to an address with a path."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call from a browser; "*" = every page."""
    drain_s: Seconds = field(default=Seconds(25), name="drain")
    """How long live runs may go on after a stop was asked for, before they are handed back (promise G12)."""


class StoreTable(Struct, frozen=True):
    """One SQLite file, or a PostgreSQL database that several servers share."""

    url: str = "sqlite:dragoman.db"
    """A file is relative to home; or postgresql://USER@HOST:PORT/DATABASE."""
    password: Secret = Secret("")
    """For PostgreSQL; "" = PGPASSWORD or ~/.pgpass."""
    wakeups: str = ""
    """For PostgreSQL: a redis:// URL that carries the wake-ups between servers; "" = PostgreSQL's own NOTIFY."""
    lease_s: Seconds = field(default=Seconds(15), name="lease")
    """How long a run stays with a server that is not heard of."""

    @property
    def is_postgres(self) -> bool:
        return self.url.partition(":")[0] in ("postgresql", "postgres")


class Defaults(Struct, frozen=True):
    """`model` and `agent` are never empty in a Config that was loaded."""

    project: str = "default"
    model: str = ""
    agent: str = ""
    """An agent, or a workflow."""
    workflow: str = ""
    """A workflow that is the published one of each project that has published none; "" = none is."""


class Timeouts(Struct, frozen=True):
    """Of one model call: until connected, until the first byte, between bytes, and in all."""

    connect_s: Seconds = field(default=Seconds(5), name="connect")
    first_s: Seconds = field(default=Seconds(60), name="first")
    idle_s: Seconds = field(default=Seconds(120), name="idle")
    total_s: Seconds = field(default=Seconds(600), name="total")


class OpenAIModel(Struct, frozen=True, tag="openai", tag_field="kind"):
    """A server that speaks OpenAI's chat completions; `model_name` is what it calls the model."""

    url: str
    model_name: str = field(name="name")
    key: Secret = Secret("")
    headers: dict[str, Secret] = field(default_factory=dict[str, Secret])
    timeout: Timeouts = Timeouts()
    params: dict[str, object] = field(default_factory=dict[str, object])
    """Further fields of every request, as they are, such as `temperature`."""
    fallback: tuple[str, ...] = ()


class OfflineModel(Struct, frozen=True, tag="offline", tag_field="kind"):
    """The built-in router: no LLM, no key, no network."""

    fallback: tuple[str, ...] = ()


class ScriptedModel(Struct, frozen=True, tag="scripted", tag_field="kind"):
    """Says what a script tells it. `file` is relative to the config file; absolute in a Config that was loaded."""

    file: str
    fallback: tuple[str, ...] = ()


ModelTable = OpenAIModel | OfflineModel | ScriptedModel


class AgentTable(Struct, frozen=True):
    instructions: str = INSTRUCTIONS
    tools: tuple[str, ...] = ("*",)
    model: str = ""
    """"" = the default model."""
    history_tokens: Annotated[int, Meta(ge=0, le=2_000_000)] = 24_000
    ask: tuple[str, ...] = ()
    """Patterns, as in `tools`: a person must approve each call of these."""
    deny: tuple[str, ...] = ()
    """Patterns of tools that are shown to the model and never run."""
    approval_s: Seconds = field(default=Seconds(120), name="approval")
    """How long an approval is waited for."""

    def spec(self, name: str) -> AgentSpec:
        return AgentSpec(
            name,
            self.instructions,
            self.tools,
            self.model,
            self.history_tokens,
            ask=self.ask,
            deny=self.deny,
            approval_s=float(self.approval_s),
        )


class ConnectionTable(Struct, frozen=True):
    """A named outside system. `headers` go with every request; `key` becomes the Authorization its kind wants.

    From `transport` on: for the kind `mcp` alone, which has either `url` or `command`; all others need a `url`.
    """

    kind: str
    url: str = ""
    key: Secret = Secret("")
    headers: dict[str, Secret] = field(default_factory=dict[str, Secret])
    transport: str = ""
    """"http", "sse" or "stdio"; "" = stdio if there is a `command`, else http, and sse if that is not spoken."""
    command: tuple[str, ...] = ()
    """A program that is the server, and its arguments."""
    env: tuple[str, ...] = ()
    """Names of variables of our environment that the program is given besides a few harmless ones."""
    timeout_s: Seconds = field(default=Seconds(30), name="timeout")
    """What one call may take, with connecting."""
    tools: tuple[str, ...] = ("*",)
    """Patterns of those of its tools that may be used."""

    @property
    def request_headers(self) -> tuple[tuple[str, str], ...]:
        scheme = "ApiKey" if self.kind == "elasticsearch" else "Bearer"
        keyed = (("Authorization", f"{scheme} {self.key}"),) if self.key else ()
        return (*keyed, *((name, str(value)) for name, value in self.headers.items()))


class ConnectorsTable(Struct, frozen=True):
    """What the connectors may do that people set up while the server runs. Names or globs."""

    hosts: tuple[str, ...] = ("*",)
    """Hosts they may reach. Where clouds keep credentials they never reach, whatever stands here."""
    email_domains: tuple[str, ...] = ("*",)
    """Domains they may send e-mail to."""


class Anonymization(Struct, frozen=True):
    """What no model is told. `rules` is a list of tables; `masking_rules.py` reads them."""

    rules: object = ()


class RunLimits(Struct, frozen=True):
    """What one run may spend; 0 = no limit."""

    steps: Annotated[int, Meta(ge=0, le=10_000)] = 25
    wall_s: Seconds = field(default=Seconds(600), name="wall")
    llm_tokens: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    same_call: Annotated[int, Meta(ge=0, le=10_000)] = 5

    @property
    def budget(self) -> Budget:
        return Budget(self.steps, float(self.wall_s), self.llm_tokens, self.same_call)


class Limits(Struct, frozen=True):
    per_ip_rpm: Rpm = 60
    per_credential_rpm: Rpm = 60
    per_project_rpm: Rpm = 0
    body_mb: Annotated[float, Meta(ge=0.001, le=100)] = 1.0
    message_chars: Annotated[int, Meta(ge=1, le=10_000_000)] = 100_000
    queue_per_conversation: Annotated[int, Meta(ge=0, le=10_000)] = 8
    readers_per_conversation: Annotated[int, Meta(ge=1, le=100_000)] = 100
    replay_s: Seconds = field(default=Seconds(86_400), name="replay")
    """How long after a run's end its text can be read again as it grew; 0 = for ever. The whole text stays."""
    run: RunLimits = RunLimits()

    @property
    def body_bytes_max(self) -> int:
        return int(self.body_mb * 1024 * 1024)


class DialectTable(Struct, frozen=True):
    """What a dialect may be told. `workspace` is relative to home; "" = the workspace of the tools."""

    session_files: bool = False
    """Also keep each conversation as a file in this wire's own format, where it has one."""
    workspace: str = ""


class Workspace(Struct, frozen=True):
    root: str = "workspace"
    """Relative to home."""


class Config(Struct, frozen=True):
    """All of it. `models` and `agents` are never empty in a Config that was loaded."""

    server: Server = Server()
    store: StoreTable = field(default=StoreTable())
    defaults: Defaults = Defaults()
    models: dict[str, ModelTable] = field(default_factory=dict[str, ModelTable])
    agents: dict[str, AgentTable] = field(default_factory=dict[str, AgentTable])
    workflows: dict[str, object] = field(default_factory=dict[str, object])
    """Read by `workflow_tables.py`."""
    connections: dict[str, ConnectionTable] = field(default_factory=dict[str, ConnectionTable])
    connectors: ConnectorsTable = ConnectorsTable()
    anonymization: Anonymization = Anonymization()
    limits: Limits = Limits()
    dialects: dict[str, DialectTable] = field(default_factory=dict[str, DialectTable])
    workspace: Workspace = Workspace()
