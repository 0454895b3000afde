"""What a project is set to: made once for ever, sealed, found by the widget's id, changed beside others."""

import asyncio
from itertools import count
from typing import Any

import msgspec
import pytest

from dragoman.access.sealing import Sealer
from dragoman.core.errors import BadRequest, Conflict, NotFound, Unavailable
from dragoman.core.names import ProjectId
from dragoman.core.records import Record, Records
from dragoman.runtime.project_settings import (
    CACHED_MAX,
    CACHED_S,
    CLIENTS,
    HEADER_CHARS_MAX,
    HEADERS_MAX,
    MCP_SERVERS_MAX,
    NOBODY,
    ONLY,
    RECORDS,
    SERVER_NAME_CHARS_MAX,
    McpServer,
    ProjectSettings,
)
from dragoman.stores.memory.records import MemoryRecords
from tests.support import FixedClock

P, Q = ProjectId("p"), ProjectId("q")
HOOK = "https://hooks.example.com/tool_call?x=1"


class Slow:
    """Records that let others go first before they write."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    async def put(self, record: Record, *, expect: int | None) -> Record:
        await asyncio.sleep(0)
        return await self._records.put(record, expect=expect)


class Office:
    """Settings, and whatever they stand on; `another` is a second process on the same records."""

    def __init__(self, records: Records | None = None, *, key: bytes = b"k", start: int = 1) -> None:
        self.clock = FixedClock()
        self.records = records or MemoryRecords(self.clock)
        self._numbers, nonces = count(start), count(start)
        self.settings = ProjectSettings(
            self.records,
            Sealer(key, lambda size: next(nonces).to_bytes(size, "big")),
            lambda: f"{next(self._numbers):064x}",
            lambda: f"client{next(self._numbers):016d}",
            clock=self.clock,
            webhooks=("hook", "other"),
        )

    def another(self, *, key: bytes = b"k") -> "Office":
        made = Office(self.records, key=key, start=1000)
        made.clock = self.clock
        made.settings._clock = self.clock
        return made

    async def body(self, project: ProjectId = P) -> dict[str, Any]:
        record = await self.records.get(project, RECORDS, ONLY)
        assert record is not None
        return msgspec.json.decode(record.body)

    async def clients(self) -> list[str]:
        return [record.id for record in (await self.records.page(NOBODY, CLIENTS, limit=0, offset=0)).items]


@pytest.fixture
def office() -> Office:
    return Office()


# -- made --------------------------------------------------------------------------------------------------------------


async def test_they_are_made_when_first_asked_for_and_stay(office: Office):
    made = await office.settings.of(P)
    assert len(made.secret) == 64 and len(made.client_id) == 22
    assert (made.webhook, made.webhook_style, made.mcp_servers) == ("", "full", ())
    office.clock.move(CACHED_S)
    assert await office.settings.of(P) == made
    other = await office.settings.of(Q)
    assert other.secret != made.secret and other.client_id != made.client_id


async def test_processes_that_make_them_at_once_have_one_secret_and_leave_no_idle_client_id():
    first = Office()
    office = Office(Slow(first.records))  # pyright: ignore[reportArgumentType] - the records, only slower
    offices = [office, *(office.another() for _ in range(4))]
    for number, each in enumerate(offices):
        each._numbers = count(number * 1000)
    found = await asyncio.gather(*(each.settings.of(P) for each in offices))
    assert len(set(found)) == 1
    assert await office.clients() == [found[0].client_id]


async def test_the_secret_lies_in_the_store_sealed(office: Office):
    secret = (await office.settings.of(P)).secret
    body = await office.body()
    assert secret not in msgspec.json.encode(body).decode()
    assert body["secret"].startswith("s1.")


async def test_a_secret_that_was_sealed_for_another_project_is_not_opened(office: Office):
    await office.settings.of(P)
    await office.settings.of(Q)
    moved = await office.records.get(P, RECORDS, ONLY)
    there = await office.records.get(Q, RECORDS, ONLY)
    assert moved is not None and there is not None
    await office.records.put(msgspec.structs.replace(there, body=moved.body), expect=there.version)
    with pytest.raises(Unavailable):
        await office.another().settings.of(Q)


async def test_under_another_key_a_new_secret_helps(office: Office):
    old = (await office.settings.of(P)).secret
    other = office.another(key=b"another")
    with pytest.raises(Unavailable) as refused:
        await other.settings.of(P)
    assert refused.value.code == "secret_unreadable"
    await other.settings.rotate_secret(P)
    assert (await other.settings.of(P)).secret != old


def test_no_secret_is_shown_by_accident():
    assert "hunter2" not in repr(McpServer("x", HOOK, headers=(("Authorization", "hunter2"),)))


async def test_settings_do_not_show_their_secret(office: Office):
    made = await office.settings.of(P)
    assert made.secret not in repr(made)


# -- remembered --------------------------------------------------------------------------------------------------------


async def test_a_change_counts_here_at_once_and_elsewhere_after_a_while(office: Office):
    other = office.another()
    assert (await other.settings.of(P)).webhook == ""
    await office.settings.set_webhook(P, HOOK)
    assert (await office.settings.of(P)).webhook == HOOK
    office.clock.move(CACHED_S - 0.1)
    assert (await other.settings.of(P)).webhook == ""
    office.clock.move(0.1)
    assert (await other.settings.of(P)).webhook == HOOK


async def test_so_many_are_remembered_and_no_more(office: Office):
    for number in range(CACHED_MAX + 1):
        await office.settings.of(ProjectId(f"p{number}"))
    assert len(office.settings._cached) <= CACHED_MAX
    assert (await office.settings.of(ProjectId("p0"))).secret  # read again


# -- found by the widget's id ------------------------------------------------------------------------------------------


async def test_a_project_is_found_by_its_client_id(office: Office):
    for project in (P, Q):
        client_id = (await office.settings.of(project)).client_id
        assert await office.settings.project_of_client(client_id) == project
        assert await office.another().settings.project_of_client(client_id) == project


@pytest.mark.parametrize(
    "client_id", ["", "x", "client0000000000000009", "a" * 21, "a" * 23, "../" + "a" * 19, "ü" * 22]
)
async def test_an_id_that_is_nobodys_finds_nothing(office: Office, client_id: str):
    await office.settings.of(P)
    assert await office.settings.project_of_client(client_id) is None


async def test_a_client_id_that_was_changed_is_nobodys(office: Office):
    old = (await office.settings.of(P)).client_id
    await office.settings.rotate_client(P)
    new = (await office.settings.of(P)).client_id
    assert new != old
    assert await office.settings.project_of_client(old) is None
    assert await office.settings.project_of_client(new) == P


async def test_an_id_that_another_process_made_is_good_at_once(office: Office):
    before = await office.settings.of(P)
    other = office.another().settings
    await other.rotate_client(P)
    new = (await other.of(P)).client_id
    assert (await office.settings.of(P)).client_id == before.client_id  # as it is remembered here
    assert await office.settings.project_of_client(new) == P
    assert await office.settings.project_of_client(before.client_id) is None
    assert await office.clients() == [new]


async def test_an_id_whose_old_record_is_still_there_finds_nothing(office: Office):
    """A crash between the two writes, or a project that is gone."""
    old = (await office.settings.of(P)).client_id
    await office.settings.rotate_client(P)
    for project, client_id in ((P, old), (ProjectId("gone"), "b" * 22)):
        body = msgspec.json.encode(project).decode()
        await office.records.put(Record(NOBODY, CLIENTS, client_id, body, wide=True), expect=0)
        assert await office.settings.project_of_client(client_id) is None
        assert await office.another().settings.project_of_client(client_id) is None


async def test_asking_for_a_client_id_makes_no_settings(office: Office):
    await office.records.put(Record(NOBODY, CLIENTS, "b" * 22, '"gone"', wide=True), expect=0)
    await office.settings.project_of_client("b" * 22)
    assert await office.records.get(ProjectId("gone"), RECORDS, ONLY) is None


# -- the webhook -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("webhook", [HOOK, "http://h.example:8080", "connection:hook", "http://8.8.8.8/x", ""])
async def test_a_webhook_is_an_address_or_a_connection_or_none(office: Office, webhook: str):
    await office.settings.set_webhook(P, "connection:other")
    await office.settings.set_webhook(P, webhook)
    assert (await office.settings.of(P)).webhook == webhook


@pytest.mark.parametrize(
    ("webhook", "sentence"),
    [
        ("x", "The webhook must be an address such as https://host/path; 2000 characters at most."),
        ("file:///etc/passwd", "The webhook must be an address such as https://host/path; 2000 characters at most."),
        ("http://u:p@h/", "The webhook may not hold a user or password; put them into the secrets."),
        (
            "connection:nope",
            'connection:nope is no connection of kind "webhook" in the configuration. There are: hook, other.',
        ),
        ("http://0x7f.1/", "The webhook: write 0x7f.1 as a name, or as an address of four numbers."),
    ],
)
async def test_what_can_be_no_webhook_is_refused(office: Office, webhook: str, sentence: str):
    with pytest.raises(BadRequest) as refused:
        await office.settings.set_webhook(P, webhook)
    assert refused.value.detail == sentence
    assert (await office.settings.of(P)).webhook == ""


@pytest.mark.parametrize(
    "host", ["127.0.0.1:80", "localhost", "a.localhost.", "10.1.2.3", "[::1]", "169.254.169.254", "192.168.0.1"]
)
async def test_an_address_inside_is_for_the_operator_to_open(office: Office, host: str):
    for change in (
        office.settings.set_webhook(P, f"http://{host}/x"),
        office.settings.put_mcp_server(P, McpServer("m", f"http://{host}/x")),
    ):
        with pytest.raises(BadRequest) as refused:
            await change
        assert "set it up as a connection in the configuration file" in refused.value.detail


async def test_without_connections_the_sentence_says_so(office: Office):
    settings = ProjectSettings(office.records, Sealer(b"k", bytes), str, str, clock=office.clock)
    with pytest.raises(BadRequest) as refused:
        await settings.set_webhook(P, "connection:x")
    assert refused.value.detail.endswith("in the configuration. There is none.")


async def test_how_much_is_signed_is_set(office: Office):
    await office.settings.set_webhook_style(P, "minimal")
    assert (await office.settings.of(P)).webhook_style == "minimal"


# -- MCP servers -------------------------------------------------------------------------------------------------------

SERVER = McpServer("helpdesk", "https://mcp.example.com/mcp", "sse", (("Authorization", "Bearer hunter2"),))


async def test_a_server_is_set_up_changed_and_taken_away(office: Office):
    await office.settings.put_mcp_server(P, SERVER)
    await office.settings.put_mcp_server(P, McpServer("another", HOOK))
    assert (await office.settings.of(P)).mcp_servers == (McpServer("another", HOOK), SERVER)
    assert (await office.settings.of(Q)).mcp_servers == ()
    changed = McpServer("helpdesk", HOOK)
    await office.settings.put_mcp_server(P, changed)
    assert (await office.settings.of(P)).mcp_servers == (McpServer("another", HOOK), changed)
    await office.settings.remove_mcp_server(P, "another")
    assert (await office.settings.of(P)).mcp_servers == (changed,)
    with pytest.raises(NotFound):
        await office.settings.remove_mcp_server(P, "another")


async def test_headers_lie_in_the_store_sealed(office: Office):
    await office.settings.put_mcp_server(P, SERVER)
    assert "hunter2" not in msgspec.json.encode(await office.body()).decode()
    assert (await office.another().settings.of(P)).mcp_servers == (SERVER,)


@pytest.mark.parametrize(("project", "name"), [(P, "other"), (Q, SERVER.name)], ids=["of-a-server", "of-a-project"])
async def test_headers_are_read_in_their_own_place_alone(office: Office, project: ProjectId, name: str):
    """Who can write to the store cannot have them sent to another server."""
    await office.settings.put_mcp_server(P, SERVER)
    (kept,) = (await office.body())["mcp_servers"]
    await office.settings.put_mcp_server(project, McpServer(name, HOOK))
    record = await office.records.get(project, RECORDS, ONLY)
    assert record is not None
    servers = [
        kept | {"name": name} if each["name"] == name else each
        for each in msgspec.json.decode(record.body)["mcp_servers"]
    ]
    body = msgspec.json.encode(await office.body(project) | {"mcp_servers": servers}).decode()
    await office.records.put(msgspec.structs.replace(record, body=body), expect=record.version)
    with pytest.raises(Unavailable, match="is damaged"):
        await office.another().settings.of(project)


async def test_a_project_has_so_many_servers_and_no_more(office: Office):
    for number in range(MCP_SERVERS_MAX):
        await office.settings.put_mcp_server(P, McpServer(f"s{number}", HOOK))
    await office.settings.put_mcp_server(P, McpServer("s0", HOOK, "http"))
    with pytest.raises(BadRequest):
        await office.settings.put_mcp_server(P, McpServer("one more", HOOK))
    assert len((await office.settings.of(P)).mcp_servers) == MCP_SERVERS_MAX


LONG = "x" * (HEADER_CHARS_MAX - 1)


@pytest.mark.parametrize(
    "server",
    [
        McpServer("n" * SERVER_NAME_CHARS_MAX, HOOK),
        McpServer("Mein Server", HOOK),
        McpServer("m", HOOK, headers=(("H", LONG),)),
        McpServer("m", HOOK, headers=tuple((f"H{number}", "x") for number in range(HEADERS_MAX))),
    ],
)
async def test_a_server_at_the_edge_of_what_may_be_is_taken(office: Office, server: McpServer):
    await office.settings.put_mcp_server(P, server)
    assert (await office.settings.of(P)).mcp_servers == (server,)


@pytest.mark.parametrize(
    "server",
    [
        McpServer("", HOOK),
        McpServer(" ", HOOK),
        McpServer("n" * (SERVER_NAME_CHARS_MAX + 1), HOOK),
        McpServer("a\nb", HOOK),
        McpServer("m", "stdio"),
        McpServer("m", HOOK, headers=(("H", LONG + "x"),)),
        McpServer("m", HOOK, headers=tuple((f"H{number}", "x") for number in range(HEADERS_MAX + 1))),
        McpServer("m", HOOK, headers=(("H", "a\r\nX: y"),)),
        McpServer("m", HOOK, headers=(("H", "ü"),)),
        McpServer("m", HOOK, headers=(("a b", "x"),)),
        McpServer("m", HOOK, headers=(("", "x"),)),
    ],
)
async def test_a_server_that_cannot_be_is_refused(office: Office, server: McpServer):
    with pytest.raises(BadRequest):
        await office.settings.put_mcp_server(P, server)


# -- changed beside others ---------------------------------------------------------------------------------------------


async def test_changes_that_cross_are_both_there():
    first = Office()
    office = Office(Slow(first.records))  # pyright: ignore[reportArgumentType] - the records, only slower
    other = office.another()
    await office.settings.of(P)
    await asyncio.gather(
        office.settings.set_webhook(P, HOOK),
        other.settings.set_webhook_style(P, "minimal"),
        other.settings.put_mcp_server(P, SERVER),
    )
    found = await office.another().settings.of(P)
    assert (found.webhook, found.webhook_style, found.mcp_servers) == (HOOK, "minimal", (SERVER,))


async def test_a_source_of_randomness_that_gives_something_else_is_a_fault_of_ours(office: Office):
    for secret, client_id in (("short", "b" * 22), ("0" * 64, "short")):
        settings = ProjectSettings(
            office.records, Sealer(b"k", bytes), lambda s=secret: s, lambda c=client_id: c, clock=office.clock
        )
        with pytest.raises(RuntimeError):
            await settings.of(P)


async def test_a_client_id_that_is_somebodys_already_is_not_taken_over(office: Office):
    taken = (await office.settings.of(P)).client_id
    settings = ProjectSettings(office.records, Sealer(b"k", bytes), lambda: "0" * 64, lambda: taken, clock=office.clock)
    with pytest.raises(Conflict):
        await settings.of(Q)
    assert await office.settings.project_of_client(taken) == P
