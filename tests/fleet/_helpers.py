"""What tests of fleet runs have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from bms_async import Outcome, OutcomeState
from bms_async.simulator import Answer, Fault


def states(outcomes: Sequence[Outcome]) -> dict[OutcomeState, int]:
    return dict(Counter(outcome.state for outcome in outcomes))


def by_state_and_code(outcomes: Sequence[Outcome]) -> dict[tuple[str, str | None], int]:
    """How many outcomes there are by state and code."""
    return dict(Counter((outcome.state.value, outcome.code) for outcome in outcomes))


def assert_one_outcome_each(ids: Sequence[str], outcomes: Sequence[Outcome]) -> None:
    assert sorted(outcome.server_id for outcome in outcomes) == sorted(set(ids))


def refuse(*operations: str, status: int = 403) -> Callable[[str, int, str], Fault | None]:
    """A hook that has the cloud refuse these operations."""
    return lambda operation, nth, path: Answer(status=status) if operation in operations else None


def refusal(code: str, *operations: str) -> Callable[[str, int, str], Fault | None]:
    """A hook that has the cloud refuse these operations with a code."""
    body = b'{"error": {"code": "%s", "message": "no"}}' % code.encode()
    return lambda operation, nth, path: Answer(status=400, body=body) if operation in operations else None
