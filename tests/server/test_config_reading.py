"""Reading a tree by types: values, faults with their key path, secrets."""

from datetime import date
from math import inf
from typing import Annotated

import pytest
from msgspec import Meta, Struct, field

from dragoman.server.config_reading import FromEnvironment, Reader, variable
from dragoman.server.config_shapes import Seconds, Secret


class Inner(Struct, frozen=True):
    wait_s: Seconds = field(default=Seconds(1), name="wait")


class Left(Struct, frozen=True, tag="left", tag_field="kind"):
    url: str


class Right(Struct, frozen=True, tag="right", tag_field="kind"):
    on: bool = False


class Shape(Struct, frozen=True):
    name: str = "n"
    count: Annotated[int, Meta(ge=0, le=10)] = 1
    share: float = 0.5
    on: bool = False
    names: tuple[str, ...] = ()
    key: Secret = Secret("")
    headers: dict[str, Secret] = field(default_factory=dict[str, Secret])
    inner: Inner = Inner()
    sides: dict[str, Left | Right] = field(default_factory=dict[str, Left | Right])
    params: dict[str, object] = field(default_factory=dict[str, object])


def read(tree: object, *, env: dict[str, str] | None = None, resolve: bool = True) -> tuple[object, list[str], Reader]:
    reader = Reader(
        env or {}, resolve_secrets=resolve, refused_kinds={"sides": {"up": "up is not part of this version"}}
    )
    value = reader.read(tree, Shape, "")
    return value, list(reader.faults), reader


def test_an_empty_tree_gives_the_defaults():
    assert read({})[:2] == (Shape(), [])


def test_every_type_is_read():
    tree = {
        "name": "x",
        "count": 10,
        "share": 2,
        "on": True,
        "names": ["a", "b"],
        "key": "k",
        "headers": {"X-Team": "t"},
        "inner": {"wait": "2m"},
        "sides": {"a": {"kind": "left", "url": "u"}, "b": {"kind": "right"}},
        "params": {"t": 0.2, "n": 1, "on": True, "stop": ["é", ""], "deep": {"a": [{"b": -1}], "$ref x": 1}},
    }
    value, faults, reader = read(tree)

    assert faults == []
    assert value == Shape(
        "x",
        10,
        2.0,
        True,
        ("a", "b"),
        Secret("k"),
        {"X-Team": Secret("t")},
        Inner(Seconds(120)),
        {"a": Left("u"), "b": Right()},
        {"t": 0.2, "n": 1, "on": True, "stop": ["é", ""], "deep": {"a": [{"b": -1}], "$ref x": 1}},
    )
    assert reader.literal_secrets == ["key", "headers.X-Team"]


def test_text_from_the_environment_is_read_by_the_type_it_meets():
    tree = {
        "count": FromEnvironment("7"),
        "share": FromEnvironment("0.25"),
        "on": FromEnvironment("True"),
        "names": FromEnvironment("a, b,"),
        "key": FromEnvironment("k"),
        "inner": {"wait": FromEnvironment("3s")},
    }
    value, faults, reader = read(tree)

    assert faults == []
    assert value == Shape(count=7, share=0.25, on=True, names=("a", "b"), key=Secret("k"), inner=Inner(Seconds(3)))
    assert reader.literal_secrets == []


