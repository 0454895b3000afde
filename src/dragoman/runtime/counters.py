"""What this process has done since it started. Plain numbers; the edge shows them."""

from dragoman.core.messages import Usage


class Counters:
    def __init__(self) -> None:
        self.runs = 0
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

    def replied(self, usage: Usage) -> None:
        self.replies += 1
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens

    def all(self) -> dict[str, int]:
        return dict(vars(self))
