"""One simulation of upstream's `simulation_runner`, unmodified, told as one JSON: the verdict, why, and who said what.

rowboat_simulation.py URL PROJECT KEY WORKFLOW PROFILE
"""

import asyncio
import json
import sys
from datetime import UTC, datetime
from typing import Any

import rowboat
from scenario_types import TestScenario
from simulation import simulate_simulation

AT = datetime(2025, 4, 10, tzinfo=UTC)
TURNS = 2


def main(url: str, project: str, key: str, workflow: str, profile: str) -> dict[str, Any]:
    scenario = TestScenario(
        id="1",
        projectId=project,
        name="Charged twice",
        description="You were charged twice for order HO-10442.",
        createdAt=AT,
        lastUpdatedAt=AT,
    )
    verdict, details, transcript = asyncio.run(
        simulate_simulation(
            scenario=scenario,
            profile_id=profile,
            pass_criteria="The order is looked up.",
            rowboat_client=rowboat.Client(url, project, key),
            workflow_id=workflow,
            max_iterations=TURNS,
        )
    )
    return {"verdict": verdict, "details": details, "transcript": json.loads(transcript)}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
