"""What connections of the egress client may lead to, and which of them are used again.

An address that people give while the server runs is vetted: its host is looked up once, every answer must be allowed,
and those answers are what is connected to. So a name that means another address the second time gains nothing.

    url ─vetted_url─► host, port ─Resolver─► addresses, all of them allowed ─► connection ─Connector─► is it there?
"""

import socket
from collections.abc import Callable

from aiohttp import ClientRequest, ClientTimeout, TCPConnector, ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from msgspec import Struct
from yarl import URL

from dragoman.core.errors import BadRequest, ToolFailed
from dragoman.runtime.reach import host_of, is_local, is_numeric, literal
from dragoman.tools import special_ranges

PORTS_LOW = (80, 443)
FREE_PORT_MIN = 1024
"""Below stand the services of a machine: of those only the two that speak HTTP."""
NOBODYS_V4, NOBODYS_V6 = "192.0.2.1", "2001:db8::1"
"""For documentation: no machine has them."""


class Policy(Struct, frozen=True):
    """Which addresses are never connected to. `itself` = this machine's own may be, whatever they are."""

    denied: Callable[[str], bool] = special_ranges.denied
    itself: bool = False


class AddressDenied(OSError):
    """A host resolves to an address that is never connected to. An OSError: aiohttp tells it as a failed look-up."""


class PeerDenied(Exception):
    """A connection stands, and leads to such an address. No OSError, which aiohttp would take for a broken one."""


def vetted_url(url: str, *, name: str, policy: Policy) -> URL:
    """The address, if it may be asked as far as is told without looking its host up. Raises ToolFailed: `denied`."""
    try:
        host = host_of(url, field=f"{name}'s url")
        parsed = URL(url)
    except BadRequest as error:
        raise ToolFailed(error.detail, code="denied") from None
    except ValueError as error:
        raise ToolFailed(f"{name}'s url is no address.", code="denied", internal=str(error)[:200]) from None
    seen = (parsed.raw_host or "").lower()
    if (literal(seen) or seen) != (literal(host) or host.lower()):
        # Two readers, two hosts: whichever is right, nobody means well who writes that.
        raise ToolFailed(f"{name}'s url does not say plainly which host it means.", code="denied")
    plain = host.lower().rstrip(".")
    address = literal(plain)
    if is_numeric(plain) or is_local(plain) if address is None else policy.denied(str(address)):
        raise denied(name)
    check_port(parsed.port, name=name)
    return parsed


def check_port(port: int | None, *, name: str) -> None:
    """Raises ToolFailed, `denied`, for one where something else than HTTP is at home."""
    if port is None or (port not in PORTS_LOW and port < FREE_PORT_MIN):
        raise ToolFailed(
            f"{name}'s url names port {port}: addresses of a project's may use 80, 443, and {FREE_PORT_MIN} and above.",
            code="denied",
        )


def denied(name: str) -> ToolFailed:
    return ToolFailed(
        f"{name}'s url leads into a private network or to this machine, where nothing is asked on a project's word. The"
        " operator can set it up as a connection in the configuration file.",
        code="denied",
    )


def off_limits(address: str) -> bool:
    """Whether nothing of a project's is connected to there: a special range, or this machine by any other address."""
    return special_ranges.denied(address) or is_here(address)


def is_here(address: str) -> bool:
    """Whether it is an address of this machine. Nothing is sent: a socket can only be bound to those. Where one can be
    bound to any (`net.ipv4.ip_nonlocal_bind`), nobody can tell, and it is said not to be."""
    return _can_be_bound(address) and not _can_be_bound(NOBODYS_V6 if ":" in address else NOBODYS_V4)


def _can_be_bound(address: str) -> bool:
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


class Resolver(AbstractResolver):
    """Looks names up, once for each connection, and gives no address unless all may be connected to."""

    def __init__(self, policy: Policy, resolver: AbstractResolver | None = None) -> None:
        """Must be called in the running loop."""
        self._policy = policy
        self._resolver = resolver or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if any(self._policy.denied(each["host"]) for each in found):
            raise AddressDenied(f"{host} resolves to an address that is never connected to")
        return found

    async def close(self) -> None:
        await self._resolver.close()


class Connector(TCPConnector):
    """Hands out no connection on which something came after its last reply had ended: it could be taken for the next
    one. With a policy, none whose other end that does not allow, by whatever way it came about."""

    policy: Policy | None = None

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is not None and protocol.should_close:
                connection.close()
                continue
            if self.policy is not None and not _is_allowed(self.policy, connection):
                connection.close()
                raise PeerDenied("the connection leads to an address that is never connected to")
            return connection


def open_connector(*, policy: Policy | None, reuse: bool, resolver: AbstractResolver | None = None) -> Connector:
    """Must be called in the running loop. Without `reuse` each request has a connection of its own."""
    vetting = None if policy is None else Resolver(policy, resolver)
    connector = Connector(resolver=vetting or resolver, use_dns_cache=policy is None, force_close=not reuse)
    connector.policy = policy
    return connector


def _is_allowed(policy: Policy, connection: Connection) -> bool:
    transport = connection.transport
    if transport is None:
        return False
    there, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    if not there or not here:
        return False
    address = str(there[0])
    if policy.denied(address):
        return False
    return policy.itself or not (address == str(here[0]) or is_here(address))
