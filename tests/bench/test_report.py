import json

from bench import report
from bench.figures import Figure
from bench.load import Spread
from bench.measure import Installed, Machine
from bench.rounds import Case, Sample

MACHINE = Machine(2, "A Processor", "6.1", "3.11.7", {"dragoman": "0.1.0"}, "/scratch (ext4)", 0.25)
BLOCKING = Case(group="blocking", title="blocking chat", callers=32, words=50, streamed=False, budget=1.5)
BURST = Case(group="burst", title="burst", callers=1, words=500, streamed=True, per="delta", budget=2.0)


def sample(cpu_s: float, *, deltas: int = 0, others_cpu_s: float = 0.0, load_cpu_s: float = 0.1) -> Sample:
    return Sample(
        round=1,
        responses=100,
        deltas=deltas,
        frames=deltas // 2,
        wall_s=1.0,
        cpu_s=cpu_s,
        kernel_s=cpu_s / 4,
        upstream_cpu_s=0.1,
        load_cpu_s=load_cpu_s,
        others_cpu_s=others_cpu_s,
        latency=Spread(1.0, 2.0),
        first_frame=Spread(0.5, 1.0),
        gap=Spread(0.1, 0.2),
    )


def made(
    samples: dict[str, dict[str, list[Sample]]],
    *cases: Case,
    figures: tuple[Figure, ...] = (),
    core: Installed | None = None,
    asks_per_chat: dict[str, float] | None = None,
) -> report.Report:
    return report.Report(
        MACHINE, 3, "relay", "dragoman", cases, samples, figures, core, {} if asks_per_chat is None else asks_per_chat
    )


def test_a_ratio_is_taken_inside_each_round() -> None:
    found = made(
        {
            "blocking-32": {
                "relay": [sample(0.1), sample(0.2), sample(0.4)],
                "dragoman": [sample(0.14), sample(0.26), sample(0.64)],
                "upstream": [sample(0.1)],
            }
        },
        BLOCKING,
    )
    (ratio,) = found.ratios
    assert [round(value, 3) for value in ratio.values] == [1.4, 1.3, 1.6]
    assert round(ratio.median, 3) == 1.4
    assert (ratio.target, ratio.relay_ms, ratio.target_ms, ratio.budget) == ("dragoman", 2.0, 2.6, 1.5)
    assert not ratio.over
    assert found.over == []


def test_a_missed_budget_is_named_and_only_for_the_target_it_is_for() -> None:
    by_target = {name: [sample(cpu_s, deltas=1000)] for name, cpu_s in (("relay", 0.1), ("dragoman", 0.3), ("grip", 3))}
    found = made(
        {"burst-1": by_target},
        BURST,
        figures=(
            Figure("rss", "resident", "MiB", (95.0, 91.0, 80.0), 90.0),
            Figure("size", "size", "MB", (50.0,), 60.0),
            Figure("python", "an empty Python", "s", (9.0,)),
        ),
    )
    assert found.over == ["burst: 3.00 times the relay", "resident: 91.00 MiB"]
    assert [(ratio.target, ratio.over) for ratio in found.ratios] == [("dragoman", True), ("grip", False)]
    said = report.text(found)
    assert "300.0 µs/Δ   3.00 (3.00–3.00)     ≤ 2  OVER" in said
    assert "0.50" in said  # two words came as one text
    assert "Cautions" not in said


def test_what_makes_figures_worth_less_is_said() -> None:
    noisy = {"relay": [sample(0.1, others_cpu_s=0.5)], "dragoman": [sample(0.1, load_cpu_s=0.95)]}
    found = made(
        {"blocking-32": noisy},
        BLOCKING,
        core=Installed({"a": 3_000_000, "b": 1_000_000}, ("c",)),
        figures=(Figure("size", "core install", "MB", (4.0,), 60.0),),
        asks_per_chat={"relay": 1.0, "dragoman": 2.0},
    )
    said = report.text(found)
    assert "other processes took more than 15% of a core in 1 of 2 measurements (median 25%, most 50%)" in said
    assert "blocking chat, dragoman: the load generator was busy 95% of the time" in said
    assert "dragoman asked the LLM 2 times for one chat" in said
    assert "not installed here, so not counted: c" in said
    assert "largest: a 3.0 MB, b 1.0 MB" in said


def test_the_json_holds_every_sample_and_the_spread_of_every_ratio() -> None:
    samples = {"blocking-32": {"relay": [sample(0.1), sample(0.1)], "dragoman": [sample(0.2), sample(0.3)]}}
    written = json.loads(report.to_json(made(samples, BLOCKING, figures=(Figure("f", "F", "s", (2.0, 1.0)),))))
    (ratio,) = written["ratios"]
    assert (ratio["min"], ratio["median"], ratio["max"], ratio["budget"]) == (2.0, 2.5, 3.0, 1.5)
    assert [one["cpu_s"] for one in written["samples"]["blocking-32"]["dragoman"]] == [0.2, 0.3]
    assert written["over"] == ["blocking chat: 2.50 times the relay"]
    assert written["figures"][0]["median"] == 1.5
    assert written["machine"]["cores"] == 2


def test_a_run_without_chats_prints_no_empty_table() -> None:
    assert report.text(made({})).splitlines()[-1].startswith("database on /scratch (ext4)")
