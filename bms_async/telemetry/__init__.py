"""OpenTelemetry: spans and metrics of all that a client does (extra ``otel``).

`Telemetry` is a hook like any other. A program enables it by ``hooks=Telemetry()`` or ``telemetry=True``; otherwise
``opentelemetry`` is never imported.
"""

from typing import TYPE_CHECKING

from bms_async._extras import missing_extra as _missing_extra
from bms_async._extras import present as _present

from .detect import make_hooks, with_telemetry

if TYPE_CHECKING:
    from .telemetry import Telemetry

__all__ = ["Telemetry", "make_hooks", "with_telemetry"]
__all__[:] = _present(__all__, {"Telemetry": ("otel", "opentelemetry.trace")})


if not TYPE_CHECKING:  # a type checker would take any name for a public one

    def __getattr__(name: str) -> object:
        if name == "Telemetry":
            try:
                from .telemetry import Telemetry  # noqa: PLC0415
            except ImportError as error:
                raise _missing_extra(__name__, name, "otel") from error

            return Telemetry
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
