"""The hooks of a client, with OpenTelemetry among them where it was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bms_async.errors import ConfigurationError

if TYPE_CHECKING:
    from bms_async.hooks import Hook, Hooks


def with_telemetry(given: tuple[Hook, ...]) -> tuple[Hook, ...]:
    """Return hooks with a `Telemetry` among them, which all clients share that ask for one in this way.

    Args:
        given: The client's own; where a `Telemetry` is one of them there is no other.

    Raises:
        ConfigurationError: The extra ``otel`` is missing, or what is installed cannot be used.
    """
    try:
        from .telemetry import Telemetry, shared  # noqa: PLC0415 - most programs have no OpenTelemetry

        return given if any(isinstance(hook, Telemetry) for hook in given) else (*given, shared())
    except ImportError as error:
        raise ConfigurationError(
            "telemetry=True: it needs the extra 'otel': pip install 'bms-async[otel]', or give telemetry=False"
        ) from error
    except Exception as error:
        # Its API loads providers that the environment names, and so may raise anything.
        raise ConfigurationError(
            f"telemetry=True: OpenTelemetry cannot be used: {error!r}; pip install 'bms-async[otel]' brings what fits"
        ) from error


def make_hooks(given: tuple[Hook, ...]) -> Hooks | None:
    """Return what tells a client's hooks; None where there are none, so that nothing has to be told."""
    if not given:
        return None
    from bms_async.hooks import Hooks  # noqa: PLC0415 - most clients have no hooks

    return Hooks(given)
