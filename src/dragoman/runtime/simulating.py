"""Simulations: somebody plays a user, the workflow answers as it answers everybody, and what it did is judged.

    the user says something ──► a turn, with all that was said so far ──► what it answered ──┐
          ▲                                                                                  │
          └──────────────────────── until the user is done, or `turns` are taken ◄───────────┘
                                                                                             ▼
                           checks that do not hold? fail ◄── checks ──► the judge: pass, fail, or it cannot be told

Each turn is stateless and leaves nothing on a disk, as a turn of the chat API that the wire was first documented with
(rowboat spec 1.1): the caller brings the history and says who spoke last.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from dragoman.core import events as ev
from dragoman.core.errors import DragomanError, NotFound
from dragoman.core.messages import Message, Usage, said
from dragoman.core.names import Clock, ConversationId, ProjectId
from dragoman.core.operations import Outcome, StartTurn
from dragoman.core.simulations import (
    Line,
    Simulation,
    SimulationResult,
    SimulationRun,
    Status,
    Suite,
    Verdict,
    echoed,
    failed_checks,
    lines_of,
)
from dragoman.core.workflows import WorkflowWanted
from dragoman.runtime.asking import Asking, check_known
from dragoman.runtime.playing import ENDED, Judged, asked_again, judge_prompt, read_verdict, user_prompt
from dragoman.runtime.ports import Models, Prompt
from dragoman.runtime.simulation_runs import SimulationRuns
from dragoman.runtime.test_profiles import TestProfiles

logger = logging.getLogger("dragoman.runtime")

ORIGIN = "simulation"
CONCURRENCY = 4
LENT_S = 24 * 3600.0
"""How long the profiles of a suite are there, counted from when it is begun."""
BEAT_S = 10.0
"""How often a run is written while it is at work."""

Take = Callable[[StartTurn], Awaitable[Outcome]]
"""Has a turn taken, and waits for its end. Raises errors of the tree."""
Told = Callable[[SimulationResult], None]


class Played(Struct, frozen=True):
    """A test profile as it is used: its id, and what is known of the user."""

    id: str = ""
    context: str = ""


class Simulator:
    """`new_id` gives 24 hex digits."""

    def __init__(
        self,
        take: Take,
        models: Models,
        profiles: TestProfiles,
        runs: SimulationRuns,
        clock: Clock,
        *,
        new_id: Callable[[], str],
    ) -> None:
        self._take = take
        self._models = models
        self._profiles = profiles
        self._runs = runs
        self._clock = clock
        self._new_id = new_id

    async def run(
        self,
        project: ProjectId,
        suite: Suite,
        *,
        name: str,
        workflow: str,
        stop: asyncio.Event,
        told: Told,
        attempts: int = 1,
        concurrency: int = CONCURRENCY,
    ) -> SimulationRun:
        """Simulate all of the suite, each simulation `attempts` times, `concurrency` at once, with the workflow of that
        id. `told` hears of each result as it comes; once `stop` is set, what is not done is given up.

        Raises NotFound (a model, a test profile), BadRequest, Unavailable before anything was simulated.
        """
        now = self._clock.now()
        planned = len(suite.simulations) * attempts
        run = SimulationRun(self._new_id(), name, workflow, Status.PENDING, planned, now)
        await self._runs.make_room(project)
        await self._runs.keep(project, run)
        try:
            for model in (suite.user_model, suite.judge_model):
                if model:
                    await check_known(self._models, project, model)
            played = await self._profiles_of(project, suite)
            run = replace(run, status=Status.RUNNING)

            async def simulate(at: int, attempt: int) -> SimulationResult:
                simulation = suite.simulations[at]
                return await self.simulate(
                    project, suite, simulation, attempt, played[simulation.profile], workflow=workflow
                )

            running = _Running(run, simulate, partial(self._keep, project), told)
            status = await running.through(len(suite.simulations), attempts, concurrency=concurrency, stop=stop)
        except Exception as error:
            detail = error.detail if isinstance(error, DragomanError) else "It broke for a reason that is ours."
            failed = replace(run, status=Status.ERROR, completed_at=self._clock.now(), detail=detail)
            await self._keep(project, failed)
            raise
        done = replace(running.so_far, status=status, completed_at=self._clock.now())
        await self._keep(project, done)
        return done

    async def _keep(self, project: ProjectId, run: SimulationRun) -> None:
        """Simulating goes on also if it cannot be written down."""
        try:
            await self._runs.keep(project, run)
        except DragomanError as error:
            logger.warning("simulation run %s could not be written: %s", run.id, error)

    async def _profiles_of(self, project: ProjectId, suite: Suite) -> Mapping[str, Played]:
        """All that simulations name, by what they call them. Raises NotFound, BadRequest."""
        played = {"": Played()}
        until = self._clock.now() + LENT_S
        for draft in suite.profiles:
            lent = await self._profiles.lend(project, draft, until=until)
            played[draft.name] = Played(lent.id, lent.context)
        for wanted in {simulation.profile for simulation in suite.simulations} - played.keys():
            profile = await self._profiles.get(project, wanted)
            if profile is None:
                raise NotFound(f"There is no test profile {wanted[:100]}.", what="test_profile")
            played[wanted] = Played(profile.id, profile.context)
        return played

    # -- one simulation --------------------------------------------------------------------------------------------

    async def simulate(
        self, project: ProjectId, suite: Suite, simulation: Simulation, attempt: int, played: Played, *, workflow: str
    ) -> SimulationResult:
        """What goes wrong is a result too. Raises nothing but for cancellation and faults of ours."""
        began = self._clock.monotonic()
        talk = _Talk(self._take, f"{ORIGIN}:{self._new_id()}", workflow, played.id)
        try:
            await self._converse(project, suite, simulation, played, talk)
            judged = talk.broken or await self._judged(project, suite, simulation, talk.lines)
        except DragomanError as error:
            judged = Judged(Verdict.ERROR, error.detail)
        return SimulationResult(
            simulation.name,
            attempt,
            judged.verdict,
            judged.details,
            tuple(talk.lines),
            self._clock.monotonic() - began,
            talk.usage,
        )

    async def _converse(
        self, project: ProjectId, suite: Suite, simulation: Simulation, played: Played, talk: "_Talk"
    ) -> None:
        ask = Asking(self._models, project, suite.user_model)
        for number in range(simulation.turns):
            if number < len(simulation.says):
                text, ended = simulation.says[number], ""
            else:
                text, ended, _ = (await _answer(ask, user_prompt(simulation, played.context, talk.lines))).partition(
                    ENDED
                )
                text = text.strip()
            if ended and not text and talk.lines:
                return
            if not await talk.say(text) or ended:
                return

    async def _judged(self, project: ProjectId, suite: Suite, simulation: Simulation, lines: Sequence[Line]) -> Judged:
        if faults := failed_checks(simulation.checks, lines):
            return Judged(Verdict.FAIL, " ".join(faults))
        if not simulation.pass_criteria:
            return Judged(Verdict.PASS, "All checks hold.")
        ask = Asking(self._models, project, suite.judge_model)
        prompt = judge_prompt(simulation.pass_criteria, lines)
        answer = await _answer(ask, prompt)
        judged = read_verdict(answer)
        if judged is None:
            judged = read_verdict(await _answer(ask, asked_again(prompt, answer)))
        return judged or Judged(Verdict.ERROR, "The judge gave no verdict that can be read, also when asked again.")


async def _answer(ask: Asking, prompt: Prompt) -> str:
    """Raises BackendFailed, NotFound."""
    done = await ask(prompt.messages, plain=prompt.plain)
    return done.text.strip()


class _Talk:
    """One conversation, as its caller has it."""

    def __init__(self, take: Take, name: str, workflow: str, profile: str) -> None:
        self._take = take
        self._name = name
        self._workflow = workflow
        self._profile = profile
        self._turns = 0
        self._history: list[Message] = []
        self._last = ""
        self.lines: list[Line] = []
        self.usage = Usage()
        self.broken: Judged | None = None
        """Why it cannot go on."""

    async def say(self, text: str) -> bool:
        """Have a turn taken; False if the conversation is broken now. Raises errors of the tree."""
        if not text:
            self.broken = Judged(Verdict.ERROR, "The model that plays the user said nothing.")
            return False
        self._turns += 1
        self.lines.append(Line("user", text))
        self._history.append(said("user", text))
        outcome = await self._take(
            StartTurn(
                ConversationId(f"{self._name}:{self._turns}"),
                tuple(self._history),
                deltas=False,
                ephemeral=True,
                origin=ORIGIN,
                workflow=WorkflowWanted(self._workflow, self._profile, self._last),
            )
        )
        self.usage += outcome.usage
        self.lines += lines_of(outcome.answered)
        self._history += echoed(outcome.answered)
        self._last = next((each.name for each in reversed(outcome.answered) if each.role == "assistant"), "")
        if not isinstance(outcome.end, ev.RunCompleted):
            why = outcome.end.detail if isinstance(outcome.end, ev.RunFailed) else "The run was stopped."
            self.broken = Judged(Verdict.ERROR, f"Turn {self._turns} was not answered: {why}")
        return self.broken is None


class _Running:
    """A suite at work."""

    def __init__(
        self,
        run: SimulationRun,
        simulate: Callable[[int, int], Awaitable[SimulationResult]],
        keep: Callable[[SimulationRun], Awaitable[None]],
        told: Told,
    ) -> None:
        self._run = run
        self._simulate = simulate
        self._keep = keep
        self._told = told
        self._results: dict[tuple[int, int], SimulationResult] = {}
        """By the simulation's place and the attempt."""

    @property
    def so_far(self) -> SimulationRun:
        return replace(self._run, results=tuple(self._results[key] for key in sorted(self._results)))

    async def through(self, simulations: int, attempts: int, *, concurrency: int, stop: asyncio.Event) -> Status:
        places = asyncio.Semaphore(concurrency)
        planned = [(at, attempt) for at in range(simulations) for attempt in range(1, attempts + 1)]
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat(over := asyncio.Event()))
            work = [group.create_task(self._one(places, at, attempt)) for at, attempt in planned]
            stopping = group.create_task(_cancel_when(stop, work))
            await asyncio.wait(work)
            over.set()
            stopping.cancel()
        return Status.COMPLETED if len(self._results) == len(planned) else Status.CANCELLED

    async def _one(self, places: asyncio.Semaphore, at: int, attempt: int) -> None:
        async with places:
            result = await self._simulate(at, attempt)
        self._results[at, attempt] = result
        self._told(result)

    async def _beat(self, over: asyncio.Event) -> None:
        """It is not cancelled: a write that was cut off may still be on its way, and land behind the last one."""
        while not over.is_set():
            await self._keep(self.so_far)
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), BEAT_S)


async def _cancel_when(stop: asyncio.Event, work: Sequence[asyncio.Task[None]]) -> None:
    await stop.wait()
    for task in work:
        task.cancel()
