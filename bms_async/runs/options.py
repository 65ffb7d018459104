"""The options of a durable run."""

from __future__ import annotations

from typing import TypedDict

import msgspec

from bms_async.errors import InvalidRequestError
from bms_async.fleet.options import ABORT_SAMPLE, RunOptions
from bms_async.fleet.rollout.kept import KeptRollout, keep
from bms_async.fleet.rollout.rollout import Rollout
from bms_async.journal import LedBy
from bms_async.limits import Lane
from bms_async.validation.aborting import find_wave
from bms_async.validation.common import MAX_BATCH_SIZE

_MAX_KEY = 255


class DurableOptions(TypedDict, total=False):
    """The options of a durable run's `start`, `stop` and `reboot`."""

    wave_size: int | None
    """How many servers may be in flight at once over all workers. A batch has a quarter of them at most, so that the
    wave is refilled while the rest goes on. Default: None, no bound but the one that follows from `abort_above`."""

    abort_above: float | None
    """Abort threshold, 0 to 1: once FAILED and UNKNOWN exceed this share of the servers that have ended so far,
    whichever worker saw them, no further batch is sent. The rest is SKIPPED. 0 ends the run at its first failure.
    What is in flight then may fail as well. So without a `wave_size` no more servers are in flight than may fail of the
    whole fleet, and one at least: 2,000 of 100,000 for 0.02. Default: None, never abort."""

    abort_sample: int
    """How many servers must have ended before `abort_above` counts: more than 1 tolerates failures at the beginning.
    Default: 1."""

    retry_transient: bool
    """Retry a server that was busy, as `FleetOptions` has it. Default: True."""

    verify: bool
    """Read the states back at the end of each batch, before its outcomes are known. Default: False."""

    rollout: Rollout | None
    """How the fleet is walked through, by whichever workers live. Its groups and its order are found out when the run
    is written down. `ready` must be one that any process can call: `tcp_open`, `http_ok` or `all_of`. Default: None."""

    lane: Lane
    """The priority of the run's calls in the rate limiter's queue. Default: Lane.BULK."""

    detach: bool
    """Only write the run down: workers carry it out. By default this client does its part too, for as long as it is
    open. Default: False."""


class KeptOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker has to know of a run's options; the run's own row has the others."""

    retry_transient: bool = True
    verify: bool = False
    lane: Lane = Lane.BULK
    rollout: KeptRollout | None = None
    prompt: bool = False
    """Whether outcomes are written down soon: others wait for the room in the wave."""
    wave_follows: bool = False
    """Whether the wave follows from `abort_above` and the number of servers, since none was asked for."""
    term: LedBy | None = None
    """The term of the leader that began the run: once that is over, no server of the run is sent any more."""

    def encode(self) -> bytes:
        """Return them as JSON."""
        return msgspec.json.encode(self)


def decode_options(data: bytes) -> KeptOptions:
    """Return the options that `KeptOptions.encode` encoded, in this version or another."""
    return msgspec.json.decode(data, type=KeptOptions)


class CheckedOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options that were checked, with their defaults."""

    wave_size: int | None = None
    abort_above: float | None = None
    abort_sample: int = ABORT_SAMPLE
    retry_transient: bool = True
    verify: bool = False
    lane: Lane = Lane.BULK
    rollout: Rollout | None = None
    detach: bool = False

    def check(self, action: str) -> None:
        """Check the values.

        Args:
            action: The action of the run, such as ``servers.stop``.

        Raises:
            InvalidRequestError: An option is invalid.
        """
        fields = msgspec.structs.asdict(self)
        detach = fields.pop("detach")
        fields["rollout"] = self.rollout
        RunOptions(**fields).check(action)
        if self.rollout is not None:
            keep(self.rollout)
        if not isinstance(detach, bool):
            raise InvalidRequestError("detach", detach, "expected True or False")

    @property
    def abort_rule(self) -> tuple[float | None, int]:
        """The share of failures above which the run is aborted, and how many servers must have ended."""
        return RunOptions(abort_above=self.abort_above, abort_sample=self.abort_sample, rollout=self.rollout).abort_rule

    def find_wave(self, servers: int) -> int | None:
        """Return how many servers may be in flight at once; None for no bound.

        Args:
            servers: How many servers the run has.
        """
        return find_wave(self.wave_size, self.abort_rule[0], servers)

    @property
    def batch_size(self) -> int:
        """How many servers a batch has at most."""
        return MAX_BATCH_SIZE if self.wave_size is None else max(1, min(MAX_BATCH_SIZE, -(-self.wave_size // 4)))

    def kept(self, term: LedBy | None = None, *, wave_follows: bool = False) -> KeptOptions:
        """Return what workers have to know.

        Args:
            term: The term of the leader that begins the run; None if it is nobody's.
            wave_follows: Whether the wave was not asked for.
        """
        return KeptOptions(
            retry_transient=self.retry_transient,
            verify=self.verify,
            lane=self.lane,
            rollout=None if self.rollout is None else keep(self.rollout),
            prompt=self.wave_size is not None or self.rollout is not None,
            wave_follows=wave_follows,
            term=term,
        )


def check_key(key: object) -> str:
    """Return the key of a run.

    Raises:
        InvalidRequestError: It is none.
    """
    if not isinstance(key, str) or not key or len(key) > _MAX_KEY or not key.isprintable():
        raise InvalidRequestError("key", key, f"expected a printable text of 1 to {_MAX_KEY} characters")
    return key
