import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.models.openai_faults import EXCERPT_CHARS_MAX, EXCERPT_READ_MAX, Faults
from tests.support import FixedClock

# The moment of RFC 9110's example date, "Sun, 06 Nov 1994 08:49:37 GMT".
SUNDAY = 784111777.0


def faults(*secrets: str, at: float = SUNDAY) -> Faults:
    return Faults(secrets=secrets, clock=FixedClock(at))


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (302, "upstream_refused", False),
        (400, "upstream_refused", False),
        (401, "upstream_refused", False),
        (403, "upstream_refused", False),
        (404, "upstream_refused", False),
        (413, "upstream_refused", False),
        (422, "upstream_refused", False),
        (408, "upstream_failed", True),
        (409, "upstream_failed", True),
        (429, "upstream_limited", True),
        (500, "upstream_failed", True),
        (502, "upstream_failed", True),
        (503, "upstream_failed", True),
        (504, "upstream_failed", True),
        (529, "upstream_failed", True),
    ],
)
def test_a_status_says_whose_move_it_is(status: int, code: str, retryable: bool) -> None:
    error = faults().status(status, "", b"why")
    assert (error.code, error.retryable, error.internal) == (code, retryable, f"status {status}: why")
    assert "why" not in error.detail


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", None),
        ("0", 0.0),
        ("3", 3.0),
        ("1.5", 1.5),
        ("120", 120.0),
        ("-5", 0.0),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
        ("Sun, 06 Nov 1994 08:49:47 -0000", 10.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("Sun, 99 Nov 1994 08:00:00 GMT", None),
        ("Sun, 06 Nov 99999999999 08:00:00 GMT", None),
        ("Sun, 06 Nov 1994 08:49:47 +99999999999", None),
        ("1e400", None),
        ("9" * 400, None),
        ("3, 7", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_garbage_counts_for_nothing(header: str, seconds: float | None) -> None:
    assert faults().retry_after_s(header) == seconds
    assert faults().status(429, header, b"").retry_after_s == seconds


@given(st.text(max_size=40) | st.from_regex(r"(?a)\A\w{3}, \d{1,12} \w{3} \d{1,12} \d+:\d+(:\d+)? [+-]?\w+\Z"))
def test_no_advice_to_wait_does_any_harm(header: str) -> None:
    seconds = faults().retry_after_s(header)
    assert seconds is None or seconds >= 0.0


def test_the_advice_to_wait_is_told_in_whole_seconds() -> None:
    assert faults().status(429, "2.2", b"").detail == "The model server is asked too often. Try again in 3 s."


def test_waiting_does_not_help_an_account_without_credit() -> None:
    error = faults().status(429, "1", b'{"error":{"code":"insufficient_quota"}}')
    assert (error.code, error.retryable) == ("upstream_limited", False)
    assert error.detail == "The account at the model server has no credit left. Check its plan and billing."


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        ("boom", "upstream_failed", True),
        ({"message": "boom"}, "upstream_failed", True),
        ({"message": "boom", "code": "server_error"}, "upstream_failed", True),
        ({"message": "boom", "code": 503}, "upstream_failed", True),
        ({"message": "boom", "code": 400}, "upstream_refused", False),
        ({"message": "boom", "code": 429}, "upstream_limited", True),
        ({"message": "boom", "code": 7}, "upstream_failed", True),
    ],
)
def test_an_error_inside_a_good_reply_is_a_failure(error: object, code: str, retryable: bool) -> None:
    made = faults().reported(error, b"said")
    assert (made.code, made.retryable) == (code, retryable)


def test_an_excerpt_is_bounded_after_secrets_were_blotted_out() -> None:
    said = b"x" * (EXCERPT_CHARS_MAX - 5) + b"secret-key" + b"y" * 100
    assert faults("secret-key").excerpt(said) == "x" * (EXCERPT_CHARS_MAX - 5) + "[secr"


