"""Budgets of a run: replies, LLM tokens, wall time, the same call again and again. Pure."""

from msgspec import Struct

from dragoman.core.events import RunFailed
from dragoman.core.messages import Usage


class Budget(Struct, frozen=True):
    """What one run may spend; 0 = unlimited. Config: `[limits] run = {steps, wall, llm_tokens, same_call}`.

    Wall time counts from the first claim. It stands still while the run only waits for somebody outside, and between
    attempts (`run_state.PAUSES_FORGIVEN`).
    """

    steps: int = 25
    wall_s: float = 600.0
    llm_tokens: int = 0
    same_call: int = 5


class WallTime:
    """The wall time that a run has taken, from entry to entry.

    Each moment is said by two clocks: `at` is the wall's, as the tape has it, and may jump; `tick` is one of this
    process that never goes back, None for what the tape tells of other processes. As long as a process drives the run
    its ticks count, so that no jump spends the run's time or gives it any.
    """

    def __init__(self) -> None:
        self._spent_s = 0.0
        self._at = 0.0
        self._tick: float | None = None

    def take_up(self, tick: float) -> None:
        """All of the tape was read, and this process goes on from there."""
        self._tick = tick

    def goes_on(self, at: float, tick: float | None, *, counts: bool) -> None:
        """To the next entry."""
        if counts:
            self._spent_s = self.by(at, tick)
        self._at, self._tick = at, tick

    def by(self, at: float, tick: float | None) -> float:
        """Taken so far, if all since the last entry counts."""
        since_s = at - self._at if tick is None or self._tick is None else tick - self._tick
        return self._spent_s + max(since_s, 0.0)


def overrun(
    budget: Budget, *, replies: int, usage: Usage, elapsed_s: float, tool: str, repeats: int
) -> RunFailed | None:
    """The end of a run that has spent a budget, else None. Asked before each further step, so a budget of 25 replies
    allows 25; `tool` was called `repeats` times with the very same arguments."""
    if budget.steps and replies >= budget.steps:
        return RunFailed("step_limit", f"The assistant stopped after {replies} steps without an answer.", usage)
    if budget.same_call and repeats > budget.same_call:
        return RunFailed(
            "repeated_call", f"The assistant called {tool} {repeats} times with the same arguments.", usage
        )
    if budget.llm_tokens and usage.total_tokens >= budget.llm_tokens:
        return RunFailed("token_limit", f"The run used its {budget.llm_tokens} LLM tokens.", usage)
    if budget.wall_s and elapsed_s >= budget.wall_s:
        return RunFailed("time_limit", f"The run took longer than its {budget.wall_s:g} s.", usage)
    return None
