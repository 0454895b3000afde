"""How callers reach the server: which paths are ours, and which address they are told."""

from typing import Any

import pytest

from dragoman.edge.front import Front
from dragoman.edge.limits import networks

PROXY = networks(["10.0.0.1"])


@pytest.mark.parametrize(
    ("base", "path", "split"),
    [
        ("", "/grafana/api/x", ("", "/grafana/api/x")),
        ("/grafana", "/grafana/api/x", ("/grafana", "/api/x")),
        ("/grafana/", "/grafana/api/x", ("/grafana", "/api/x")),
        ("/grafana", "/grafana", ("/grafana", "/")),
        ("/grafana", "/grafana/", ("/grafana", "/")),
        ("/grafana", "/grafana//api", ("/grafana", "//api")),
        ("/grafana", "/grafana/grafana/api", ("/grafana", "/grafana/api")),
        ("/grafana", "/grafanas/api", ("", "/grafanas/api")),
        ("/grafana", "/api/x", ("", "/api/x")),
        ("/a/b", "/a/b/c", ("/a/b", "/c")),
        ("/a/b", "/a/c", ("", "/a/c")),
        ("/grafana", "", ("", "")),
    ],
)
def test_a_path_is_split_at_the_base(base: str, path: str, split: tuple[str, str]) -> None:
    assert Front(base_path=base).split(path) == split


def origin(
    headers: dict[str, str], *, server: Any = ("127.0.0.1", 8080), client: Any = ("10.0.0.1", 5), **front: Any
) -> str:
    scope: Any = {"scheme": "http", "server": server, "client": client}
    return Front(**front).origin(scope, headers, front.get("base_path", ""))


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("example.com", "http://example.com"),
        ("example.com:8443", "http://example.com:8443"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("my_host-1.local", "http://my_host-1.local"),
        ("", "http://127.0.0.1:8080"),
        ("a b", "http://127.0.0.1:8080"),
        ('x"><script>', "http://127.0.0.1:8080"),
        ("user@example.com", "http://127.0.0.1:8080"),
        ("example.com/path", "http://127.0.0.1:8080"),
        ("example.com\n", "http://127.0.0.1:8080"),
        ("example.com:port", "http://127.0.0.1:8080"),
        ("x" * 300, "http://127.0.0.1:8080"),
    ],
)
def test_the_callers_own_name_for_us_is_used_if_it_could_be_one(host: str, said: str) -> None:
    assert origin({"host": host}) == said


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (("::1", 8080), "http://[::1]:8080"),
        (("host", None), "http://host"),
        (None, "http://localhost"),
    ],
)
def test_without_a_name_it_is_where_we_listen(server: Any, said: str) -> None:
    assert origin({}, server=server) == said


@pytest.mark.parametrize(
    ("proto", "trusted", "said"),
    [
        ("https", PROXY, "https://h"),
        ("HTTPS, http", PROXY, "https://h"),
        ("javascript", PROXY, "http://h"),
        ("", PROXY, "http://h"),
        ("https", (), "http://h"),
        ("https", networks(["10.0.0.2"]), "http://h"),
    ],
)
def test_only_a_trusted_proxy_says_which_scheme_the_caller_used(proto: str, trusted: Any, said: str) -> None:
    assert origin({"host": "h", "x-forwarded-proto": proto}, trusted_proxies=trusted) == said


def test_a_caller_without_an_address_is_no_proxy() -> None:
    assert origin({"host": "h", "x-forwarded-proto": "https"}, client=None, trusted_proxies=PROXY) == "http://h"


def test_the_base_path_belongs_to_the_address_of_those_who_used_it() -> None:
    assert origin({"host": "h"}, base_path="/grafana") == "http://h/grafana"


def test_a_configured_address_is_told_to_everybody() -> None:
    public = "https://assistant.example.com/sub/"
    assert origin({"host": "h"}, public_url=public, base_path="/grafana") == "https://assistant.example.com/sub"
