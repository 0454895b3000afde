"""How callers reach this server: under which path, and by which address. Both may differ from what it listens on."""

import re
from collections.abc import Mapping, Sequence

from starlette.types import Scope

from dragoman.edge.limits import Network, trusts

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
"""A name or an address, and a port. What stands in the header goes into addresses that others will follow."""
SCHEMES = ("http", "https")


class Front:
    """`base_path` is a path under which everything is served a second time, for clients that append to an address with
    a path in it; "" = none. `public_url` is the address as callers write it, a path included; "" = as they wrote it."""

    def __init__(self, *, public_url: str = "", base_path: str = "", trusted_proxies: Sequence[Network] = ()) -> None:
        self._public_url = public_url.rstrip("/")
        self._base = base_path.rstrip("/")
        self._trusted = tuple(trusted_proxies)

    def split(self, path: str) -> tuple[str, str]:
        """What of a path is the base, and the rest."""
        base = self._base
        if base and path.startswith(base) and path[len(base) : len(base) + 1] in ("", "/"):
            return base, path[len(base) :] or "/"
        return "", path

    def origin(self, scope: Scope, headers: Mapping[str, str], base: str) -> str:
        """scheme://host and the base path, if the caller used it: what our own paths are to be appended to."""
        return self._public_url or f"{self._scheme(scope, headers)}://{_host(scope, headers)}{base}"

    def _scheme(self, scope: Scope, headers: Mapping[str, str]) -> str:
        forwarded = headers.get("x-forwarded-proto")
        if forwarded is not None and self._trusted:
            client = scope.get("client")
            said = forwarded.partition(",")[0].strip().lower()
            if client and said in SCHEMES and trusts(client[0], self._trusted):
                return said
        return scope["scheme"]


def _host(scope: Scope, headers: Mapping[str, str]) -> str:
    """What the caller's Host header says, or where we listen if it says nothing that could be a host."""
    host = headers.get("host", "")
    if _HOST.fullmatch(host):
        return host
    server = scope.get("server")
    if not server:
        return "localhost"
    name, port = server
    name = f"[{name}]" if ":" in name else name
    return name if port is None else f"{name}:{port}"
