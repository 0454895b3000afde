"""Which hosts connectors may reach."""

import pytest

from dragoman.core.errors import BadRequest
from dragoman.runtime.reach import URL_CHARS_MAX, Reach, literal, never


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook?key=1",
        "http://localhost:59999/v1/chat/completions",
        "http://127.0.0.1:9",
        "http://10.1.2.3/x",
        "http://[::1]:8080/",
        "http://[fd12::1]/",
        "http://192.168.0.1/",
    ],
)
def test_any_host_may_be_reached_unless_the_configuration_says_otherwise(url: str):
    assert Reach().check_url(url, field="url")


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.0.1",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "[fd00:ec2::254]",
        "[fd20:ce::254]",
        "[::ffff:169.254.169.254]",
        "[2002:a9fe:a9fe::]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::a9fe:a9fe]",
        "[2001:0:a9fe:a9fe::1]",
        "[::a9fe:a9fe]",
        "0.0.0.0",
        "[::]",
        "2852039166",
        "0xa9fea9fe",
        "0xa9.254.0251.254",
        "169.254.43518",
        "metadata.google.internal",
        "METADATA.google.internal.",
    ],
)
def test_where_clouds_keep_credentials_is_never_reached(host: str):
    with pytest.raises(BadRequest, match="never reach"):
        Reach().check_url(f"http://{host}/latest/meta-data", field="config.url")


def test_hosts_are_names_or_globs():
    reach = Reach(("*.example.com", "LOCALHOST", "10.0.0.*"))

    for host in ("a.example.com", "a.b.EXAMPLE.com", "localhost", "10.0.0.7", "a.example.com."):
        reach.check_host(host, field="url")
    for host in ("example.com", "example.com.evil.org", "10.0.1.7"):
        with pytest.raises(BadRequest) as caught:
            reach.check_host(host, field="url")
        assert (
            caught.value.detail == f"url: {host} is not one of the hosts that connectors may reach (connectors.hosts)."
        )


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com",
        "file:///etc/passwd",
        "http://",
        "http://a:99999/",
        "http://a b/",
        "http://[1/",
        "http://a\\@b/",
        "http://a\n/",
        "https://a/" + "x" * URL_CHARS_MAX,
    ],
)
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(BadRequest, match=r"^config\.url must be an address"):
        Reach().check_url(url, field="config.url")


def test_the_longest_address_is_taken():
    url = "https://a/"
    assert Reach().check_url(url + "x" * (URL_CHARS_MAX - len(url)), field="url") == "a"


def test_a_user_in_an_address_is_refused():
    with pytest.raises(BadRequest, match="put them into the secrets"):
        Reach().check_url("https://me:secret@example.com/", field="url")


def test_addresses_are_told_from_names():
    assert literal("example.com") is None
    assert str(literal("[::1]")) == "::1"
    assert never("no address at all")
    assert not never("10.0.0.1")


@pytest.mark.parametrize(
    "host", ["①⑥⑨.254.169.254", "169。254。169。254", "１.example", "ⓜetadata.goog", "%31.example", "a b", "é.example"]
)
def test_a_host_is_written_in_the_letters_that_go_over_the_wire(host: str):
    with pytest.raises(BadRequest, match="not the name of a host"):
        Reach().check_host(host, field="url")


def test_this_machine_is_reached_by_its_own_names():
    for host in ("localhost", "127.0.0.1", "::1", "[::1]", "xn--caf-dma.example", "under_score.example"):
        Reach().check_host(host, field="url")
