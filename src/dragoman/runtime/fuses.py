"""Fuses: named points at which a test can make this process die, fail or dawdle. Always there, armed only on demand.

`DRAGOMAN_FUSES="append.after_commit=kill@2,finish.before_commit=delay:300ms"` arms them when the process starts:
`point=action[@n]`. It blows once, at the n-th passing of the point (default: the first); a delay without `@n` works at
each. A point may be written `*.after_commit`. Actions:

    kill         SIGKILL to this process
    raise        FuseBlown, where the point stands
    delay:<n>ms  the thread that passes waits, and with it all that it serves
    hang         …for ever
    torn         only at `stream.frame`: half of the bytes are sent, then kill
"""

import os
import re
import signal
import threading
import time
from typing import NoReturn

from dragoman.core.errors import DragomanError

ENVIRONMENT = "DRAGOMAN_FUSES"

POINTS: dict[str, str] = {
    "http.after_accept": "a request came; nothing of it was looked at",
    "http.after_body": "its body was read",
    "auth.done": "its credential was checked",
    "ratelimit.done": "it was counted against its principal's limits",
    "accept.before_commit": "a turn is written, not yet committed",
    "accept.after_commit": "…committed, and nobody was told",
    "accept.after_2xx": "the status that acknowledges a turn was sent",
    "append.before_commit": "events of a run are written, not yet committed",
    "append.after_commit": "…committed",
    "finish.before_commit": "a run's end is written, not yet committed",
    "finish.after_commit": "…committed",
    "claim.before_commit": "an unfinished run is taken over, not yet committed",
    "claim.after_commit": "…committed, and nobody drives it yet",
    "ask.before_commit": "what somebody asks of a run is written, not yet committed",
    "ask.after_commit": "…committed",
    "note.before_commit": "a title, or who may see a conversation, is written, not yet committed",
    "note.after_commit": "…committed",
    "model.before_connect": "a model is about to be asked",
    "model.after_headers": "its answer began",
    "model.delta_first": "the first text of an answer came and was shown to nobody",
    "model.delta_mid": "more text of it came",
    "model.before_finish": "the answer is whole and was handed to nobody",
    "model.after_finish": "…was handed to the run, which has not committed it",
    "tool.intent_committed": "the intents of calls are committed, no call has begun",
    "tool.effect_done": "a tool has returned; its result is not committed",
    "tool.result_committed": "…is committed",
    "approval.requested": "a run asked for approval of calls; that is committed",
    "approval.decided": "a call was approved or denied; that is committed, and neither the run nor its sender was told",
    "clienttool.requested": "a run asked its caller for a result and waits; that is committed",
    "clienttool.answered": "the result came; it is committed, and neither the run nor its sender was told",
    "handover.committed": "the word went to another agent of a workflow; that is committed, and it was not asked yet",
    "clientaction.emitted": "a turn ended with calls for the client; that is committed",
    "heartbeat.tick": "the leases of this process's runs are about to be renewed",
    "reaper.mid": "lost runs were taken over and none of them is driven yet",
    "migrate.step": "a step of the schema is carried out, not yet committed",
    "stream.frame": "frames are about to be sent to a reader, and not the last ones",
}
"""Every point there is, and where the process stands when it passes it. A point is passed once for each thing it tells
of; those around a commit that holds several are passed several times in a row."""

TEARABLE = "stream.frame"
TORN_S = 0.02
"""Between half a frame and the kill: the half must have reached the socket."""

_RULE = re.compile(
    r"(?P<point>[a-z_*]+\.[a-z0-9_]+)=(?P<action>kill|raise|hang|torn|delay:(?P<ms>\d+)ms)(@(?P<nth>[1-9]\d*))?"
)


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

    def due(self) -> bool:
        """Count one passing; whether it is the one."""
        self.passed += 1
        return not self.nth or self.passed == self.nth

    def act(self, point: str) -> None:
        if self.action == "kill":
            _die()
        elif self.action == "raise":
            raise FuseBlown("A fuse blew; this is a test.", internal=f"{point} at passing {self.passed}")
        elif self.action == "hang":
            while True:
                time.sleep(3600)
        else:
            time.sleep(self.delay_s)


_armed: list[_Fuse] = []


def blow(point: str) -> None:
    """Pass a named point: nothing, unless a fuse is armed there. Points stand in POINTS."""
    if _armed:
        for fuse in _armed:
            if fuse.action != "torn" and fuse.names(point) and fuse.due():
                fuse.act(point)


def torn(frames: bytes) -> bytes:
    """Pass `stream.frame` with what is about to be sent: all of it, unless a fuse tears it."""
    if _armed:
        blow(TEARABLE)
        for fuse in _armed:
            if fuse.action == "torn":
                if fuse.nth and fuse.passed >= fuse.nth:
                    _die()  # nothing may follow the half
                if fuse.due():
                    threading.Timer(TORN_S, _die).start()
                    return frames[: len(frames) // 2]
    return frames


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a process survived its SIGKILL")


def arm(text: str) -> None:
    """Replace all armed fuses by those in `text`; "" disarms. Raises ValueError naming the rule it cannot read, or
    that no point answers to."""
    fuses: list[_Fuse] = []
    for rule in filter(None, (part.strip() for part in text.split(","))):
        match = _RULE.fullmatch(rule)
        if match is None:
            raise ValueError(
                f"{ENVIRONMENT}: cannot read {rule!r}; write point=kill, point=raise@2, point=hang or point=delay:300ms"
            )
        action = match["action"].partition(":")[0]
        nth = int(match["nth"] or (0 if action == "delay" else 1))
        fuse = _Fuse(match["point"], action, int(match["ms"] or 0) / 1000, nth)
        if not any(map(fuse.names, POINTS)):
            raise ValueError(f"{ENVIRONMENT}: there is no point {fuse.point!r}; they are: {', '.join(POINTS)}")
        if action == "torn" and fuse.point != TEARABLE:
            raise ValueError(f"{ENVIRONMENT}: only {TEARABLE} can be torn, not {fuse.point}")
        fuses.append(fuse)
    _armed[:] = fuses


arm(os.environ.get(ENVIRONMENT, ""))
