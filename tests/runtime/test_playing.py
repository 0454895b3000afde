"""What the models of a simulation are told, and how their answers are read."""

import json

import pytest

from dragoman.core.simulations import Line, Scenario, Simulation, Verdict
from dragoman.runtime import playing
from dragoman.runtime.playing import ENDED, NO_JUDGE, Judged, asked_again, judge_prompt, read_verdict, user_prompt

LATE = Simulation("late", Scenario("late", "You wait for a lamp."), pass_criteria="It says sorry.")
SAID = (
    Line("user", "Where is it?"),
    Line("handed", "Billing", "Front Desk"),
    Line("tool", "lost", "get_order", "{}"),
    Line("agent", "On its way.", "Billing"),
)


def test_who_plays_the_user_is_told_the_scenario_and_the_profile_and_begins():
    prompt = user_prompt(LATE, "Name: Ana.", ())
    system, begin = prompt.messages
    assert "You wait for a lamp." in system.text and "Name: Ana." in system.text and ENDED in system.text
    assert (system.role, begin.role, prompt.plain) == ("system", "user", "You wait for a lamp.")
    assert "What is true of you" not in user_prompt(LATE, "", ()).messages[0].text


def test_who_plays_the_user_sees_the_conversation_from_that_side_and_nothing_behind_the_scenes():
    prompt = user_prompt(LATE, "", SAID)
    assert [(message.role, message.text) for message in prompt.messages[2:]] == [
        ("assistant", "Where is it?"),
        ("user", "On its way."),
    ]
    assert prompt.plain == ENDED


def test_the_judge_is_told_the_criteria_and_the_transcript():
    prompt = judge_prompt("It says sorry.", SAID)
    system, asked = prompt.messages
    assert "verdict" in system.text and "no instruction" in system.text
    assert "It says sorry." in asked.text and "[get_order {} gave: lost]\nBilling: On its way." in asked.text


def test_a_stand_in_gives_no_verdict():
    judged = read_verdict(judge_prompt("x", ()).plain)
    assert judged == Judged(Verdict.ERROR, NO_JUDGE)
    assert read_verdict(asked_again(judge_prompt("x", ()), "?").plain) == judged


def test_a_long_transcript_is_judged_by_its_ends(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(playing, "JUDGED_CHARS_MAX", 40)
    whole = judge_prompt("x", (Line("user", "a" * 34),)).messages[1].text
    assert f"User: {'a' * 34}\n" in whole
    cut = judge_prompt("x", (Line("user", "a" * 30 + "b" * 30),)).messages[1].text
    assert f"User: {'a' * 14}\n[… left out …]\n{'b' * 20}\n" in cut


@pytest.mark.parametrize(
    ("answer", "judged"),
    [
        ('{"verdict": "pass", "details": "All well."}', Judged(Verdict.PASS, "All well.")),
        ('Here:\n```json\n{"verdict": "FAIL ", "details": " no "}\n```', Judged(Verdict.FAIL, "no")),
        ('{"details": "", "verdict": "pass"} I hope.', Judged(Verdict.PASS, "")),
        ('{"verdict": "pass"}', Judged(Verdict.PASS, "")),
        ('{"verdict": "fail", "details": ["a", "b"]}', Judged(Verdict.FAIL, '["a", "b"]')),
        ('Maybe {"verdict": "pass"}? No. {"verdict": "fail", "details": "rude"}', Judged(Verdict.FAIL, "rude")),
        ('{ not json {"verdict": "fail"}', Judged(Verdict.FAIL, "")),
        ('{"verdict": "fail", "details": "half \\ud800"}', Judged(Verdict.FAIL, "half ?")),
        ("pass", None),
        ("", None),
        ('{"verdict": "maybe"}', None),
        ('{"verdict": true}', None),
        ('{"verdict": "none", "details": "of my own accord"}', None),
        ("{" * 5000, None),
        ('{"a":' * 3000, None),
    ],
)
def test_a_verdict_is_found_in_what_models_write(answer: str, judged: Judged | None):
    assert read_verdict(answer) == judged


def test_details_are_bounded_and_an_answer_is_looked_at_from_its_end():
    long = read_verdict(json.dumps({"verdict": "pass", "details": "d" * 3000}))
    assert long is not None and long.details == "d" * playing.DETAILS_CHARS_MAX
    verdict = '{"verdict": "fail"}'
    padding = " " * (playing.VERDICT_CHARS_MAX - len(verdict))
    assert read_verdict(verdict + padding) == Judged(Verdict.FAIL, "")
    assert read_verdict(verdict + padding + " ") is None


def test_a_judge_is_asked_again_with_what_it_said():
    prompt = asked_again(judge_prompt("x", ()), "Well done!")
    assert [(message.role, message.text) for message in prompt.messages[2:3]] == [("assistant", "Well done!")]
    assert "no verdict" in prompt.messages[3].text
    assert asked_again(judge_prompt("x", ()), "").messages[2].text == "(nothing)"
