from typing import cast

from bench.load import Spread
from bench.rounds import Case, Meter, Sample, alternate, cases
from bench.targets import Target


class Recorder:
    """Stands in for a Meter: notes who was measured when, and says that the n-th measurement cost n seconds."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str, str]] = []

    def case(self, target: Target, case: Case, *, seconds: float, number: int) -> Sample:
        self.asked.append((number, case.key, target.name))
        return Sample(number, 10, 0, 0, 1.0, float(len(self.asked)), 0, 0, 0, 0, Spread(), Spread(), Spread())


def test_targets_take_turns_within_each_case_and_round() -> None:
    recorder, said = Recorder(), list[str]()
    targets = [Target(name, "http://127.0.0.1:1", 1) for name in ("relay", "dragoman", "extra")]
    chosen = [case for case in cases(pace_s=1.0) if case.key in ("blocking-1", "blocking-32")]
    samples = alternate(
        cast("Meter", recorder),
        targets,
        chosen,
        rounds=2,
        seconds=0.1,
        say=said.append,
        only=lambda target, case: target.name != "extra" or case.callers == 32,
    )
    one_round = [
        ("blocking-1", "relay"),
        ("blocking-1", "dragoman"),
        ("blocking-32", "relay"),
        ("blocking-32", "dragoman"),
        ("blocking-32", "extra"),
    ]
    assert recorder.asked == [(number, *who) for number in (1, 2) for who in one_round]
    assert {key: list(by_target) for key, by_target in samples.items()} == {
        "blocking-1": ["relay", "dragoman"],
        "blocking-32": ["relay", "dragoman", "extra"],
    }
    assert [sample.cpu_s for sample in samples["blocking-32"]["relay"]] == [3.0, 8.0]
    assert len(said) == 10


def test_every_case_has_a_name_of_its_own_and_the_budget_of_its_kind() -> None:
    by_key = {case.key: case for case in cases(pace_s=5.0)}
    assert {key: case.budget for key, case in by_key.items()} == {
        "blocking-1": 1.5,
        "blocking-32": 1.5,
        "streamed-1": 0.0,
        "streamed-32": 0.0,
        "burst-1": 2.0,
        "burst-32": 2.0,
        "pace-32": 2.0,
    }
    assert by_key["pace-32"].words == 250


def test_cost_is_per_request_or_per_delta_of_the_upstream() -> None:
    sample = Sample(1, 10, 500, 100, 2.0, 0.5, 0, 0, 0, 0, Spread(), Spread(), Spread())
    assert sample.cpu_ms("request") == 50.0
    assert sample.cpu_ms("delta") == 1.0
    assert sample.per_s == 5.0
