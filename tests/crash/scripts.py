"""What a turn is to bring about, carried in the user's message itself, so that everybody can work it out alone: the
upstream that plays the model, the tools, the clients, and the checker afterwards. Pure.

    crash {"token":"c3.7","steps":[["look"],["count_once","count_again"]],"words":6,"gap_ms":4}

Reply 1 calls the tools of step 1, and so on; the reply after the last step says `words` words and ends the turn.
"""

import hashlib
import random

import msgspec
from msgspec import Struct

PREFIX = "crash "
TOOLS = ("look", "count_once", "count_again")
ASKED = "count_asked"
"""Takes effect once, like `count_once`, and only once somebody has approved it."""
LOCAL = "local"
"""A tool of the client, for whose result the run waits."""
ACTION = "act"
"""A tool of the client whose call ends the turn: another one brings the result, and goes on from there."""
OPENING = "context"
"""What a turn in Elastic's loop calls of its own accord, unseen by the model."""


HAND = ":"
"""Before the name of an agent or a pipeline: a step's call that asks for a hand-over to it."""
TRANSFER = "transfer_to_agent"
NOBODY = "Nobody"
"""A hand-over to whom is refused."""


def answer_to(call: str) -> str:
    """What a client brings as the result of a call of `LOCAL`."""
    return f"mine of {call}"


class Script(Struct, frozen=True, omit_defaults=True):
    token: str
    """Names the turn; no two have the same."""
    canary: str = ""
    """A word that belongs to one project and must never be seen in another."""
    steps: tuple[tuple[str, ...], ...] = ()
    words: int = 4
    gap_ms: int = 0
    """Between two words of a streamed reply."""
    first_ms: int = 0
    """Before the first byte of each reply."""
    tool_ms: int = 0
    """A tool's effect comes at once, its answer after this."""
    fault: str = ""
    """The first time the last reply is asked for: cut = it breaks off in its middle; refuse = 503."""
    vary: bool = False
    """The words tell how many times this reply was asked for: no two attempts say the same."""

    @property
    def replies(self) -> int:
        return len(self.steps) + 1

    @property
    def acts(self) -> bool:
        """Its first reply is for the client to act on; it takes two turns."""
        return ACTION in self.steps[0] if self.steps else False

    def message(self) -> str:
        return PREFIX + msgspec.json.encode(self).decode()

    def text(self, reply: int, asked: int = 1) -> str:
        """What the `reply`-th reply (from 1) says when it is asked for the `asked`-th time."""
        said = f"{self.token}/{reply}" + (f"/try{asked}" if self.vary else "")
        words = self.words if reply == self.replies else min(self.words, 2)
        return " ".join([said, *(f"w{number}" for number in range(words)), self.canary]).rstrip()

    def calls(self, reply: int) -> list[tuple[str, str]]:
        """The (tool, arguments as JSON) of a reply, in order."""
        if reply >= self.replies:
            return []
        return [self._call(tool, f"{reply}.{at}") for at, tool in enumerate(self.steps[reply - 1], start=1)]

    def _call(self, tool: str, place: str) -> tuple[str, str]:
        if tool.startswith(HAND):
            return TRANSFER, msgspec.json.encode({"assistant": tool.removeprefix(HAND)}).decode()
        return tool, msgspec.json.encode({"token": self.token, "place": place, "ms": self.tool_ms}).decode()

    def completion_tokens(self, reply: int) -> int:
        return len(self.text(reply).split()) + 5 * len(self.calls(reply))


def again(token: str) -> str:
    """The name of the turn that brings what its client did for another one."""
    return f"{token}/2"


def title_of(token: str) -> str:
    """The title that the model gives a conversation which that turn began."""
    return f"About {token}"


def read_script(message: str) -> Script | None:
    """The script a message carries; None if it carries none."""
    if not message.startswith(PREFIX):
        return None
    try:
        return msgspec.json.decode(message.removeprefix(PREFIX), type=Script)
    except msgspec.DecodeError:
        return None


def hash_of(arguments: str) -> str:
    return hashlib.sha256(arguments.encode()).hexdigest()[:16]


def draw(rng: random.Random, token: str, canary: str, *, slow: bool = False, faults: bool = False) -> Script:
    """A script such as a storm uses: 0.02 to 0.5 s of work, most of them with tools. `slow`: 1 to 2 s."""
    steps = tuple(
        tuple(rng.choice(TOOLS) for _ in range(rng.choice((1, 1, 2)))) for _ in range(rng.choice((0, 1, 1, 2)))
    )
    return Script(
        token,
        canary,
        steps,
        words=rng.randint(20, 40) if slow else rng.randint(2, 12),
        gap_ms=rng.randint(30, 50) if slow else rng.choice((0, 2, 10, 25)),
        tool_ms=rng.choice((0, 0, 5, 40)),
        fault=rng.choice(("", "", "", "", "", "", "", "", "cut", "refuse")) if faults else "",
        vary=rng.random() < 0.3,
    )
