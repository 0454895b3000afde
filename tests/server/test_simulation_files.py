"""Files of simulations and of test profiles: what they may say, and how faults are told."""

import json
from typing import Any

import pytest

from dragoman.core.errors import BadRequest
from dragoman.core.simulations import Checks, ProfileDraft, Scenario, Simulation, Suite
from dragoman.server import simulation_files as limits
from dragoman.server.simulation_files import read_profile, read_suite

WHOLE = """
workflow = "support.json"
project = "shop"
[models]
user = "small"
judge = "main"
[profiles.ana]
context = "Ana ordered a lamp."
mock_tools = true
mock_prompt = "The order is late."
[scenarios.late]
description = "You wait for your order."
[simulations.refund]
description = "The usual."
scenario = "late"
profile = "ana"
pass_criteria = " It offers a refund. "
says = ["Where is my order?"]
turns = 7
[simulations.refund.checks]
contains = ["sorry"]
not_contains = ["no idea"]
last_agent = "Billing"
tools_called = ["get_order"]
tools_not_called = ["send_refund"]
replies_max = 0
[simulations.plain]
scenario = "late"
pass_criteria = "x"
"""
CHECKS = Checks(("sorry",), ("no idea",), "Billing", ("get_order",), ("send_refund",), 0)
SCENARIO = Scenario("late", "You wait for your order.")
SUITE = Suite(
    (
        Simulation("refund", SCENARIO, "ana", "It offers a refund.", CHECKS, ("Where is my order?",), 7, "The usual."),
        Simulation("plain", SCENARIO, pass_criteria="x"),
    ),
    (ProfileDraft("ana", "Ana ordered a lamp.", True, "The order is late."),),
    "support.json",
    "shop",
    "small",
    "main",
)


def as_json(**changes: Any) -> bytes:
    tree: dict[str, Any] = {
        "scenarios": {"late": {"name": "Late", "description": "You wait."}},
        "simulations": {"refund": {"scenario": "late", "passCriteria": "x"}},
    }
    return json.dumps(tree | changes).encode()


def simulation_of(**keys: Any) -> Simulation:
    (simulation,) = read_suite(as_json(simulations={"s": keys}), "f").simulations
    return simulation


def test_everything_a_file_may_say_is_read():
    assert read_suite(WHOLE.encode(), "suite.toml") == SUITE


def test_json_may_be_spelled_as_rowboat_spells_it_and_nulls_say_nothing():
    body = as_json(
        profiles={"bo": {"name": "Bo", "context": "Bo waits.", "mockTools": True, "mockPrompt": None}},
        simulations={"refund": {"scenario": "late", "profile": None, "passCriteria": "x", "description": None}},
    )
    suite = read_suite(b"\xef\xbb\xbf\n" + body, "suite.json")
    assert suite.profiles == (ProfileDraft("bo", "Bo waits.", True),)
    assert suite.simulations == (Simulation("refund", Scenario("late", "You wait."), pass_criteria="x"),)


@pytest.mark.parametrize(
    ("keys", "turns"),
    [
        ({"scenario": "late"}, 5),
        ({"scenario": "late", "says": ["a"]}, 5),
        ({"scenario": "late", "says": list("abcdefg")}, 7),
        ({"scenario": "late", "says": list("abc"), "turns": 2}, 2),
        ({"says": list("abc")}, 3),
        ({"says": list("abc"), "turns": 1}, 1),
        ({"says": ["a"] * 50}, 50),
        ({"scenario": "late", "turns": 50}, 50),
    ],
)
def test_how_many_turns_there_are_at_most(keys: dict[str, Any], turns: int):
    assert simulation_of(**keys, pass_criteria="x").turns == turns


@pytest.mark.parametrize(
    ("keys", "faults"),
    [
        ({"scenario": "lat", "pass_criteria": "x"}, ['scenario: there is no scenario lat; did you mean "late"?']),
        ({"pass_criteria": "x"}, [": needs a scenario: says tells what the user says in 0 turns, and no more"]),
        ({"says": ["a"], "turns": 2, "pass_criteria": "x"}, [": needs a scenario: says tells what the user says in 1"]),
        ({"scenario": "late"}, [": needs pass_criteria or checks: nothing says when it passes"]),
        ({"scenario": "late", "pass_criteria": "  ", "checks": {}}, [": needs pass_criteria or checks"]),
        ({"scenario": "late", "turns": 0, "passCriteria": "x"}, ["turns: is 0; it must be 1 to 50"]),
        ({"scenario": "late", "turns": 51, "passCriteria": "x"}, ["turns: is 51; it must be 1 to 50"]),
        ({"says": ["a", " "], "pass_criteria": "x"}, ["says.1: is empty"]),
        ({"says": ["a"] * 51, "pass_criteria": "x"}, ["says: has 51 messages; 50 at most"]),
        ({"says": ["a" * 10_001], "pass_criteria": "x" * 10_001}, ["pass_criteria: has 10001", "says.0: has 10001"]),
        ({"scenarios": "late", "turns": "5"}, ['scenarios: is not a key of [simulations.s]; did you mean "scenario"?']),
        ({"checks": {"contain": ["x"]}}, ["checks.contain: is not a key of [simulations.s.checks]; did you mean"]),
        ({"checks": {"contains": "x"}}, ["checks.contains: must be a list of texts"]),
        ({"checks": {"replies_max": -1}}, ["checks.replies_max: is -1; it must be 0 to 10000"]),
        ({"passCriteria": "x", "pass_criteria": "y"}, ["passCriteria: stands there as pass_criteria too"]),
    ],
)
def test_faults_are_named_by_their_place(keys: dict[str, Any], faults: list[str]):
    with pytest.raises(BadRequest) as error:
        simulation_of(**keys)
    assert error.value.detail.startswith("f: simulations.s")
    for fault in faults:
        assert f"simulations.s{'' if fault[0] == ':' else '.'}{fault}" in error.value.detail
    assert [fault.field.startswith("simulations.s") for fault in error.value.faults]


