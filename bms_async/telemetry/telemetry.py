"""The hook that turns what happens into spans and metrics."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import TracerProvider, get_tracer

from bms_async._version import __version__
from bms_async.hooks import HookEvent

from .meters import Meters
from .spans import Spans

_SCOPE = "bms_async"
_SCHEMA = "https://opentelemetry.io/schemas/1.37.0"


class Telemetry:
    """Makes OpenTelemetry spans and metrics of all that a client does: a hook.

    ::

        async with BmsClient(..., hooks=Telemetry()) as bms: ...

    One may serve many clients; ``BmsClient(..., telemetry=True)`` takes one that is shared.

    Args:
        tracer_provider: Where spans go; the global one by default, also if it is set later.
        meter_provider: Where metrics go; likewise.

    Where the extra ``otel`` is not installed, importing it raises ImportError.
    """

    __slots__ = ("_handlers", "_spans")

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._spans = Spans(get_tracer(_SCOPE, __version__, tracer_provider, _SCHEMA))
        # First, so that a measurement is taken while its span is there: that is what exemplars point to.
        several = (Meters(get_meter(_SCOPE, __version__, meter_provider, _SCHEMA)).handlers(), self._spans.handlers())
        self._handlers: dict[type[Any], list[Callable[[Any], None]]] = {}
        for handlers in several:
            for kind, handler in handlers.items():
                self._handlers.setdefault(kind, []).append(handler)

    def __call__(self, event: HookEvent) -> None:
        """Take in an event."""
        fault: Exception | None = None
        for handler in self._handlers.get(type(event), ()):
            try:
                handler(event)
            except Exception as error:  # noqa: BLE001 - a span must end though a measurement failed
                fault = fault or error
        if fault is not None:
            raise fault

    def __repr__(self) -> str:
        return f"<Telemetry: {self._spans.open} spans open>"


@functools.cache
def shared() -> Telemetry:
    """Return the one of all clients that ask for ``telemetry=True``.

    Jobs are known to it whichever client has started them, and instruments are made once: as long as no meter provider
    is set, the API keeps all that were ever asked for.
    """
    return Telemetry()
