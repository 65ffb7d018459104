"""How the servers of a run are walked through, in words."""

from __future__ import annotations

from bms_async import Rollout
from bms_async.cli.report_page.charts import duration
from bms_async.cli.terminal.texts import pluralize, strip_control_chars

__all__ = ["describe_terms"]


def describe_terms(
    *,
    wave: int | None = None,
    abort_above: float | None = None,
    verify: bool = False,
    rollout: Rollout | None = None,
) -> list[str]:
    """Return in words how the servers of a run are walked through.

    Args:
        wave: How many servers may be in flight at once.
        abort_above: The share of failures that aborts the run.
        verify: Whether states are read back at the end.
        rollout: The rollout.
    """
    words = [] if wave is None else [f"at most {wave:,} under way at once"]
    if abort_above is not None:
        words.append(
            "ended by the first failure"
            if abort_above == 0
            else f"ended when more than {f'{abort_above * 100:.4f}'.rstrip('0').rstrip('.')} % have failed"
        )
    if rollout is not None:
        words += _rollout_words(rollout)
    if verify:
        words.append("states read back at the end")
    return words


def _rollout_words(rollout: Rollout) -> list[str]:
    words = []
    if rollout.canary:
        words.append("1 canary first" if rollout.canary == 1 else f"{rollout.canary:,} canaries first")
    if isinstance(rollout.group_by, str):
        words.append(f"grouped by {strip_control_chars(rollout.group_by)}")
    if rollout.max_unavailable is not None:
        most = rollout.max_unavailable
        share = f"{most * 100:g} %" if isinstance(most, float) and most < 1 else f"{most:,}"
        words.append(f"at most {share} of a group unavailable")
    if rollout.max_groups is not None:
        words.append(f"at most {pluralize(rollout.max_groups, 'group')} touched at once")
    if rollout.ready is not None:
        words.append(f"each well again within {duration(rollout.ready_timeout)}")
    if rollout.settle:
        words.append(f"{duration(rollout.settle)} between two of a group")
    if rollout.window is not None:
        words.append(f"begun only within {rollout.window.hours} ({rollout.window.zone})")
    return words or ["as a rollout"]