def test_all_faults_are_told_at_once():
    with pytest.raises(BadRequest) as error:
        read_suite(
            as_json(
                profiles={"bo": {"name": "n" * 201}},
                scenarios={"late": {"description": " "}},
                simulations={"a": {"scenario": "late"}, "b": {"scenario": "gone", "pass_criteria": "x"}},
            ),
            "suite.json",
        )
    assert [fault.field for fault in error.value.faults] == [
        "profiles.bo",
        "scenarios.late.description",
        "simulations.a",
        "simulations.b.scenario",
    ]
    assert error.value.detail.startswith("suite.json: profiles.bo: ")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"simulations": {}}, "simulations: is empty"),
        ({"simulations": []}, "simulations: is a table"),
        ({"simulations": {"a": 5}}, "simulations.a: is a table"),
        ({"simulations": {"a b": {"scenario": "late"}}}, '"a b" cannot be a name'),
        ({"workflows": "x"}, 'workflows: is not a key of the file; did you mean "workflow"?'),
        ({"models": {"users": "x"}}, 'models.users: is not a key of [models]; did you mean "user"?'),
        ({"scenarios": {"late": {}}}, "scenarios.late.description: is missing"),
    ],
)
def test_faults_of_the_file_as_a_whole(changes: dict[str, Any], fault: str):
    with pytest.raises(BadRequest) as error:
        read_suite(as_json(**changes), "f")
    assert fault in error.value.detail


@pytest.mark.parametrize("body", [b"", b"[scenarios]\n"])
def test_a_file_without_simulations_says_so(body: bytes):
    with pytest.raises(BadRequest, match=r"f: simulations: is missing"):
        read_suite(body, "f")


@pytest.mark.parametrize("body", [b"{", b"[1", b"no", b'{"a":' * 5000])
def test_what_is_neither_toml_nor_json_is_refused(body: bytes):
    with pytest.raises(BadRequest, match="f: is neither TOML nor JSON"):
        read_suite(body, "f")
    with pytest.raises(BadRequest, match="f: is neither TOML nor JSON"):
        read_profile(body, "f")


def test_another_encoding_is_refused_with_what_to_do():
    with pytest.raises(BadRequest, match=r"f: is not UTF-8 text \(byte 0\); save it in that encoding\."):
        read_suite("[simulations.a]".encode("utf-16"), "f")


def test_a_file_has_so_many_bytes_and_simulations(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "SIMULATIONS_MAX", 2)
    body = WHOLE.encode()
    monkeypatch.setattr(limits, "FILE_BYTES_MAX", len(body))
    assert read_suite(body, "f") == SUITE
    with pytest.raises(BadRequest, match=f"has {len(body) + 1} bytes"):
        read_suite(body + b"\n", "f")
    monkeypatch.setattr(limits, "SIMULATIONS_MAX", 1)
    with pytest.raises(BadRequest, match="simulations: has 2; 1 at most"):
        read_suite(body, "f")


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "Ana", "context": "Ana.", "mockTools": true, "mockPrompt": "Late."}',
        b'{"name": "Ana", "context": "Ana.", "mock_tools": true, "mock_prompt": "Late."}',
        b'name = "Ana"\ncontext = "Ana."\nmockTools = true\nmockPrompt = "Late."\n',
        b'{"_id": "x", "projectId": "p", "name": "Ana", "context": "Ana.", "mockTools": true, "mockPrompt": "Late.",'
        b' "createdAt": "2025", "lastUpdatedAt": "2025"}',
    ],
)
def test_a_profile_is_read_in_either_spelling_and_as_another_server_kept_it(body: bytes):
    assert read_profile(body, "f") == ProfileDraft("Ana", "Ana.", True, "Late.")


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"{}", "needs a name"),
        (b'{"name": 5}', "name: must be text"),
        (b'{"name": "a", "mockTool": true}', "mockTool: is not a key of the file"),
        (b'{"name": "a", "mockTools": "yes"}', "mock_tools: must be true or false"),
        (b'{"name": "a", "mockTools": true, "mock_tools": true}', "mockTools: stands there as mock_tools too"),
    ],
)
def test_faults_of_a_profile(body: bytes, fault: str):
    with pytest.raises(BadRequest) as error:
        read_profile(body, "f")
    assert error.value.detail.startswith("f: ") and fault in error.value.detail
