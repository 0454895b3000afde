"""What this process has done since it started. Plain numbers; the edge shows them."""

from dragoman.core.messages import Usage

FAILED = "tool_failed"
OUTCOMES = (FAILED, "ok", "bad_arguments", "denied", "missing", "outcome_unknown", "timeout", "unknown_tool")
"""What comes of a call; a code that a tool has for itself counts as FAILED, so that there are never more series."""


class Counters:
    def __init__(self) -> None:
        self.runs = 0
        self.workflow_runs = 0
        """Those of `runs` that a workflow answered."""
        self.handovers = 0
        self.replies = 0
        self.tool_calls = 0
        self.errors = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.recovered = 0
        self.replies_abandoned = 0
        """Model replies that were closed before their end, because nobody waited for them any more."""
        self.replies_unasked = 0
        """What model servers sent after a reply had ended; thrown away with its connection."""
        self.repeats_by_key = 0
        """Requests that were told by their key to be repeats, and began nothing."""
        self.repeats_in_window = 0
        """The same without a key: a client library's own retries."""
        self.tool_outcomes: dict[tuple[str, str], int] = {}
        """Calls that turns made of tools, by what ran them (`tool_ports.StagedCall.ran_by`) and what came of it."""

    def replied(self, usage: Usage) -> None:
        self.replies += 1
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens

    def tool_returned(self, ran_by: str, code: str, *, is_error: bool) -> None:
        outcome = (code if code in OUTCOMES else FAILED) if is_error else "ok"
        self.tool_calls += 1
        self.tool_outcomes[ran_by, outcome] = self.tool_outcomes.get((ran_by, outcome), 0) + 1

    def all(self) -> dict[str, int]:
        """The plain ones, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, int)}
