"""What all errors have in common, and those that come before any call."""

from __future__ import annotations

from typing import Any


class BmsError(Exception):
    """The root of everything that this package raises. All of it can be pickled, to be sent between processes."""

    def __reduce__(self) -> tuple[Any, ...]:
        # What an exception does by itself is call its class with its text, which no class below takes alone.
        state = dict(self.__dict__)
        if "__notes__" in state:
            # A list, which a copy would share with the error that it is a copy of.
            state["__notes__"] = list(state["__notes__"])
        return _restore, (type(self), self.args, state)


class ConfigurationError(BmsError):
    """The client cannot be made as asked: something is missing, or settings contradict each other."""


class InvalidRequestError(BmsError, ValueError):
    """An argument breaks a documented rule; nothing was sent.

    Attributes:
        argument: The argument's name, as in the signature.
        value: What was given, None where it may be a secret.
        rule: What would have been right.
    """

    def __init__(self, argument: str, value: object, rule: str) -> None:
        self.argument = argument
        self.value = value
        self.rule = rule
        shown = repr(value)
        if len(shown) > 80:  # noqa: PLR2004 - a line of a terminal
            shown = shown[:76] + "..."
        super().__init__(f"{argument}={shown}: {rule}")


class ForeignCodeError(BmsError):
    """Code that was handed over (a callback, credentials, a source of ids, a transport) raised what is not an error.

    Its ``__cause__`` is what was raised: a cancellation of something that the code waited for, or a `SystemExit`.
    """


class ClientClosedError(BmsError):
    """The client was closed, was never opened, or is used on another event loop: use it inside ``async with``."""


def _restore(kind: type[BmsError], args: tuple[object, ...], state: dict[str, Any]) -> BmsError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error
