"""How far a run is, in words and figures."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

import anyio
from rich.text import Text

from bms_async import BmsClient, FleetRun
from bms_async.fleet import batch_size

from .estimate import Durations, Estimate, RunPosition, estimate_end
from .failures import Failures
from .output import duration, pluralize, strip_control_chars
from .progress import Screen, draw_bar
from .results import reason_line

__all__ = ["Display", "PollHealth"]

_MOST_SAMPLES = 20_000
_MOST_REASONS = 5
_RATE_WIDTH = 7
"""What most rates take, so that the bar beside them keeps its width."""


class PollHealth:
    """Whether the cloud answers when it is asked how far jobs are.

    Args:
        bms: The client.
    """

    def __init__(self, bms: BmsClient) -> None:
        self._bms = bms
        self._known = (0, 0)
        self._are_failing = False

    def sample(self) -> None:
        """Look at them, as is done every now and then."""
        watcher = self._bms.statistics().watcher
        before, self._known = self._known, (watcher.failed_polls, watcher.polls - watcher.in_flight)
        if before != self._known:
            self._are_failing = self._known[0] > before[0]

    def message(self) -> str:
        """Return what is wrong; nothing if the last poll was answered."""
        if not self._are_failing:
            return ""
        return f"the cloud does not answer: {pluralize(self._known[0], 'poll')} failed, and it is tried again"


class Display:
    """What is shown of a run.

    Args:
        action: What is done.
        run: The run.
        bms: The client.
        screen: Where it is shown.
        wave: How many servers may be under way at once.
        servers: How many servers it is about.

    Attributes:
        durations: How long its servers took.
        failures: Why servers are not as asked.
        samples: How many calls, and how many polls, were made until when.
        began: When it began, by the loop's clock.
        limiter: That of its call.
        polls: That of the polls of its jobs.
    """

    def __init__(
        self, action: str, run: FleetRun, bms: BmsClient, screen: Screen, *, wave: int | None, servers: int
    ) -> None:
        self._action = action
        self._run = run
        self._screen = screen
        self._wave = wave
        self._batch = batch_size(wave or None)
        self._servers = servers
        self.durations = Durations()
        self.failures = Failures()
        self.limiter = bms.limits[f"servers.{action}"]
        self.polls = bms.limits["jobs.get"]
        self._first = self.limiter.statistics().calls, self.polls.statistics().calls
        self.samples: tuple[list[tuple[float, int]], list[tuple[float, int]]] = ([(0.0, 0)], [(0.0, 0)])
        self.began = anyio.current_time()
        self._recent: deque[tuple[float, int]] = deque()
        self._last_call = (0, self.began)
        self._answers = PollHealth(bms)

    def sample(self) -> None:
        """Look at the run, as is done every now and then."""
        now = anyio.current_time()
        counts = self.calls()
        for samples, count in zip(self.samples, counts, strict=True):
            if samples[-1][1] != count:
                samples.append((round(now - self.began, 2), count))
            if len(samples) > _MOST_SAMPLES:
                del samples[1:-1:2]
        if counts[0] != self._last_call[0]:
            self._last_call = (counts[0], now)
        self._answers.sample()
        self._recent.append((now, self._run.progress.done))
        while now - self._recent[0][0] > 10:  # noqa: PLR2004 - the rate is that of the last ten seconds
            self._recent.popleft()

    def calls(self) -> tuple[int, int]:
        """Return how many calls and how many polls were made."""
        first, polls = self._first
        return self.limiter.statistics().calls - first, self.polls.statistics().calls - polls

    def _figures(self) -> tuple[str, str, str]:
        """Return the rate, the time so far, and the time to come."""
        progress, now = self._run.progress, anyio.current_time()
        (since, before), seconds = self._recent[0], now - self.began
        rate = (progress.done - before) / max(now - since, 0.5)
        report = self._run.report
        if report is not None:
            end = "interrupted" if report.cancelled else "aborted" if report.aborted else "ended"
            return f"{progress.done / max(seconds, 0.1):,.0f}/s", duration(seconds), end
        outlook = self._estimate()
        if outlook.is_lower_bound and outlook.seconds < 1:
            # Nobody knows how long servers take, and the limit holds nothing up.
            return f"{rate:,.0f}/s", duration(seconds), ""
        mark = ">=" if outlook.is_lower_bound else "~"
        return f"{rate:,.0f}/s", duration(seconds), f"{mark}{duration(math.ceil(outlook.seconds))} left"

    def _estimate(self) -> Estimate:
        progress, statistics = self._run.progress, self.limiter.statistics()
        standing = RunPosition(
            unasked=max(0, self._servers - progress.submitted),
            in_flight=progress.in_flight,
            batch=self._batch,
            wave=self._wave,
            since_last=anyio.current_time() - self._last_call[1],
        )
        still = statistics.next_slot if not statistics.free and statistics.next_slot is not None else 0.0
        return estimate_end(
            standing, self.durations, spent=self.limiter.snapshot(), capacity=statistics.capacity, still=still
        )

    def _states(self) -> str:
        progress, statistics = self._run.progress, self.limiter.statistics()
        parts = [f"{progress.submitted:,} asked"]
        parts += [f"{count:,} {state.lower()}" for state, count in progress.by_state.items() if count]
        if progress.to_verify:
            parts.append(f"{progress.to_verify:,} to verify")
        unasked = self._servers - progress.submitted
        if unasked > 0 and statistics.capacity is not None and not self._run.report:
            calls = -(-unasked // self._batch)
            soon = f"next in {duration(math.ceil(statistics.next_slot))}" if statistics.next_slot else ""
            parts.append(f"{pluralize(calls, 'call')} to go, {soon or f'{statistics.free} slots free'}")
        if not self._run.report and (trouble := self._answers.message()):
            parts.append(trouble)
        return ", ".join(parts)

    def block(self) -> list[Text]:
        """Return the lines that are drawn on a terminal."""
        progress, total, width = self._run.progress, self._servers, self._screen.width
        rate, so_far, to_come = self._figures()
        share = f"{100 * progress.done // max(1, total):3}%"
        rate = rate.rjust(_RATE_WIDTH)
        figures = [f"{progress.done:>{len(f'{total:,}')},}/{total:,}", share, rate, so_far, to_come]
        # What is wanted least goes first where there is no room.
        for unwanted in (None, rate, so_far, share):
            if unwanted is not None:
                figures.remove(unwanted)
            right = "  ".join(each for each in figures if each)
            room = width - len(self._action) - len(right) - 4
            if room >= 10:  # noqa: PLR2004 - a shorter bar tells nothing
                break
        bar = draw_bar(progress.done, total, max(0, room), plain=self._screen.is_plain)
        head = Text.assemble((self._action, "bold"), "  ", bar, "  ", right)
        return [head, Text(f"  {self._states()}", style="dim"), *self._reason_lines()]

    def _reason_lines(self) -> Iterator[Text]:
        reasons = self.failures.reasons()
        for reason in reasons[:_MOST_REASONS]:
            yield reason_line(reason)
        if len(reasons) > _MOST_REASONS:
            yield Text(f"  and {len(reasons) - _MOST_REASONS} other reasons")

    def line(self) -> str:
        """Return the line that is written to a log."""
        progress = self._run.progress
        rate, so_far, to_come = self._figures()
        counts = list(self.failures.counts().items())[:_MOST_REASONS]
        failed = ", ".join(f"{count:,} {strip_control_chars(code)}" for code, count in counts)
        figures = ", ".join(each for each in (rate, so_far, to_come) if each)
        line = f"{self._action}: {progress.done:,} of {self._servers:,}, {figures}; {self._states()}"
        return f"{line}; {failed}" if failed else line
