"""The SDK's patience, made shorter: jobs take a hundredth of their time here, and nobody has an hour."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from unittest.mock import patch

from bms_async.fleet import durable, feed, isolate, plan, proving, requeue
from bms_async.jobs import schedule
from tests.support.machine import patience

PATIENCE = patience(1.0)
"""Seconds that the client gives an answer."""

_SHORTER: tuple[tuple[ModuleType, str, object], ...] = (
    (plan, "MAX_BATCH_SIZE", 20),
    (feed, "REFILL_TIMEOUT", 0.5),
    (requeue, "RETRY_DELAYS", (0.3, 0.6, 1.2)),
    (durable, "RETRY_DELAYS", (0.3, 0.6, 1.2)),
    # Longer than what the proxy holds back may take to arrive.
    (proving, "_IDLE_TIMEOUT", 3 * PATIENCE),
    (proving, "_POLL_DELAYS", (0.2, 0.4, 0.8)),
    (proving, "_SECONDS_A_CALL", 0.02),
    (proving, "_VERIFY_DELAYS", (0.0, 0.2, 0.4, 0.8)),
    (isolate, "_SETTLE_DELAY", 0.5),
    (schedule, "_MIN_DELAY", 0.1),
)


@contextmanager
def hurried() -> Iterator[None]:
    """Have it so for as long as this lasts."""
    with ExitStack() as stack:
        for module, name, value in _SHORTER:
            stack.enter_context(patch.object(module, name, value))
        yield
