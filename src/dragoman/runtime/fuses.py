"""Fuses: named points at which a test can make this process die, fail or dawdle. Always there, armed only on demand.

`DRAGOMAN_FUSES="append.after_commit=kill@2,finish.before_commit=delay:300ms"` arms them when the process starts:
`point=action[@n]`. It blows once, at the n-th passing of the point (default: the first); a delay without `@n` works at
each. A point may be written `*.after_commit`. Actions: `kill` (SIGKILL to this process), `raise`, `delay:<n>ms`.
"""

import os
import re
import signal
import time

from dragoman.core.errors import DragomanError

ENVIRONMENT = "DRAGOMAN_FUSES"

_RULE = re.compile(r"(?P<point>[a-z_*]+\.[a-z_]+)=(?P<action>kill|raise|delay:(?P<ms>\d+)ms)(@(?P<nth>[1-9]\d*))?")


class FuseBlown(DragomanError):
    """What `raise` raises. Only a test can bring it about."""

    code = "fuse_blown"


class _Fuse:
    def __init__(self, point: str, action: str, delay_s: float, nth: int) -> None:
        self.point = point
        self.action = action
        self.delay_s = delay_s
        self.nth = nth
        self.passed = 0

    def names(self, point: str) -> bool:
        if self.point.startswith("*."):
            return point.partition(".")[2] == self.point[2:]
        return point == self.point

    def passing(self, point: str) -> None:
        self.passed += 1
        if self.nth and self.passed != self.nth:
            return
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.action == "raise":
            raise FuseBlown("A fuse blew; this is a test.", internal=f"{point} at passing {self.passed}")
        else:
            time.sleep(self.delay_s)


_armed: list[_Fuse] = []


def blow(point: str) -> None:
    """Pass a named point: nothing, unless a fuse is armed there."""
    if _armed:
        for fuse in _armed:
            if fuse.names(point):
                fuse.passing(point)


def arm(text: str) -> None:
    """Replace all armed fuses by those in `text`; "" disarms. Raises ValueError naming the rule it cannot read."""
    fuses: list[_Fuse] = []
    for rule in filter(None, (part.strip() for part in text.split(","))):
        match = _RULE.fullmatch(rule)
        if match is None:
            raise ValueError(
                f"{ENVIRONMENT}: cannot read {rule!r}; write point=kill, point=raise@2 or point=delay:300ms"
            )
        action = match["action"].partition(":")[0]
        nth = int(match["nth"] or (0 if action == "delay" else 1))
        fuses.append(_Fuse(match["point"], action, int(match["ms"] or 0) / 1000, nth))
    _armed[:] = fuses


arm(os.environ.get(ENVIRONMENT, ""))
