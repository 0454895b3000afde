"""What holds for every installed dialect. Names none: a new folder under `dialects/` is tested from its first day."""

import inspect
import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dragoman.core import errors
from dragoman.core.errors import DragomanError, FieldFault
from dragoman.core.events import Entry, TurnReceived
from dragoman.core.messages import said
from dragoman.core.names import RunId
from dragoman.core.operations import FollowConversation, Operation, Started, StartTurn
from dragoman.dialects import installed
from dragoman.edge.house import HOUSE
from dragoman.wire.dialect import Dialect, Encoder, Request, Route
from tests.histories import History, ends, histories
from tests.reading import meaning_of, reader_of

DIALECTS = installed()
TABLE = [(dialect, route) for dialect in DIALECTS for route in dialect.routes]
"""As it stands: a path with forks is one route."""
ROUTES = [(dialect, branch) for dialect, route in TABLE for branch in tuple(route.forks.values()) or (route,)]
"""What answers: of a path with forks each branch."""
BRANCHES = {id(branch): name for _, route in TABLE for name, branch in route.forks.items()}


def different(rows: list[tuple[Dialect, Route[Any]]]) -> list[tuple[Dialect, Route[Any]]]:
    """Rows that a dialect mounts under several paths are tested once."""
    found = {
        (dialect.name, route.decode, route.collect, route.stream and route.stream.encoder): (dialect, route)
        for dialect, route in reversed(rows)
    }
    return list(reversed(found.values()))


STREAMS = different([(dialect, route) for dialect, route in ROUTES if route.stream is not None])
COLLECTS = different([(dialect, route) for dialect, route in ROUTES if route.collect is not None])
HOUSE_STREAMS = [(HOUSE, route) for route in HOUSE.routes if route.stream is not None]

INTERNAL = "s3cret-internal-text"

SAMPLES: tuple[DragomanError, ...] = (
    DragomanError("It broke.", internal=INTERNAL),
    errors.BadRequest("a: is wrong", faults=[FieldFault("a", "is wrong")], internal=INTERNAL),
    errors.TooLarge("Too large.", bytes_max=10),
    errors.NotAuthenticated("Who are you?", internal=INTERNAL),
    errors.NotAllowed("Not yours.", internal=INTERNAL),
    *(
        errors.NotFound(f"There is no such {what}.", what=what, internal=INTERNAL)
        for what in ("route", "conversation", "run", "tool", "model", "agent", "project", "credential")
    ),
    errors.WrongMethod("Not so.", allowed=["GET", "POST"]),
    errors.Conflict("Not now.", internal=INTERNAL),
    errors.KeyReused("That key is taken.", internal=INTERNAL),
    errors.StillRunning("Not yet.", retry_after_s=0.2),
    errors.Expired("Gone.", internal=INTERNAL),
    *(
        errors.LimitReached("Wait.", limit=limit, retry_after_s=seconds)
        for limit in ("per_ip_rpm", "per_credential_rpm", "queue_per_conversation", "readers_per_conversation")
        for seconds in (0.0, 0.2, 61.0)
    ),
    errors.NotOffered("Not done here.", internal=INTERNAL),
    errors.Unavailable("Later.", code="storage_full", internal=INTERNAL),
    errors.BackendFailed("The model failed.", code="upstream_refused", internal=INTERNAL),
    errors.ToolFailed("The tool failed.", internal=INTERNAL),
)


def request(route: Route[Any], **changes: Any) -> Request:
    given_: dict[str, Any] = {
        "method": route.method,
        "path": route.path,
        "params": {name: "x" for name in params_of(route)},
        "query": {},
        "headers": {"content-type": "application/json"},
        "body": b"{}",
        "id": "abcdef012345",
        "nonce": "0123456789abcdef" * 2,
        "at": 1_700_000_000.0,
    }
    return Request(**(given_ | changes))


def asked(dialect: Dialect, route: Route[Any]) -> Request:
    """A request that means this route, if it is a branch."""
    branch = BRANCHES.get(id(route))
    return request(route) if branch is None else request(route, **meaning_of(dialect.name, branch))


def params_of(route: Route[Any]) -> list[str]:
    return [name.partition(":")[0] for _, name, _, _ in string.Formatter().parse(_as_format(route.path)) if name]


def _as_format(path: str) -> str:
    return path.replace(":path}", "}")


def label(value: object) -> str:
    if isinstance(value, Dialect):
        return value.name
    return f"{value.method} {value.path}" if isinstance(value, Route) else repr(value)


def encoder_of(route: Route[Any]) -> Encoder:
    assert route.stream is not None
    return route.stream.encoder(None)


