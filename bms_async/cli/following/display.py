"""The progress of a run, as text."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import anyio
from rich.text import Text

from bms_async import BmsClient, LimiterStatistics, OutcomeState
from bms_async.cli.terminal.progress import Screen, draw_bar
from bms_async.cli.terminal.texts import duration, pluralize
from bms_async.cli.terminal.words import shown_code

from .estimate import Durations, Estimate, RolloutPace, RunPosition, estimate_end, time_of_last_call
from .failures import Failures
from .followed import Followed, count_under_way
from .results import reason_line
from .standing import describe_groups, describe_unavailable, describe_waiting

__all__ = ["Display", "PollHealth"]

_MAX_SAMPLES = 20_000
_MAX_REASONS = 5
_RATE_SECONDS = 10
_MIN_BAR_WIDTH = 10
_RATE_WIDTH = 7
"""The width of most rates, so that the bar beside them keeps its width."""


class PollHealth:
    """Whether the polls of jobs succeed.

    Args:
        bms: The client.
    """

    def __init__(self, bms: BmsClient) -> None:
        self._bms = bms
        self._known = (0, 0)
        self._are_failing = False

    def sample(self) -> None:
        """Read the statistics; called regularly."""
        watcher = self._bms.statistics().watcher
        before, self._known = self._known, (watcher.failed_polls, watcher.polls - watcher.in_flight)
        if before != self._known:
            self._are_failing = self._known[0] > before[0]

    def message(self) -> str:
        """Return a message if polls fail; empty if the latest one succeeded."""
        if not self._are_failing:
            return ""
        return f"the cloud does not respond: {pluralize(self._known[0], 'poll')} failed, trying again"


def _closed_for(statistics: LimiterStatistics) -> float:
    """Return the seconds for which the account is closed, which a limiter that has not asked since does not know."""
    shared = statistics.shared
    return 0.0 if shared is None or shared.is_alone else shared.closed_for


def describe_next_call(statistics: LimiterStatistics, spent: Sequence[float]) -> str:
    """Return when the next call can be sent, for people.

    Args:
        statistics: What the limiter says.
        spent: The seconds until each used slot comes back, ascending.
    """
    shared = statistics.shared
    if shared is not None and shared.unreachable_for is not None and not shared.is_alone:
        return "waiting for the store of the limits"
    wait = max(statistics.next_slot or 0.0, _closed_for(statistics))
    if not wait:
        return f"{statistics.free} slots free"
    # Where processes share the limit, the time at which this one asks again may come before that of a slot.
    slot = time_of_last_call(1, spent=spent, capacity=statistics.capacity)
    return f"next in {duration(math.ceil(max(slot, wait)))}"


def _rate(rate: float, whole: float) -> str:
    """Return servers a second; where these are too few to be a number, servers a minute over the whole time.

    Args:
        rate: Servers a second of late.
        whole: The same over the whole time.
    """
    # Where it is one a second, the last digit of a time decides nothing.
    if round(max(rate, whole), 2) >= 1 or not whole:
        return f"{rate:,.0f}/s"
    return f"{60 * whole:,.0f}/min"


class Display:
    """The progress display of a run.

    Args:
        action: What is done, in a word, such as ``stop``.
        operation: The call that does it, such as ``servers.stop``.
        polls: The call that finds out how it ended.
        run: The run.
        bms: The client.
        screen: Where it is shown.
        wave: How many servers may be in flight at once.
        batch: How many servers one call takes at most.
        servers: The number of servers.

    Attributes:
        durations: How long its servers took.
        failures: Why servers are not as asked.
        samples: The calls and the polls over time, as pairs of seconds and total count.
        began: Its start, by the loop's clock.
        started: The same by the time of day.
        limiter: The limiter of its call.
        polls: The limiter of its polls.
        stops_asking: Whether no further server is asked for.
    """

    def __init__(
        self,
        action: str,
        run: Followed,
        bms: BmsClient,
        screen: Screen,
        *,
        operation: str,
        polls: str,
        wave: int | None,
        batch: int,
        servers: int,
    ) -> None:
        self._action = action
        self._run = run
        self._screen = screen
        self._wave = wave
        self._batch = batch
        self._servers = servers
        self.durations = Durations()
        self.failures = Failures()
        self.limiter = bms.limits[operation]
        self.polls = bms.limits[polls]
        self._first = self.limiter.statistics().calls, self.polls.statistics().calls
        self.samples: tuple[list[tuple[float, int]], list[tuple[float, int]]] = ([(0.0, 0)], [(0.0, 0)])
        self.began = anyio.current_time()
        self.started = datetime.now(UTC)
        self._recent: deque[tuple[float, int]] = deque()
        self._last_call = (0, self.began)
        self._pace = RolloutPace()
        self._poll_health = PollHealth(bms)
        self.stops_asking = False

    def sample(self) -> None:
        """Sample the counters; called regularly."""
        now = anyio.current_time()
        counts = self.calls()
        for samples, count in zip(self.samples, counts, strict=True):
            if samples[-1][1] != count:
                samples.append((round(now - self.began, 2), count))
            if len(samples) > _MAX_SAMPLES:
                del samples[1:-1:2]
        if counts[0] != self._last_call[0]:
            self._last_call = (counts[0], now)
        self._poll_health.sample()
        progress = self._run.progress
        self._pace.sample(progress, now)
        self._recent.append((now, self._ended()))
        while now - self._recent[0][0] > _RATE_SECONDS:
            self._recent.popleft()

    def calls(self) -> tuple[int, int]:
        """Return the number of calls and of polls."""
        first, polls = self._first
        return self.limiter.statistics().calls - first, self.polls.statistics().calls - polls

    def seconds(self) -> float:
        """Return how long the run took, or has been followed so far."""
        seconds = self._run.seconds
        return anyio.current_time() - self.began if seconds is None else seconds

    def seconds_under_way(self) -> float | None:
        """Return in about how many seconds those have ended; None as long as nothing is known of that."""
        if not self.durations.count:
            return None
        position = RunPosition(0, self._run.under_way, self._batch, None, anyio.current_time() - self._last_call[1])
        return estimate_end(position, self.durations, spent=(), capacity=None).seconds

    def _ended(self) -> int:
        """Return how many servers were asked for and have ended, whether or not their states are read back yet."""
        progress = self._run.progress
        return progress.done - progress.by_state[OutcomeState.SKIPPED] + progress.to_verify

    def _figures(self) -> tuple[str, str, str]:
        """Return the rate, the time so far, and the time to come."""
        progress, now, ended = self._run.progress, anyio.current_time(), self._ended()
        (since, before), seconds = self._recent[0], self.seconds()
        whole = ended / max(seconds, 0.1)
        rate = _rate((ended - before) / max(now - since, 0.5), whole)
        if self._run.end:
            return _rate(whole, whole), duration(seconds), self._run.end
        if progress.to_verify and not count_under_way(progress) and not self._unasked():
            return rate, duration(seconds), "verifying"
        if not self._run.is_sent_here:
            # Nothing is known here of the limits of those that send.
            return rate, duration(seconds), ""
        if progress.rollout is not None and progress.rollout.waiting:
            left = self._pace.seconds_left(self._servers)
            return rate, duration(seconds), "" if left is None else f">={duration(math.ceil(left))} left"
        estimate = self._estimate(ended)
        if estimate.is_lower_bound and estimate.seconds < 1:
            # No server has ended yet, and the limit delays nothing.
            return rate, duration(seconds), ""
        mark = ">=" if estimate.is_lower_bound else "~"
        return rate, duration(seconds), f"{mark}{duration(math.ceil(estimate.seconds))} left"

    def _unasked(self) -> int:
        """Return how many servers are still to be asked for."""
        progress = self._run.progress
        unasked = self._servers - progress.submitted - progress.by_state[OutcomeState.SKIPPED]
        return 0 if self.stops_asking else max(0, unasked)

    def _estimate(self, ended: int) -> Estimate:
        progress, statistics = self._run.progress, self.limiter.statistics()
        position = RunPosition(
            unasked=self._unasked(),
            in_flight=progress.in_flight,
            batch=self._batch,
            wave=self._wave,
            since_last=anyio.current_time() - self._last_call[1],
        )
        blocked = statistics.next_slot if not statistics.free and statistics.next_slot is not None else 0.0
        estimate = estimate_end(
            position,
            self.durations,
            spent=self.limiter.snapshot(),
            capacity=statistics.capacity,
            blocked=max(blocked, _closed_for(statistics)),
        )
        if self.durations.count or not progress.to_verify:
            return estimate
        # How long servers take is known only once their states were read back.
        left = position.unasked + count_under_way(progress)
        pace = (anyio.current_time() - self.began) / ended
        return Estimate(max(estimate.seconds, pace * left), is_lower_bound=True)

    def _states(self) -> str:
        progress, statistics = self._run.progress, self.limiter.statistics()
        parts = [f"{progress.submitted:,} asked"]
        parts += [f"{count:,} {state.lower()}" for state, count in progress.by_state.items() if count]
        if progress.to_verify:
            parts.append(f"{progress.to_verify:,} ended and to be verified")
        unasked = self._unasked()
        parts += self._run.notes
        is_limited = statistics.capacity is not None and not self._run.is_rollout
        if unasked > 0 and is_limited and self._run.is_sent_here and not self._run.end:
            calls = -(-unasked // self._batch)
            parts.append(f"{pluralize(calls, 'call')} to go, {describe_next_call(statistics, self.limiter.snapshot())}")
        if not self._run.end and (failing := self._poll_health.message()):
            parts.append(failing)
        return ", ".join(parts)

    def block(self) -> list[Text]:
        """Return the lines that are drawn on a terminal."""
        ended, total, width = self._ended(), self._servers, self._screen.width
        rate, so_far, to_come = self._figures()
        # A run is not over before the states were read back.
        done = min(ended, total - 1) if self._run.progress.to_verify else ended
        share = f"{100 * done // max(1, total):3}%"
        rate = rate.rjust(_RATE_WIDTH)
        figures = [f"{ended:>{len(f'{total:,}')},}/{total:,}", share, rate, so_far, to_come]
        # Where there is no room, the least important figures are dropped first.
        for dropped in (None, rate, so_far, share):
            if dropped is not None:
                figures.remove(dropped)
            right = "  ".join(figure for figure in figures if figure)
            room = width - len(self._action) - len(right) - 4
            if room >= _MIN_BAR_WIDTH:
                break
        else:
            # Each in place of the one before where that would be cut: half a number is another number.
            for shorter in (figures[0], figures[0].strip(), share.strip()):
                if room < 0:
                    room, right = room + len(right) - len(shorter), shorter
        bar = draw_bar(done, total, max(0, room), plain=self._screen.is_plain)
        head = Text.assemble((self._action, "bold"), "  ", bar, "  ", right)
        return [head, Text(f"  {self._states()}", style="dim"), *self._rollout_lines(), *self._reason_lines()]

    def _rollout_lines(self) -> Iterator[Text]:
        progress = self._run.progress
        if not self._run.end:
            for text in (describe_groups(progress), describe_unavailable(progress)):
                if text:
                    yield Text(f"  {text}", style="dim")
            if waiting := describe_waiting(progress):
                yield Text(f"  {waiting}", style="yellow")

    def _reason_lines(self) -> Iterator[Text]:
        reasons = self.failures.reasons()
        for reason in reasons[:_MAX_REASONS]:
            yield reason_line(reason)
        if len(reasons) > _MAX_REASONS:
            yield Text(f"  and {len(reasons) - _MAX_REASONS} other reasons")

    def line(self) -> str:
        """Return the line that is written to a log."""
        rate, so_far, to_come = self._figures()
        counts = list(self.failures.named_counts().items())[:_MAX_REASONS]
        failed = ", ".join(f"{count:,} {shown_code(code)}" for code, count in counts)
        figures = ", ".join(figure for figure in (rate, so_far, to_come) if figure)
        texts = [self._states(), *(text.plain.strip() for text in self._rollout_lines())]
        line = f"{self._action}: {self._ended():,} of {self._servers:,}, {figures}; {'; '.join(texts)}"
        return f"{line}; {failed}" if failed else line
