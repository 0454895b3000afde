"""Addresses on a project's word: whatever they look like, they lead to no private network, and are looked up once."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from dragoman.core.errors import ToolFailed
from dragoman.tools import special_ranges
from dragoman.tools.egress import NOTHING_INSIDE, Allowed, Egress, NotReached, Target
from dragoman.tools.vetting import Policy, is_here, off_limits, vetted_url
from tests.tools.conftest import Serve

INSIDE = (
    "The webhook's url leads into a private network or to this machine, where nothing is asked on a project's word. The"
    " operator can set it up as a connection in the configuration file."
)
ONLY_127_0_0_1 = Policy(denied=lambda address: address != "127.0.0.1", itself=True)
"""So that a test can tell what is allowed from what is not: both are this machine."""


class Names(AbstractResolver):
    """Answers with what it is told, the last answer again and again, and notes what it was asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append((host, port))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in answer
        ]

    async def close(self) -> None:
        pass


Open = Callable[..., Egress]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    clients: list[Egress] = []

    def opened(policy: Policy = NOTHING_INSIDE, names: Names | None = None) -> Egress:
        made = Egress(policy=policy, connect_s=5.0, total_s=10.0, resolver=None if names is None else lambda: names)
        clients.append(made)
        return made

    yield opened
    for client in clients:
        await client.close()


async def post(egress: Egress, url: str, **given: object) -> int:
    target = Target("The webhook", url, (Allowed("POST", "/**"),), guarded=True)
    answer = await egress.post(target, b"{}", media_type="application/json", key="k", total_s=10.0)
    return answer.status


async def refused(egress: Egress, url: str) -> tuple[str, str]:
    with pytest.raises(ToolFailed) as caught:
        await post(egress, url)
    return caught.value.detail, caught.value.code


# -- what an address looks like ----------------------------------------------------------------------------------------

LITERALS = [
    *("127.0.0.1", "127.0.0.2", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1"),
    *("169.254.169.254", "100.100.100.200", "192.0.0.192", "168.63.129.16", "198.18.0.1", "224.0.0.1", "240.0.0.1"),
    *("255.255.255.255", "192.0.2.1", "198.51.100.1", "203.0.113.1", "127.0.0.1.", "169.254.169.254."),
    *("2130706433", "017700000001", "0x7f000001", "0x7F.1", "127.1", "127.0.1", "0177.0.0.1", "0", "0x0", "00"),
    *("0xa9.0xfe.0xa9.0xfe", "2852039166", "0251.0376.0251.0376", "0xA9FEA9FE", "169.16689662", "127.0.0.0x1"),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:169.254.169.254]"),
    *("[64:ff9b::127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]"),
    *("[2001:0:7f00:1::]", "[::127.0.0.1]", "[fe80::1]", "[fe80::1%25eth0]", "[::1%25lo]", "[fc00::1]"),
    *("[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "[2001:db8::1]", "[100::1]", "[2001:2::1]", "[5f00::1]"),
]  # fmt: skip


@pytest.mark.parametrize("host", LITERALS)
async def test_an_address_of_a_private_network_is_refused_in_every_spelling(opened: Open, host: str):
    names = Names(["8.8.8.8"])
    assert await refused(opened(names=names), f"http://{host}:8080/x") == (INSIDE, "denied")
    assert names.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/x",
        "//h/x",
        "h/x",
        "http:///x",
        "http:/h/x",
        "http://",
        "http://h:99999/",
        "http://h:-1/",
        "http://h:x/",
        "file:///etc/passwd",
        "gopher://h:70/x",
        "data:text/plain,x",
        "ftp://h/x",
        "unix:///run/x.sock",
        "http+unix://%2Frun%2Fx.sock/",
        "javascript:alert(1)",
        "http://a@example.com/",
        "http://a:b@example.com/",
        "http://example.com@127.0.0.1/",
        "http://127.0.0.1:80@example.com/",
        "http://example.com\\@127.0.0.1/",
        "http://example.com\\x/",
        "http://exam\tple.com/",
        "http://exam\nple.com/",
        "http://example.com/a b",
        "http://example.com/\r\nHost: x",
        "http://exam\0ple.com/",
        "http://пример.рф/",
        "http://раypal.com/",  # the first two letters are Cyrillic
        "http://①②⑦.⓪.⓪.①/",
        "http://127。0。0。1/",
        "http://1２7.0.0.1/",
        "http://example.com%2f@x/",
        "http://%31%32%37.0.0.1/",
        "http://[::1/",
        "http://::1/",
        "http://[v1.x]/",
        "http://example.com:22/",
        "http://example.com:25/",
        "http://example.com:0/",
        "http://example.com:6379@x/",
        "https://example.com:1023/",
        "http://" + "a" * 2000 + ".example/",
    ],
)
async def test_what_does_not_plainly_say_where_it_leads_is_refused(opened: Open, url: str):
    names = Names(["8.8.8.8"])
    detail, code = await refused(opened(names=names), url)
    assert code == "denied" and detail.startswith("The webhook's url")
    assert names.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x?y=z",
        "https://example.com",
        "http://example.com:80/",
        "https://example.com:443/",
        "http://example.com:1024/",
        "https://xn--e1afmkfd.xn--p1ai/",
        "http://8.8.8.8/",
        "http://[2606:4700::1111]:8443/x",
        "http://example.com./",
        "http://127.0.0.1.nip.io/",  # a name: what it resolves to is looked at
    ],
)
def test_what_may_be_looked_up_is_left_as_it_is(url: str):
    assert vetted_url(url, name="The webhook", policy=Policy()) == URL(url)