def follows_a_conversation(route: Route[Any]) -> bool:
    """Such a stream goes over many runs: its reader ends it, and not the encoder."""
    try:
        return isinstance(route.decode(request(route)), FollowConversation)
    except DragomanError:
        return False


def opened(route: Route[Any], history: History, *, head: int = 0) -> tuple[Started, tuple[Entry, ...]]:
    """What an encoder of this route is told at first, and the entries that it is given. Who follows a conversation is
    given its turns from their beginning, and those up to `head` stood there before."""
    started = history.started
    if not follows_a_conversation(route):
        return started, history.entries
    received = Entry(started.seq, started.run, history.entries[0].at, TurnReceived((said("user", "how is it?"),)))
    return replace(started, run=RunId(""), seq=started.seq - 1, created=False, head=head), (received, *history.entries)


def encode(
    route: Route[Any], history: History, *, batches: tuple[int, ...] = (), head: int = 0
) -> tuple[bytes, Encoder]:
    """Everything one reader of this history is sent, which comes in batches of these sizes, and then the rest."""
    encoder = encoder_of(route)
    started, entries = opened(route, history, head=head)
    data = encoder.opened(started)
    for size in (*batches, len(entries)):
        batch, entries = entries[:size], entries[size:]
        for entry in batch:
            before = encoder.closed
            frames = encoder.entry(entry)
            assert not (before and frames), "a frame after the last one"
            data += frames
        if batch and not encoder.closed:
            data += encoder.held()
            assert encoder.closed or encoder.held() == b"", "what was held back is said once"
    return data, encoder


# -- the table -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dialect", "route"), ROUTES, ids=label)
def test_a_route_has_exactly_one_way_to_answer(dialect: Dialect, route: Route[Any]) -> None:
    ways = [route.answer, route.accept, route.collect, route.stream]
    assert sum(way is not None for way in ways) == 1
    assert route.summary
    assert not route.open or route.answer is not None  # nobody has said who asks: no run, no reader


@pytest.mark.parametrize(("dialect", "route"), TABLE, ids=label)
def test_branches_are_of_the_path_they_stand_under_and_have_none_of_their_own(
    dialect: Dialect, route: Route[Any]
) -> None:
    assert bool(route.forks) == (route.choose is not None)
    if route.forks:
        assert [route.answer, route.accept, route.collect, route.stream] == [None] * 4
        assert route.summary
    for branch in route.forks.values():
        assert (branch.method, branch.path, branch.open) == (route.method, route.path, route.open)
        assert (branch.forks, branch.choose, branch.ticket) == ({}, None, "")


@pytest.mark.parametrize(("dialect", "route"), TABLE, ids=label)
def test_each_branch_is_meant_by_a_request_and_understands_it(dialect: Dialect, route: Route[Any]) -> None:
    for name, branch in route.forks.items():
        meaning = asked(dialect, branch)
        assert route.choose is not None and route.choose(meaning) == name
        assert isinstance(branch.decode(meaning), Operation)


@pytest.mark.parametrize(("dialect", "route"), TABLE, ids=label)
def test_a_ticket_is_for_a_stream_and_for_a_conversation_that_its_path_names(
    dialect: Dialect, route: Route[Any]
) -> None:
    if route.ticket:
        assert route.stream is not None and not route.open
        assert route.ticket_for in params_of(route)
    else:
        assert route.ticket_for == ""


@pytest.mark.parametrize(("dialect", "route"), [*STREAMS, *HOUSE_STREAMS], ids=label)
def test_no_proxy_is_to_hold_a_stream_back(dialect: Dialect, route: Route[Any]) -> None:
    assert route.stream is not None
    assert ("x-accel-buffering", "no") in route.stream.headers


@pytest.mark.parametrize("dialect", DIALECTS, ids=label)
def test_no_two_routes_of_a_dialect_have_the_same_method_and_path(dialect: Dialect) -> None:
    rows = [(route.method, route.path) for route in dialect.routes]
    assert sorted(set(rows)) == sorted(rows)


@pytest.mark.parametrize("dialect", DIALECTS, ids=label)
def test_an_example_of_the_documentation_is_understood(dialect: Dialect) -> None:
    for example in dialect.examples:
        found = [
            (route, params)
            for route in dialect.routes
            if route.method == example.method and (params := match(route, example.path)) is not None
        ]
        assert found, f"no route answers {example.method} {example.path}"
        route, params = found[0]
        body = b"" if example.body is None else json.dumps(example.body).encode()
        headers = {"content-type": "application/json"} | dict(example.headers)
        operation = understood(route, request(route, params=params, body=body, headers=headers))
        assert isinstance(operation, Operation)
        assert not isinstance(operation, StartTurn) or operation.origin  # message ids are told apart by it
        assert example.expect


