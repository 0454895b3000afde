"""What a turn of a workflow costs on Rowboat's wire, beside a blocking chat with a single agent on the same server."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from bench.figures import Figure
from bench.load import Job
from bench.rounds import WORDS, Meter, Say
from bench.targets import ROOT, Failed, Target, start_dragoman

CALLERS = 32
HISTORY = 100
"""Messages that a caller sends back with its question."""
STEPS = 3
"""Of the pipeline."""
AGENTS = 100
"""Of the large workflow, each of which may hand over to all others."""
IMPORT_S = 30.0
PATH = "/api/v1/default/chat"

Json = dict[str, Any]


class Ask(Struct, frozen=True, kw_only=True):
    """One way of asking. `workflow` is one of `documents`; `said` = texts of WORDS words that the answer holds."""

    key: str
    title: str
    workflow: str = "single"
    kept: bool = False
    history: int = 0
    said: int = 1


ASKS = (
    Ask(key="stateless", title="stateless turn of one agent"),
    Ask(key="kept", title="the same, kept by the server", kept=True),
    Ask(key="history", title=f"stateless turn after {HISTORY} messages", history=HISTORY),
    Ask(key="hand-over", title="turn with a hand-over", workflow="handing"),
    Ask(key="pipeline", title=f"turn with a pipeline of {STEPS} steps", workflow="piping", said=STEPS + 1),
    Ask(key="large", title=f"turn with a hand-over among {AGENTS} agents", workflow="large"),
)


def documents() -> dict[str, Json]:
    """The workflows, by name, as Rowboat exports them. `TRANSFER<…>` in instructions is for the upstream."""
    steps = [f"step{number}" for number in range(STEPS)]
    many = [f"agent{number}" for number in range(AGENTS)]
    mentions = {name: " ".join(f"[@agent:{other}](#mention)" for other in many if other != name) for name in many}
    return {
        "single": _document([_agent("desk", "You answer.")]),
        "handing": _document(
            [_agent("desk", "TRANSFER<clerk> [@agent:clerk](#mention)"), _agent("clerk", "You answer.")]
        ),
        "piping": _document(
            [
                _agent("desk", "TRANSFER<intake>"),
                *(_agent(step, "You do your part.", type="pipeline", outputVisibility="internal") for step in steps),
            ],
            [{"name": "intake", "description": "Does it all.", "agents": steps}],
        ),
        "large": _document(
            [_agent(name, (f"TRANSFER<{many[-1]}> " if name == many[0] else "") + mentions[name]) for name in many]
        ),
    }


def _agent(name: str, instructions: str, **more: object) -> Json:
    return {
        "name": name,
        "type": "conversation",
        "description": f"Knows what {name} knows.",
        "instructions": instructions,
        "model": "",
        "outputVisibility": "user_facing",
        "controlType": "retain",
        **more,
    }


def _document(agents: list[Json], pipelines: Sequence[Json] = ()) -> Json:
    return {
        "agents": agents,
        "prompts": [],
        "tools": [],
        "pipelines": list(pipelines),
        "startAgent": agents[0]["name"],
        "lastUpdatedAt": "2026-01-01T00:00:00.000Z",
    }


def body_of(ask: Ask, version: str) -> str:
    """The request, with `@id@` for the load generator to fill in."""
    question = {"role": "user", "content": f"Question @id@: say WORDS{WORDS}."}
    if ask.kept:
        return json.dumps({"messages": [question], "conversationId": None, "workflowId": version})
    answer = {"role": "assistant", "content": "So it is.", "agenticSender": "desk", "agenticResponseType": "external"}
    told = [{"role": "user", "content": "How is it, and why?"}, answer] * (ask.history // 2)
    return json.dumps({"messages": [*told, question], "state": None, "workflowId": version})


def workflows(upstream: str, scratch: Path, meter: Meter, *, rounds: int, seconds: float, say: Say) -> list[Figure]:
    """CPU per turn at CALLERS callers, each way of asking once a round, after a chat of Grip's."""
    target = start_dragoman(upstream, scratch, "workflows")
    try:
        versions = {name: _imported(scratch, name, document) for name, document in documents().items()}
        costs: dict[str, list[float]] = {"chat": [], **{ask.key: [] for ask in ASKS}}
        for number in range(1, rounds + 1):
            costs["chat"].append(_cost(target, meter, _chat(target, meter, seconds)))
            for ask in ASKS:
                job = replace(
                    _chat(target, meter, seconds),
                    path=PATH,
                    body=body_of(ask, versions[ask.workflow]),
                    words=WORDS * ask.said,
                )
                costs[ask.key].append(_cost(target, meter, job))
            spent = ", ".join(f"{key} {values[-1]:.3f}" for key, values in costs.items())
            say(f"round {number}/{rounds}  workflows, ms CPU: {spent}")
    finally:
        target.stop()
    titles = {"chat": "blocking chat of one agent", **{ask.key: ask.title for ask in ASKS}}
    return [Figure(f"workflow-{key}", f"{titles[key]}, CPU", "ms", tuple(values)) for key, values in costs.items()]


def _chat(target: Target, meter: Meter, seconds: float) -> Job:
    return target.job(WORDS, series=meter.series(), callers=CALLERS, streamed=False, seconds=seconds, warm=2)


def _cost(target: Target, meter: Meter, job: Job) -> float:
    return meter.sample(target, job, words=WORDS).cpu_ms("request")


def _imported(scratch: Path, name: str, document: Json) -> str:
    """Id of the version. Raises Failed."""
    home = scratch / "workflows"
    command = ["--home", str(home), "--config", str(home / "dragoman.toml"), "workflows", "import", "--json", "-"]
    done = subprocess.run(
        [sys.executable, "-m", "dragoman", *command],
        input=json.dumps(document).encode(),
        capture_output=True,
        timeout=IMPORT_S,
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        raise Failed(f"The workflow {name} was not imported: {done.stderr.decode(errors='replace').strip()}")
    version: str = json.loads(done.stdout)["id"]
    return version
