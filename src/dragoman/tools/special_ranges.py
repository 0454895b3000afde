"""Which addresses an URL that people give may never lead to: private networks, this machine, and where clouds keep
credentials. Pure.

The special-purpose registries of IANA (RFC 6890 and what followed it), and two addresses of clouds that look public.
An IPv6 address that stands for an IPv4 one is judged by that one: it is where the packet ends.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

V4 = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",  # this network; 0.0.0.0 is this machine to a connect (RFC 1122)
            "10.0.0.0/8",  # private (RFC 1918), also below
            "100.64.0.0/10",  # shared by carriers (RFC 6598); Alibaba's metadata at 100.100.100.200
            "127.0.0.0/8",  # this machine
            "168.63.129.16/32",  # Azure's wire server
            "169.254.0.0/16",  # the link; metadata of AWS, Azure, Google and others at 169.254.169.254
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocol assignments; Oracle's metadata at 192.0.0.192
            "192.0.2.0/24",  # documentation (RFC 5737), also below
            "192.88.99.0/24",  # relays of 6to4, given up (RFC 7526)
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks (RFC 2544)
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
V6 = tuple(
    map(
        ip_network,
        (
            "::/96",  # nowhere, this machine, and IPv4 in a form that was given up (RFC 4291)
            "64:ff9b:1::/48",  # translation within one network: where in it the IPv4 address stands, it alone knows
            "100::/64",  # discard (RFC 6666)
            "2001:db8::/32",  # documentation, also below
            "3fff::/20",
            "5f00::/16",  # segment routing (RFC 9602)
            "fc00::/7",  # private; AWS' metadata at fd00:ec2::254
            "fe80::/10",  # the link
            "fec0::/10",  # private, as it once was (RFC 3879)
            "ff00::/8",  # multicast
        ),
    )
)
NAT64 = ip_network("64:ff9b::/96")
"""The last 32 bits are the IPv4 address (RFC 6052)."""
ASSIGNED = ip_network("2001::/23")
"""Protocol assignments. Of them only Teredo leads anywhere (RFC 4380)."""


def denied(address: str | IPv4Address | IPv6Address) -> bool:
    """Whether nothing may be sent there; also True for text that is no address. A zone (`%eth0`) is left aside."""
    if isinstance(address, str):
        try:
            address = ip_address(address.partition("%")[0])
        except ValueError:
            return True
    if isinstance(address, IPv4Address):
        return any(address in network for network in V4)
    inner = tuple(_inside(address))
    if inner:
        return any(map(denied, inner))
    return address in ASSIGNED or any(address in network for network in V6)


def _inside(address: IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that it stands for: mapped, 6to4, NAT64; of Teredo the server and who is behind it."""
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address.sixtofour is not None:
        yield address.sixtofour
    elif address.teredo is not None:
        yield from address.teredo
    elif address in NAT64:
        yield IPv4Address(int(address) & 0xFFFFFFFF)
