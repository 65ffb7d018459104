"""What all errors have in common, and those that come before any call."""

from __future__ import annotations

import copy
import pickle
from typing import Any, TypeVar

E = TypeVar("E", bound=Exception)

_LONGEST_SHOWN = 80
"""Characters of a value that an error shows."""


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
        value: What was given, None where it may be a secret. Of an entry of a fleet's ids that is no text it is what
            the error's text shows, so that a report does not hold what belongs to the caller.
        rule: What would have been right.
    """

    def __init__(self, argument: str, value: object, rule: str) -> None:
        self.argument = argument
        self.value = value
        self.rule = rule
        super().__init__(f"{argument}={show_value(value)}: {rule}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, {**self.__dict__, "value": _make_sendable(self.value)})


class ForeignCodeError(BmsError):
    """Code that was handed over (a callback, credentials, a source of ids, a transport) raised what is not an error.

    Its ``__cause__`` is what was raised: a cancellation of something that the code waited for, or a `SystemExit`.
    """


class ClientClosedError(BmsError):
    """The client was closed, was never opened, or is used on another event loop: use it inside ``async with``."""


def show_value(value: object) -> str:
    """Return the repr of a value as an error shows it, in a line of a terminal at most.

    A repr is foreign code, and what it raises must not take the place of the error that the value is shown in.

    Args:
        value: Anything.
    """
    try:
        shown = repr(value[:_LONGEST_SHOWN] if isinstance(value, str | bytes) else value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a SystemExit too: it is the value's and not the program's
        shown = f"<a {type(value).__name__} whose repr raises {type(error).__name__}>"
    return shown if len(shown) <= _LONGEST_SHOWN else shown[: _LONGEST_SHOWN - 4] + "..."


def _make_sendable(value: object) -> object:
    """Return a value that can be pickled: the value itself, or what an error shows of it."""
    try:
        pickle.dumps(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - what takes a value apart is foreign code, and raises anything
        return show_value(value)
    return value


def _restore(kind: type[BmsError], args: tuple[object, ...], state: dict[str, Any]) -> BmsError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    if notes := state.get("__notes__"):
        # The copy's own: who adds a note to one error adds it to no other.
        error.__notes__ = list(notes)
    return error


def own_copy(error: E) -> E:
    """Return an equal error to raise, with the same cause.

    An error that several waiters get is one for each of them: a traceback grows with every raise, and who writes on
    an error writes on nobody else's.

    Args:
        error: The error that is kept.
    """
    try:
        copied = copy.copy(error)
    except Exception:  # noqa: BLE001 - one of other code may be made of anything but its text
        copied = error
    if copied is error or type(copied) is not type(error):
        copied = type(error).__new__(type(error), *error.args)
        copied.args = error.args
        copied.__dict__.update(error.__dict__)
    if notes := getattr(error, "__notes__", None):
        copied.__notes__ = list(notes)
    copied.__cause__ = error.__cause__
    copied.__suppress_context__ = error.__suppress_context__
    return copied
