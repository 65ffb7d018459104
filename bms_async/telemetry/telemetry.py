"""The hook that turns events into spans and metrics."""

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
    """A hook that makes OpenTelemetry spans and metrics of all that a client does.

    ::

        async with BmsClient(..., hooks=Telemetry()) as bms: ...

    One object may serve many clients; those with ``telemetry=True`` share one. Importing this class without the extra
    ``otel`` raises ImportError.

    Args:
        tracer_provider: The provider for spans; the global one by default, even if it is set later.
        meter_provider: The provider for metrics; the global one by default, even if it is set later.
    """

    __slots__ = ("_handlers", "_spans")

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._spans = Spans(get_tracer(_SCOPE, __version__, tracer_provider, _SCHEMA))
        meters = Meters(get_meter(_SCOPE, __version__, meter_provider, _SCHEMA))
        self._handlers: dict[type[Any], list[Callable[[Any], None]]] = {}
        # Metrics first: exemplars point to the current span, which has to be open when a measurement is taken.
        for handlers in (meters.handlers(), self._spans.handlers()):
            for kind, handler in handlers.items():
                self._handlers.setdefault(kind, []).append(handler)

    def __call__(self, event: HookEvent) -> None:
        """Record an event."""
        first_error: Exception | None = None
        for handler in self._handlers.get(type(event), ()):
            try:
                handler(event)
            except Exception as error:  # noqa: BLE001 - a span must end though a measurement failed
                first_error = first_error or error
        if first_error is not None:
            raise first_error

    def __repr__(self) -> str:
        return f"<Telemetry: {self._spans.open} spans open>"


@functools.cache
def shared() -> Telemetry:
    """Return the `Telemetry` that all clients with ``telemetry=True`` share.

    It links a poll to the call that started the job even if another client made that call, and it creates instruments
    once: until a meter provider is set, the API keeps every instrument that was ever created.
    """
    return Telemetry()
