"""OpenTelemetry: spans and metrics of all that a client does (extra ``otel``).

`Telemetry` is a hook like any other. It is imported when it is asked for, or when a program that has set OpenTelemetry
up opens a client; whoever never imports ``opentelemetry`` does not pay for it.
"""

from typing import TYPE_CHECKING

from .found import gather_hooks

if TYPE_CHECKING:
    from .telemetry import Telemetry

__all__ = ["Telemetry", "gather_hooks"]


def __getattr__(name: str) -> object:
    if name == "Telemetry":
        from .telemetry import Telemetry  # noqa: PLC0415

        return Telemetry
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
