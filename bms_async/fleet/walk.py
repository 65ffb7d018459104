"""How a run walks through its fleet: which servers it may ask at what moment, and when one of them is well again.

Without a rollout new ids go as they come, within the wave. A rollout has groups, canaries, a window and checks of its
own; its parts are loaded only where a run has one.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from .feed import Feed, StreamFeed
from .options import RunOptions
from .plan import ANY_NUMBER, Intake, batch_size
from .rollout.gate import Gate
from .source import IdSource
from .tracker import RunTracker

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from bms_async.models import Server

    from .rollout.report import RolloutReport
    from .rollout.standing import RolloutStanding
    from .rollout.walk import RolloutWalk


_READ_AHEAD = 20_000
"""How many servers are read ahead where their number says how many may be in flight."""


class ServerSource(Protocol):
    """Reads servers of which a run was given only the ids."""

    @property
    def calls(self) -> int:
        """How many calls it has made."""
        ...

    async def read_servers(self, ids: Collection[str], note: Callable[[Server], None]) -> None:
        """Read servers; those that the cloud does not show are left out.

        Args:
            ids: The servers.
            note: Called with each.

        Raises:
            CallError: They could not be read.
        """
        ...


class Walk:
    """Says which servers a run asks, and when.

    Args:
        tracker: The run's.
        source: The source of its servers.
        options: Its options.
        make_source: Makes what reads servers of which only the ids were given.
        redact: Removes secrets from a text.
        packs: Whether one call carries many servers.
        feed: Hands out new servers in place of the source; None where those of the source are.

    Attributes:
        gate: Says whether something may begin now.
        feed: Hands out new servers.
    """

    def __init__(
        self,
        tracker: RunTracker,
        source: IdSource,
        options: RunOptions,
        make_source: Callable[[], ServerSource],
        redact: Callable[[str], str],
        *,
        packs: bool = True,
        feed: Feed | None = None,
    ) -> None:
        self._tracker = tracker
        self._rollout: RolloutWalk | None = None
        self._stream: StreamFeed | None = None
        self.feed: Feed
        if feed is not None:
            self.gate, self.feed = Gate(), feed
        elif options.rollout is None:
            self.gate = Gate()
            self.feed = self._stream = StreamFeed(tracker, source, options.find_wave, packs=packs)
        else:
            from .rollout.walk import RolloutWalk  # noqa: PLC0415 - most runs have no rollout

            self.gate = Gate(options.rollout.window)
            above, _ = options.abort_rule
            self._rollout = RolloutWalk(
                tracker,
                options.rollout,
                make_source(),
                redact,
                wave_size=options.wave_size,
                abort_above=above,
                packs=packs,
            )
            self.feed = self._rollout.feed

    @property
    def wave_size(self) -> int | None:
        """How many servers may be in flight at once, as far as they are known; None for no bound."""
        walk = self._stream or self._rollout
        return None if walk is None else walk.wave_size

    @property
    def calls(self) -> int:
        """How many calls were made to read servers of which only the ids were given."""
        return 0 if self._rollout is None else self._rollout.calls

    async def __aenter__(self) -> Self:
        if self._rollout is not None:
            await self._rollout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return None if self._rollout is None else await self._rollout.__aexit__(kind, error, trace)

    async def prepare(self) -> None:
        """Get ready: a rollout needs all servers, and their groups, before the first one is asked."""
        if self._rollout is not None:
            await self._rollout.prepare()

    def pause(self) -> None:
        """Let nothing begin."""
        self.gate.is_paused = True
        if self._rollout is not None:
            self._rollout.note_pause()

    def resume(self) -> None:
        """Let the run go on."""
        self.gate.is_paused = False
        if self._rollout is not None:
            self._rollout.note_resumption()
        self._tracker.wake.set()

    def stop(self) -> None:
        """Get nothing more ready: the run is stopping."""
        if self._rollout is not None:
            self._rollout.stop()

    async def release(self) -> None:
        """Give the servers whose outcome was held back theirs."""
        if self._rollout is not None:
            await self._rollout.release()

    async def report(self) -> RolloutReport | None:
        """Return what the run's report says of its rollout; None without one."""
        return None if self._rollout is None else await self._rollout.report()

    async def dismantle(self) -> None:
        """Forget all servers: to free those of a large rollout at once would hold the loop."""
        if self._rollout is not None:
            await self._rollout.dismantle()

    def waits_for(self) -> str | None:
        """Return why nothing begins at the moment; None if something may."""
        why = self.gate.why_closed(self._tracker.clock.now())
        return why if why is not None or self._rollout is None else self._rollout.waits_for()

    def standing(self) -> RolloutStanding | None:
        """Return how far a rollout is; None without one."""
        return None if self._rollout is None else self._rollout.standing()


def make_intake(options: RunOptions, *, check: bool) -> Intake:
    """Return the intake of a run: as many ids wait as a batch holds; with a rollout all of them.

    Where the wave is a share of all servers, more of them are read ahead, so that it soon is what it will be.

    Args:
        options: The run's options.
        check: Whether ids are checked against the reference.
    """
    if options.rollout is not None:
        size = ANY_NUMBER
    elif options.find_wave(0) != options.find_wave(ANY_NUMBER):
        size = _READ_AHEAD
    else:
        size = batch_size(options.find_wave(0))
    return Intake(size=size, check=check)
