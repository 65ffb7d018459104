"""The hook events of a run."""

from __future__ import annotations

from bms_async.hooks import Hooks, OutcomeRecorded, RunEnded, RunStarted, current_run, next_run_number
from bms_async.redaction import shown_text

from .options import RunOptions
from .outcome import Outcome
from .report import FleetReport


class RunHookEvents:
    """Emits the events of one run.

    Args:
        hooks: The client's hooks.
        action: The action of the run, such as ``servers.stop``.
    """

    __slots__ = ("_action", "_hooks", "_number")

    def __init__(self, hooks: Hooks, action: str) -> None:
        self._hooks = hooks
        self._action = action
        self._number = next_run_number()

    def on_start(self, options: RunOptions, *, servers: int | None) -> None:
        """Emit `RunStarted`. The current task is the run's: calls made in it and below carry the run's number.

        Args:
            options: The run's options.
            servers: How many servers its source has, at most; None if that is not known yet.
        """
        current_run.set(self._number)
        self._hooks.emit(
            RunStarted(
                run=self._number,
                action=self._action,
                lane=options.lane.name.lower(),
                wave_size=options.wave_size if servers is None else options.find_wave(servers),
                abort_above=options.abort_rule[0],
                verify=options.verify,
            )
        )

    def on_outcome(self, outcome: Outcome) -> None:
        """Emit `OutcomeRecorded`."""
        error = outcome.error
        self._hooks.emit(
            OutcomeRecorded(
                run=self._number,
                action=self._action,
                server_id=outcome.server_id,
                state=outcome.state.value,
                code=shown_text(outcome.code),
                error=None if error is None else type(error).__name__,
                job_id=outcome.job_id,
                attempts=outcome.attempts,
                seconds=outcome.seconds,
            )
        )

    def on_end(self, report: FleetReport, error: BaseException | None) -> None:
        """Emit `RunEnded`."""
        self._hooks.emit(
            RunEnded(
                run=self._number,
                action=self._action,
                seconds=report.seconds,
                by_state={state.value: count for state, count in report.by_state.items()},
                by_code=dict(report.by_code),
                batches=report.batches,
                extra_calls=report.extra_calls,
                cancelled=report.cancelled,
                aborted=report.aborted,
                error=None if error is None else type(error).__name__,
            )
        )
