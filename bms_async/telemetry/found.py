"""Finding out whether the program has set OpenTelemetry up, without importing it."""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio.to_thread

if TYPE_CHECKING:
    from bms_async.hooks import Hook, Hooks

_log = logging.getLogger("bms_async.telemetry")

_NAME = "bms_async"
_MODULE = f"{__name__.rpartition('.')[0]}.telemetry"


async def gather_hooks(given: tuple[Hook, ...]) -> Hooks | None:
    """Return the hooks of a client that is being opened, with a `Telemetry` where one is wanted.

    Args:
        given: The client's own.

    Returns:
        None where there are none, so that nothing has to be told.
    """
    # Another client may be importing it at this moment; then it is there, and has nothing in it yet.
    known = getattr(sys.modules.get(_MODULE), "Telemetry", None)
    if known is None or not any(isinstance(hook, known) for hook in given):
        found = await _find()
        given = given if found is None else (*given, found)
    if not given:
        return None
    from bms_async.hooks import Hooks  # noqa: PLC0415 - most clients have no hooks

    return Hooks(given)


async def _find() -> Hook | None:
    """Return the `Telemetry` of all clients whose program has set OpenTelemetry up; None where it has not."""
    try:
        if not _is_set_up():
            return None
        telemetry: Any = sys.modules.get(_MODULE)
        if not hasattr(telemetry, "shared"):
            # It reads files, for which the loop has no time.
            telemetry = await anyio.to_thread.run_sync(import_module, _MODULE)
        hook: Hook = telemetry.shared()
    except Exception as error:  # noqa: BLE001 - nobody has asked for it: no fault of it may keep a client from opening
        _log.warning(
            "OpenTelemetry is there but cannot be used (%r), so that it is told nothing; "
            "pip install 'bms-async[otel]' brings what fits",
            error,
        )
        return None
    return hook


def _is_set_up() -> bool:
    """Tell whether the program has set a provider that keeps what it is told.

    Who sets one imports OpenTelemetry to do so; where it was not imported there is nothing to find.
    """
    unwanted = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "")
    if _NAME in [name.strip() for name in unwanted.split(",")]:
        return False
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is not None and not isinstance(
        trace.get_tracer_provider(), trace.ProxyTracerProvider | trace.NoOpTracerProvider
    ):
        return True
    metrics: Any = sys.modules.get("opentelemetry.metrics")
    if metrics is None:
        return False
    provider = metrics.get_meter_provider()
    # The stand-in for one that is not set has no public name.
    return not isinstance(provider, metrics.NoOpMeterProvider) and type(provider).__name__ != "_ProxyMeterProvider"