@pytest.mark.parametrize(
    ("tree", "fault"),
    [
        ({"nam": "x"}, 'nam: is not a key of the file; did you mean "name"?'),
        ({"inner": {"wait_s": "1s"}}, 'inner.wait_s: is not a key of [inner]; did you mean "wait"?'),
        ({"inner": {"zzz": 1}}, "inner.zzz: is not a key of [inner]; known are: wait"),
        ({"name": 3}, "name: must be text in quotes, not a number"),
        ({"name": "x" * 200_001}, "name: has 200001 characters; 200000 at most"),
        (
            {"name": "${HOME}"},
            "name: ${HOME} stands only in secrets (key, headers); override this key with DRAGOMAN_NAME",
        ),
        ({"count": "7"}, 'count: must be a whole number, not the text "7"'),
        ({"count": 7.5}, "count: must be a whole number, not a number"),
        ({"count": True}, "count: must be a whole number, not true or false"),
        ({"count": 11}, "count: is 11; it must be 0 to 10"),
        ({"count": -1}, "count: is -1; it must be 0 to 10"),
        ({"count": FromEnvironment("many")}, 'count: must be a whole number, not the text "many"'),
        ({"share": [1]}, "share: must be a number, not a list"),
        ({"on": "yes"}, 'on: must be true or false, not the text "yes"'),
        ({"on": FromEnvironment("yes")}, 'on: must be true or false, not the text "yes"'),
        ({"names": "a"}, 'names: must be a list of texts, such as ["a", "b"], not the text "a"'),
        ({"names": ["a", 1]}, "names: must be only texts, not a number"),
        ({"key": 5}, "key: must be text in quotes, not a number"),
        ({"key": "${NOT_SET}"}, "key: the environment variable NOT_SET is not set"),
        ({"key": "a\nb"}, "key: holds characters that cannot stand in a header, perhaps a line end"),
        ({"headers": {"X Team": "t"}}, 'headers: "X Team" cannot be the name of a header'),
        ({"params": 5}, "params: is a table; write [params] and its keys below"),
        ({"params": {"since": date(2026, 1, 1)}}, "params.since: must be something JSON can say, not a date or time"),
        ({"params": {"a": {"b": [1, inf]}}}, "params.a.b: must be something JSON can say, not a number"),
        ({"params": {"user": "${HOME}"}}, "params.user: ${HOME} stands only in secrets (key, headers)"),
        ({"inner": "fast"}, "inner: is a table; write [inner] and its keys below"),
        (
            {"inner": {"wait": "soon"}},
            'inner.wait: "soon" is not a duration; write a number with its unit: 500ms, 5s, 10m, 12h or 90d',
        ),
        (
            {"inner": {"wait": 5}},
            'inner.wait: must be a duration with its unit, such as "5s" or "10m", not a number',
        ),
        ({"sides": {"a": {"kind": "left"}}}, "sides.a.url: is missing"),
        ({"sides": {"a": {}}}, "sides.a.kind: is missing; known kinds are: left, right"),
        ({"sides": {"a": {"kind": "lefd"}}}, 'sides.a.kind: there is no kind "lefd"; did you mean "left"?'),
        ({"sides": {"a": {"kind": "up"}}}, "sides.a.kind: up is not part of this version"),
        (
            {"sides": {"a": {"kind": "right", "url": "u"}}},
            "sides.a.url: is not a key of [sides.a]; known are: on, kind",
        ),
        (
            {"sides": {"a b": {"kind": "right"}}},
            'sides: "a b" cannot be a name: letters, digits, ".", "_" and "-", 64 at most',
        ),
    ],
)
def test_a_fault_names_the_key_and_what_to_do(tree: dict[str, object], fault: str):
    assert read(tree)[1] == [fault]


def test_all_faults_are_said_at_once():
    assert read({"name": 1, "count": 99, "inner": {"x": 1}})[1] == [
        "name: must be text in quotes, not a number",
        "count: is 99; it must be 0 to 10",
        "inner.x: is not a key of [inner]; known are: wait",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "changeme", "CHANGE-ME", "change_me", "<your key>", "your-api-key", "YOUR_TOKEN", "my secret", "sk-xxxx",
        "sk-...", "xxxxxxxx", "***", "replace-me", "insert key here", "TODO", "placeholder", "password", "secret",
        "drg_xxx",
    ],
)  # fmt: skip
def test_a_placeholder_is_no_secret_in_the_file_or_in_the_environment(text: str):
    fault = "key: is a placeholder; put the real secret into the environment and write ${NAME}"

    assert read({"key": text})[1] == [fault]
    assert read({"key": "${KEY}"}, env={"KEY": text})[1] == [fault]


@pytest.mark.parametrize(
    "text", ["none", "EMPTY", "ollama", "sk-no-key-required", "dummy", "lm-studio", "sk-proj-a8s7", ""]
)
def test_what_local_servers_take_for_a_key_is_fine(text: str):
    value, faults, _ = read({"key": text})
    assert (value, faults) == (Shape(key=Secret(text)), [])


def test_a_secret_is_put_together_from_the_environment_and_is_not_literal():
    value, faults, reader = read({"headers": {"Authorization": "Basic ${USER_PASS}"}}, env={"USER_PASS": "dTpw"})

    assert (value, faults) == (Shape(headers={"Authorization": Secret("Basic dTpw")}), [])
    assert reader.literal_secrets == []


def test_secrets_may_be_left_unresolved():
    value, faults, _ = read({"key": "${NOT_SET}"}, resolve=False)
    assert (value, faults) == (Shape(key=Secret("${NOT_SET}")), [])


def test_a_secret_does_not_show_itself():
    assert "hush" not in repr(Shape(key=Secret("hush"), headers={"a": Secret("hush")}))


def test_a_variable_is_named_after_its_key():
    assert variable("limits.run.same_call") == "DRAGOMAN_LIMITS_RUN_SAME_CALL"
    assert variable("models.my-model.url") == "DRAGOMAN_MODELS_MY_MODEL_URL"