def match(route: Route[Any], path: str) -> dict[str, str] | None:
    """The path's parameters, or None if the route does not answer it."""
    params: dict[str, str] = {}
    given_ = path.partition("?")[0].split("/")
    for want in route.path.split("/"):
        if not given_ or (not want.startswith("{") and want != given_[0]):
            return None
        if want.endswith(":path}"):
            params[want[1:-6]] = "/".join(given_)
            return params
        have = given_.pop(0)
        if want.startswith("{"):
            params[want[1:-1]] = have
    return None if given_ else params


# -- streams -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dialect", "route"), STREAMS, ids=label)
@given(history=histories())
def test_any_legal_history_is_encoded_and_the_reader_is_told_of_its_end(
    dialect: Dialect, route: Route[Any], history: History
) -> None:
    data, encoder = encode(route, history)
    assert encoder.closed or follows_a_conversation(route)
    reading = reader_of(dialect.name)(route.path, data)
    assert reading.ended
    assert reading.left_open == ()


@pytest.mark.parametrize(("dialect", "route"), STREAMS, ids=label)
@given(history=histories())
def test_the_pieces_of_a_stream_make_up_the_answer_that_a_waiting_caller_gets(
    dialect: Dialect, route: Route[Any], history: History
) -> None:
    data, _ = encode(route, history)
    reading = reader_of(dialect.name)(route.path, data)
    if history.completed and not reading.failed:
        assert reading.text == history.text
    if history.completed and not history.was_reset:
        assert not reading.failed


@pytest.mark.parametrize(("dialect", "route"), STREAMS, ids=label)
@given(history=histories(), batches=st.lists(st.integers(1, 5), max_size=12).map(tuple), head=st.integers(0, 80))
def test_however_entries_come_together_a_reader_ends_with_the_same(
    dialect: Dialect, route: Route[Any], history: History, batches: tuple[int, ...], head: int
) -> None:
    """An encoder may hold back what more of is at hand; it never says less than it got."""
    read = reader_of(dialect.name)
    at_once, _ = encode(route, history)
    in_batches, encoder = encode(route, history, batches=batches, head=min(head, history.entries[-1].seq))
    assert encoder.closed or follows_a_conversation(route)
    assert read(route.path, in_batches) == read(route.path, at_once)


@pytest.mark.parametrize(("dialect", "route"), STREAMS, ids=label)
@given(history=histories(), cut=st.integers(0, 60))
def test_a_stream_that_cannot_go_on_says_so_and_is_over(
    dialect: Dialect, route: Route[Any], history: History, cut: int
) -> None:
    encoder = encoder_of(route)
    started, entries = opened(route, history)
    data = encoder.opened(started)
    for entry in entries[: min(cut, len(entries) - 1)]:
        data += encoder.entry(entry)
    if encoder.closed:
        return
    data += encoder.held()
    data += encoder.failed(errors.Unavailable("The server is stopping.", internal=INTERNAL))
    assert encoder.closed
    reading = reader_of(dialect.name)(route.path, data)
    assert (reading.ended, reading.failed, reading.left_open) == (True, True, ())
    assert INTERNAL.encode() not in data
    assert encoder.entry(history.entries[-1]) == b""


@pytest.mark.parametrize(("dialect", "route"), STREAMS, ids=label)
@given(history=histories())
def test_a_life_sign_changes_nothing_for_the_reader(dialect: Dialect, route: Route[Any], history: History) -> None:
    quiet, _ = encode(route, history)
    encoder = encoder_of(route)
    started, entries = opened(route, history)
    lively = encoder.opened(started) + encoder.silence()
    for entry in entries:
        lively += encoder.entry(entry)
        if not encoder.closed:
            lively += encoder.held() + encoder.silence()
    read = reader_of(dialect.name)
    assert read(route.path, lively) == read(route.path, quiet)


# -- waiting callers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dialect", "route"), COLLECTS, ids=label)
@given(history=histories())
def test_every_outcome_has_a_reply_and_only_a_run_that_went_wrong_has_an_error(
    dialect: Dialect, route: Route[Any], history: History
) -> None:
    assert route.collect is not None
    reply = route.collect(history.outcome, asked(dialect, route))
    assert 200 <= reply.status < 600
    if history.completed:
        assert reply.status < 300


@pytest.mark.parametrize(("dialect", "route"), COLLECTS, ids=label)
@given(history=histories(), end=ends())
def test_every_kind_of_end_is_answered(dialect: Dialect, route: Route[Any], history: History, end: Any) -> None:
    assert route.collect is not None
    outcome = history.outcome
    reply = route.collect(
        type(outcome)(outcome.started, end, outcome.text, outcome.replies, outcome.calls, outcome.usage),
        asked(dialect, route),
    )
    assert 200 <= reply.status < 600