# -- what a name resolves to -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1"],
        ["169.254.169.254"],
        ["8.8.8.8", "127.0.0.1"],
        ["127.0.0.1", "8.8.8.8"],
        ["2606:4700::1111", "10.0.0.1"],
        ["8.8.8.8", "::1"],
        ["::ffff:10.0.0.1"],
        ["64:ff9b::a9fe:a9fe"],
        ["fe80::1%2"],
    ],
)
async def test_every_answer_must_be_allowed(opened: Open, answer: list[str]):
    names = Names(answer)
    assert await refused(opened(names=names), "http://inside.example:8080/") == (INSIDE, "denied")
    assert names.asked == [("inside.example", 8080)]


@pytest.mark.parametrize("host", ["localhost", "localhost.", "LOCALHOST", "a.localhost"])
async def test_names_of_this_machine_are_not_even_looked_up(opened: Open, host: str):
    names = Names(["8.8.8.8"])
    assert await refused(opened(names=names), f"http://{host}:8080/") == (INSIDE, "denied")
    assert names.asked == []


async def test_a_name_that_means_something_else_the_second_time_is_looked_up_once(opened: Open, serve: Serve):
    hosts: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        hosts.append(request.headers["Host"])
        return web.json_response({})

    port = (await serve(handler)).rpartition(":")[2]
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    egress = opened(ONLY_127_0_0_1, names)
    assert await post(egress, f"http://rebinding.example:{port}/x") == 200
    assert names.asked == [("rebinding.example", int(port))]
    assert hosts == [f"rebinding.example:{port}"]
    # The next request asks again, and goes by the answer it gets.
    assert await refused(egress, f"http://rebinding.example:{port}/x") == (INSIDE, "denied")
    assert len(names.asked) == 2 and len(hosts) == 1


async def test_a_request_below_a_guarded_address_is_held_to_the_same(opened: Open):
    target = Target("The webhook", "http://127.0.0.1:8080", (Allowed("GET", "/**"),), guarded=True)
    with pytest.raises(ToolFailed) as caught:
        await opened().request(target, "GET", "/x")
    assert (caught.value.detail, caught.value.code) == (INSIDE, "denied")


async def test_a_connection_is_looked_at_once_more_when_it_stands(opened: Open, serve: Serve):
    asked = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({})

    said = iter((False, True))  # of the address as it is written, and as it is connected to
    policy = Policy(denied=lambda address: next(said), itself=True)
    assert await refused(opened(policy), await serve(handler)) == (INSIDE, "denied")
    assert asked == 0


async def test_this_machine_is_not_reached_by_its_own_public_address(opened: Open, serve: Serve):
    asked = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({})

    url = await serve(handler)
    everything = Policy(denied=lambda address: False)
    assert await refused(opened(everything), url) == (INSIDE, "denied")
    assert asked == 0
    assert await post(opened(Policy(denied=lambda address: False, itself=True)), url) == 200


async def test_a_connection_from_an_address_to_itself_is_of_this_machine(
    opened: Open, serve: Serve, monkeypatch: pytest.MonkeyPatch
):
    """Also where sockets can be bound to any address, so that none is known to be this machine's."""
    monkeypatch.setattr("dragoman.tools.vetting.is_here", lambda address: False)
    everything = Policy(denied=lambda address: False)

    async def handler(request: web.Request) -> web.Response:
        return web.json_response({})

    assert await refused(opened(everything), await serve(handler)) == (INSIDE, "denied")


def test_addresses_of_this_machine_are_known_without_sending_anything():
    assert is_here("127.0.0.1")
    assert is_here("127.9.9.9")
    assert not is_here("93.184.216.34")
    assert not is_here("2606:2800:220:1::1")  # also where there is no IPv6
    assert off_limits("10.0.0.1")
    assert not off_limits("93.184.216.34")


async def test_a_target_that_is_not_guarded_may_be_anywhere(opened: Open, serve: Serve):
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({})

    target = Target("The webhook", await serve(handler), ())
    answer = await opened().post(target, b"{}", media_type="application/json", key="k")
    assert answer.status == 200


# -- on the way --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_where_clouds_keep_credentials_is_not_followed(opened: Open, serve: Serve, status: int):
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": "http://169.254.169.254/latest/meta-data"})

    detail, _ = await refused(opened(ONLY_127_0_0_1), await serve(handler))
    assert detail == (
        "The webhook answered with a redirect, which is not followed; its url must be where it really is."
    )


async def test_proxies_of_the_environment_have_no_part_in_it(
    opened: Open, serve: Serve, monkeypatch: pytest.MonkeyPatch
):
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({})

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await post(opened(ONLY_127_0_0_1), await serve(handler)) == 200


async def test_a_name_that_nobody_knows_was_not_reached(opened: Open):
    with pytest.raises(NotReached):
        await post(opened(), "http://nobody.invalid/")


async def test_a_late_reply_is_not_taken_for_the_next_one():
    """What comes on an idle connection costs it that connection."""
    connections = 0
    late = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        mine = connections
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                body = f"answer {mine}".encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
                if mine == 1:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
                    await writer.drain()
                    late.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    egress = Egress()
    target = Target("prom", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", (Allowed("GET", "/**"),))
    try:
        assert (await egress.request(target, "GET", "/x")).body == b"answer 1"
        await asyncio.wait_for(late.wait(), 5)
        await asyncio.sleep(0.05)  # until it has arrived here
        assert (await egress.request(target, "GET", "/x")).body == b"answer 2"
        assert (await egress.request(target, "GET", "/x")).body == b"answer 2"  # this one is used again
    finally:
        await egress.close()
        server.close()


def test_the_usual_policy_is_that_of_the_special_ranges():
    assert Policy().denied is special_ranges.denied and not Policy().itself
