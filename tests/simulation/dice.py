"""What scenarios are drawn with: numbers, and what may go wrong with a call."""

from __future__ import annotations

from random import Random
from typing import get_args

import msgspec

from bms_async.simulator import (
    Answer,
    CutAfter,
    CutBefore,
    Delay,
    GarbledJob,
    HalfBody,
    NotFoundJob,
    Throttled,
    Unauthorized,
)
from bms_async.simulator.core.faults import Garbling
from tests.simulation.scenario import LostBack, LostThere, Refused, Slow, Torn, Trouble

_GARBLINGS: tuple[Garbling, ...] = get_args(Garbling)


class Dice:
    """Draws from one source."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def number(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def seconds(self, low: float, high: float) -> float:
        return round(self.random.uniform(low, high), 3)

    def trouble(self) -> Trouble:
        if self.chance(0.2):
            how = tuple(each for each in _GARBLINGS if self.chance(0.45))
            return GarbledJob(how=how, seed=self.number(0, 999), share=self.random.choice((0.3, 0.7, 1.0)))
        return self.random.choice(_TROUBLES)


def _error(code: str) -> bytes:
    return msgspec.json.encode({"error": {"code": code, "message": "as it was planned"}})


_QUOTA = msgspec.json.encode(
    {"error_code": "APIGW.0308", "error_msg": "policy user over ratelimit,limit:5,time:1 minute"}
)

_TROUBLES: tuple[Trouble, ...] = (
    Refused(),
    LostThere(),
    LostBack(),
    Torn(),
    Slow(there=3.0),
    Slow(back=3.0),
    Slow(there=100.0),
    Slow(back=100.0),
    CutBefore(),
    CutAfter(),
    Delay(seconds=90.0),
    Delay(seconds=5.0, acted=False),
    Throttled(),
    Throttled(retry_after=7),
    Answer(status=429, body=_QUOTA),
    Answer(status=400, body=_error("BMS.0212")),
    Answer(status=500, body=b"{}"),
    Answer(status=503, body=b"", headers={"Retry-After": "3"}),
    Answer(status=503, body=b"", acted=True),
    Answer(status=504, body=b"<html>too slow</html>", headers={"Content-Type": "text/html"}, acted=True),
    Answer(status=408, body=b"", acted=True),
    Answer(status=200, body=b"<html>log in here</html>", headers={"Content-Type": "text/html"}),
    Answer(status=200, body=b"", acted=True),
    Answer(status=400, body=_error("BMS.0018")),
    Answer(status=403, body=_error("BMS.0033")),
    HalfBody(share=0.5),
    HalfBody(share=0.95),
    NotFoundJob(),
    Unauthorized(),
)