# -- requests ------------------------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
)
bodies = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=60).map(str.encode),
    st.sampled_from(
        [b"", b"[" * 5000, b'{"a":' * 3000, b'{"a":"\\ud800"}', b'"\xff"', b"\x1f\x8b\x08", b"1" * 6000, b"NaN"]
    ),
)
media_types = st.sampled_from(["application/json", "application/json; charset=utf-8", "text/plain", "", "é"])


def understood(route: Route[Any], asked: Request) -> Operation[Any]:
    branch = route if route.choose is None else route.forks[route.choose(asked)]
    return branch.decode(asked)


def decode_or_refuse(route: Route[Any], asked: Request) -> None:
    try:
        operation = understood(route, asked)
    except DragomanError as error:
        assert error.detail  # a refusal says something
    else:
        assert isinstance(operation, Operation)


@pytest.mark.parametrize("dialect", DIALECTS, ids=label)
@given(data=st.data())
def test_no_bytes_crash_a_decoder(dialect: Dialect, data: st.DataObject) -> None:
    route = data.draw(st.sampled_from(dialect.routes))
    params = {name: data.draw(st.text(min_size=1, max_size=200)) for name in params_of(route)}
    query = data.draw(st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3))
    headers = {"content-type": data.draw(media_types), "x-other": data.draw(st.text(max_size=9))}
    body = data.draw(bodies)
    decode_or_refuse(route, request(route, params=params, query=query, headers=headers, body=body))


@pytest.mark.parametrize("dialect", DIALECTS, ids=label)
@given(data=st.data())
def test_no_json_crashes_a_decoder(dialect: Dialect, data: st.DataObject) -> None:
    """Documented bodies with some members replaced reach further than anything random."""
    route = data.draw(st.sampled_from([route for route in dialect.routes if route.method != "GET"]))
    known = [example.body for example in dialect.examples if isinstance(example.body, dict)]
    body = dict(data.draw(st.sampled_from(known))) if known else {}
    names = st.sampled_from(sorted(body)) if body else st.text(max_size=9)
    for _ in range(data.draw(st.integers(0, 2))):
        body[data.draw(names | st.text(max_size=9))] = data.draw(values)
    decode_or_refuse(route, request(route, body=json.dumps(data.draw(st.just(body) | values)).encode()))


@pytest.mark.parametrize("dialect", DIALECTS, ids=label)
@given(headers=st.dictionaries(st.sampled_from(["authorization", "cookie", "x-api-key"]), st.text(max_size=40)))
def test_no_header_crashes_the_search_for_a_credential(dialect: Dialect, headers: dict[str, str]) -> None:
    try:
        assert dialect.credential(headers)
    except errors.NotAuthenticated as error:
        assert error.detail


# -- errors --------------------------------------------------------------------------------------------------------


def test_there_is_a_sample_of_every_kind_of_error() -> None:
    kinds = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, DragomanError)}
    assert {type(sample) for sample in SAMPLES} == kinds


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: f"{type(error).__name__} {error.detail}")
@pytest.mark.parametrize("dialect", DIALECTS, ids=label)
def test_every_error_has_a_status_of_its_own_kind_and_leaks_nothing(dialect: Dialect, error: DragomanError) -> None:
    for asked in (None, *(request(route) for route in dialect.routes)):
        reply = dialect.fail(error, asked)
        assert 400 <= reply.status < 600
        assert INTERNAL.encode() not in reply.body
        assert all(INTERNAL not in value for _, value in reply.headers)
        assert all(name == name.lower() and value.isascii() for name, value in reply.headers)


@pytest.mark.parametrize(
    ("error", "status", "waits"),
    [
        (errors.KeyReused("That key is taken."), 422, False),
        (errors.StillRunning("Not yet.", retry_after_s=1.2), 409, True),
        (errors.Expired("Gone."), 410, False),
    ],
    ids=["another request", "still running", "gone"],
)
@pytest.mark.parametrize("dialect", (*DIALECTS, HOUSE), ids=label)
def test_a_repeated_request_is_refused_alike_everywhere(
    dialect: Dialect, error: DragomanError, status: int, waits: bool
) -> None:
    """Clients of a key know these statuses, and not this wire (draft-ietf-httpapi-idempotency-key-header-07, 2.7)."""
    reply = dialect.fail(error, None)
    assert (reply.status, dict(reply.headers).get("retry-after")) == (status, "2" if waits else None)


@pytest.mark.parametrize("dialect", DIALECTS, ids=label)
def test_an_unexpected_error_says_nothing_of_itself(dialect: Dialect) -> None:
    assert b"It broke" not in dialect.fail(DragomanError("It broke.", internal=INTERNAL), None).body
