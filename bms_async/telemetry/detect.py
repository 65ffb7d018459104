"""The hooks of a client, including OpenTelemetry if the application has enabled it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bms_async.errors import ConfigurationError

if TYPE_CHECKING:
    from bms_async.hooks import Hook, Hooks


def with_telemetry(given: tuple[Hook, ...]) -> tuple[Hook, ...]:
    """Return a client's hooks together with the `Telemetry` that all clients with ``telemetry=True`` share.

    Args:
        given: The hooks that the client was given; if a `Telemetry` is one of them, they are returned as they are.

    Raises:
        ConfigurationError: The extra ``otel`` is missing, or what is installed cannot be used.
    """
    try:
        from .telemetry import Telemetry, shared  # noqa: PLC0415 - most programs have no OpenTelemetry

        return given if any(isinstance(hook, Telemetry) for hook in given) else (*given, shared())
    except ImportError as error:
        raise ConfigurationError(
            "telemetry=True: the extra 'otel' is missing; pip install 'bms-async[otel]', or give telemetry=False"
        ) from error
    except Exception as error:
        # The API loads the providers that environment variables name, and so may raise anything.
        raise ConfigurationError(
            f"telemetry=True: OpenTelemetry cannot be used: {error!r}; pip install 'bms-async[otel]' for one that can"
        ) from error


def make_hooks(given: tuple[Hook, ...]) -> Hooks | None:
    """Return the dispatcher of a client's hooks; None if there are no hooks, so that no event need be made."""
    if not given:
        return None
    from bms_async.hooks import Hooks  # noqa: PLC0415 - most clients have no hooks

    return Hooks(given)