def test_secrets_are_blotted_out_in_their_json_spelling_too_and_longest_first() -> None:
    assert faults('key"quoted', "abcdef", "abcdefgh").excerpt(r"a key\"quoted b abcdefgh c abcdef") == (
        "a [secret] b [secret] c [secret]"
    )


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ("Bearer tok-12345", "tok-12345"),
        ("ApiKey tok-12345", "tok-12345"),
        ("session=tok-12345; theme=dark", "tok-12345"),
        ("Basic " + base64.b64encode(b"ops:hunter2!").decode(), "hunter2!"),
        ("Basic " + base64.b64encode(b"ops:hunter2!").decode(), "ops:hunter2!"),
        ("a/b+c=d&<e>'\"", "a%2Fb%2Bc%3Dd%26%3Ce%3E%27%22"),
        ("a/b+c=d&<e>'\"", "a/b+c=d&amp;&lt;e&gt;&#x27;&quot;"),
        ("a/b+c=d&<e>'\"", json.dumps("a/b+c=d&<e>'\"").replace("/", "\\/")[1:-1]),
        ("schlüssel-9", r"schl\u00fcssel-9"),
    ],
)
def test_a_secret_is_found_in_what_servers_make_of_it(header: str, shown: str) -> None:
    assert faults(header).excerpt(f"You sent {shown}.") == "You sent [secret]."


def test_a_title_of_several_words_is_no_credential() -> None:
    assert faults("Our assistant").excerpt("The assistant of Our assistant") == "The assistant of [secret]"


@pytest.mark.parametrize("cut", range(6, 10))
def test_a_secret_that_the_text_breaks_off_in_is_blotted_out(cut: int) -> None:
    assert faults("secret-key").excerpt("you sent " + "secret-key"[:cut]) == "you sent [secret]"
    assert faults("secret-key").excerpt("you sent secre") == "you sent secre"


def test_no_part_of_a_long_secret_is_shown_wherever_we_stop_to_read() -> None:
    secret = "".join(chr(ord("a") + at % 26) for at in range(3000))
    for lead in range(EXCERPT_READ_MAX - 5 * 3000 - 40, EXCERPT_READ_MAX - 5 * 3000 + 40, 7):
        said = ("x" * (lead % 100) + secret * 6 + "y" * lead).encode()
        assert "abcdef" not in faults(secret).excerpt(said)
        assert "uvwxyz" not in faults(secret).excerpt(said)


def test_the_words_of_a_server_are_one_line_without_commands_to_a_terminal() -> None:
    said = "no\r\n2026-01-01 ERROR all is lost\x1b[2J\x9b31m\u2028end\0"
    assert faults().excerpt(said) == "no 2026-01-01 ERROR all is lost [2J 31m end "


def test_values_too_short_to_be_secrets_leave_the_text_alone() -> None:
    assert faults("", "a", "on").excerpt("a lamp is on") == "a lamp is on"


def test_an_excerpt_of_bytes_that_are_no_text_is_still_text() -> None:
    assert faults().excerpt(b"\xff\xfe") == "\N{REPLACEMENT CHARACTER}" * 2


def test_every_fault_tells_a_person_what_to_do_and_hides_what_the_server_said() -> None:
    make = faults("secret-key")
    made = [
        make.unreachable("ECONNREFUSED secret-key"),
        make.idle("The model took too long to answer (60 s without a byte). Ask again."),
        make.endless("The model took too long to answer (over 600 s in all). Ask for less at once."),
        make.truncated("no finish_reason secret-key"),
        make.too_long("answer", most=10, unit="characters"),
        make.malformed("bad secret-key", b"secret-key"),
        make.no_chat("html secret-key", b"secret-key"),
        make.reported("x", b"secret-key"),
        *(make.status(status, "", b"secret-key") for status in (302, 401, 404, 413, 422, 429, 500)),
    ]
    assert [error for error in made if "secret-key" in str(error)] == []
    assert [error.detail for error in made if not error.detail.endswith((".", ")"))] == []
    assert not make.endless("").retryable
    assert {error.code: error.retryable for error in (*made[:2], *made[3:6])} == {
        "upstream_unreachable": True,
        "upstream_idle": True,
        "upstream_truncated": True,
        "upstream_too_long": False,
        "upstream_malformed": True,
    }
