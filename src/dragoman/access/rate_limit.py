"""Requests per minute: GCRA, the generic cell rate algorithm, as a pure function, and a bounded table of its keys.

GCRA keeps one number per key, the theoretical arrival time: when the key's bucket would be full again. A request moves
it on by the time it costs; it may not run further ahead of now than the burst. There are no windows and so no window
edges: over any interval of t seconds at most `burst + t * per_minute / 60` requests pass. Refused ones are not counted.
"""

from msgspec import Struct

KEYS_MAX = 65_536
"""Keys one table holds at most, about 10 MB. Beyond it those seen first are forgotten, an eighth at a time."""
SWEEP_KEYS_MIN = 1024
"""A table smaller than this is not worth sweeping."""
ROUNDING_S = 1e-6
"""Sums of fractions of a minute round; a request early by less than this passes."""
NEVER_S = float("-inf")
"""The arrival time of a key never seen before."""


class Limit(Struct, frozen=True, gc=False):
    """`per_minute` requests a minute, `burst` of them at once. Both at least 1."""

    per_minute: int
    burst: int


class Verdict(Struct, frozen=True, gc=False):
    """`arrival_s` is what to keep for the key. `remaining` requests would pass at once after this one; the key's budget
    is whole again in `reset_s`. `retry_after_s` is 0 if allowed; a refused call passes after that long."""

    allowed: bool
    arrival_s: float
    remaining: int
    retry_after_s: float
    reset_s: float


def limit_of(per_minute: int) -> Limit | None:
    """The limit a config key such as `per_ip_rpm` means: the whole minute's budget may come at once; 0 = off."""
    return Limit(per_minute, per_minute) if per_minute > 0 else None


def take(arrival_s: float, cost: int, now_s: float, limit: Limit) -> Verdict:
    """Ask for `cost` requests at `now_s`. A key never seen before has an `arrival_s` of NEVER_S.

    A cost over the burst counts as the burst, so that it is refused for a while and not for ever. A clock that jumps
    back leaves a key at worst with an empty bucket: no arrival stays further ahead of now than the burst.
    """
    per_request_s = 60.0 / limit.per_minute
    horizon_s = now_s + limit.burst * per_request_s
    if arrival_s < now_s:
        arrival_s = now_s
    elif arrival_s > horizon_s:
        arrival_s = horizon_s
    if cost > limit.burst:
        cost = limit.burst
    next_s = arrival_s + cost * per_request_s
    over_s = next_s - horizon_s
    if over_s > ROUNDING_S:
        remaining = int((horizon_s - arrival_s + ROUNDING_S) / per_request_s)
        return Verdict(False, arrival_s, remaining, over_s, arrival_s - now_s)
    remaining = int((horizon_s - next_s + ROUNDING_S) / per_request_s)
    return Verdict(True, next_s, remaining, 0.0, next_s - now_s)


class Limiter:
    """Arrival times by key: a caller's address (an IPv6 one stands for its /64), a credential's id, a project.

    Each `take` names its limit, so that credentials with limits of their own share one table.
    """

    def __init__(self, *, keys_max: int = KEYS_MAX) -> None:
        self._arrivals: dict[str, float] = {}
        self._keys_max = keys_max
        self._sweep_at = min(SWEEP_KEYS_MIN, keys_max)

    def __len__(self) -> int:
        return len(self._arrivals)

    def take(self, key: str, *, limit: Limit, now_s: float, cost: int = 1) -> Verdict:
        """`now_s` is a monotonic clock's."""
        arrivals = self._arrivals
        verdict = take(arrivals.get(key, NEVER_S), cost, now_s, limit)
        arrivals[key] = verdict.arrival_s
        if len(arrivals) > self._sweep_at:
            self._sweep(now_s)
        return verdict

    def _sweep(self, now_s: float) -> None:
        """Forget keys whose budget is whole, which changes no verdict; if too many are left, those seen first."""
        live = {key: arrival_s for key, arrival_s in self._arrivals.items() if arrival_s > now_s}
        if len(live) > self._keys_max * 7 // 8:
            surplus = len(live) - self._keys_max * 7 // 8
            live = dict(list(live.items())[surplus:])
        self._arrivals = live
        self._sweep_at = min(max(SWEEP_KEYS_MIN, 2 * len(live)), self._keys_max)
