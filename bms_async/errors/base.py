"""The root of all errors, and the errors that are raised before any call."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

E = TypeVar("E", bound=Exception)

_HIDDEN = "***"
_MAX_SHOWN = 80
"""Maximum length of a value's repr in an error text."""


class BmsError(Exception):
    """Base class of everything that this package raises. All of it can be pickled and sent between processes."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By default an exception is rebuilt from its text alone, which no class below accepts.
        state = dict(self.__dict__)
        if "__notes__" in state:
            # Copied, or the copy would share the list with the original.
            state["__notes__"] = list(state["__notes__"])
        return _restore, (type(self), self.args, state)


class ConfigurationError(BmsError):
    """The client cannot be made as asked: something is missing, or settings contradict each other.

    Attributes:
        missing: The settings that are missing, such as ``project``, each with the shortest name that it can be set
            by; empty where something else is wrong.
    """

    missing: Mapping[str, str] = MappingProxyType({})


class InvalidRequestError(BmsError, ValueError):
    """An argument breaks a documented rule; nothing was sent.

    Attributes:
        argument: The argument's name, as in the signature.
        value: The value that was given; None where it may be a secret. For an entry of a fleet's ids that is not a str
            it is the value as the error's text shows it, so that a report keeps no object of the caller's alive.
        rule: What was expected.

    Args:
        argument: The argument's name, as in the signature.
        value: The value that was given.
        rule: What was expected, such as "expected a non-empty str".
        secret: Whether the value may be a secret: it is then neither kept nor shown.
    """

    def __init__(self, argument: str, value: object, rule: str, *, secret: bool = False) -> None:
        self.argument = argument
        self.value = None if secret else value
        self.rule = rule
        super().__init__(f"{argument}={_HIDDEN if secret else show_value(value)}: {rule}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, {**self.__dict__, "value": _make_sendable(self.value)})


class RunNotFoundError(InvalidRequestError):
    """The journal has no durable run of this key in this project."""


class ForeignCodeError(BmsError):
    """Foreign code (a callback, credentials, a source of ids, a transport) raised an exception that is not an error.

    Its ``__cause__`` is that exception: the cancellation of something that the code awaited, or a `SystemExit`.
    """


class JournalError(BmsError):
    """The journal of durable runs cannot be used, or did not answer in time; the call that raised it has sent nothing.

    Its ``__cause__`` is what the database said.
    """


class LeadershipLostError(BmsError):
    """This process does not lead any more: its lease was not renewed in time, or another process has it.

    Attributes:
        name: What it led.
        fence: The fence of its term.
    """

    def __init__(self, message: str, *, name: str, fence: int) -> None:
        self.name = name
        self.fence = fence
        super().__init__(message)


class ClientClosedError(BmsError):
    """The client was closed, was never opened, or is used on another event loop: use it inside ``async with``."""


def show_value(value: object) -> str:
    """Return the repr of a value, cut to one line of a terminal.

    A repr is foreign code, and an exception that it raises must not replace the error that the value is shown in.

    Args:
        value: Anything.
    """
    try:
        shown = repr(value[:_MAX_SHOWN] if isinstance(value, str | bytes) else value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a SystemExit too: a repr must not end the program
        shown = f"<a {type(value).__name__} whose repr raises {type(error).__name__}>"
    return shown if len(shown) <= _MAX_SHOWN else shown[: _MAX_SHOWN - 4] + "..."


def _make_sendable(value: object) -> object:
    """Return the value if it can be pickled, otherwise its repr as an error shows it."""
    import pickle  # noqa: PLC0415 - few programs send errors to other processes

    try:
        pickle.dumps(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a value's pickling is foreign code, and may raise anything
        return show_value(value)
    return value


def _restore(kind: type[BmsError], args: tuple[object, ...], state: dict[str, Any]) -> BmsError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    if notes := state.get("__notes__"):
        # A list of its own: a note that is added to one error must not appear on the other.
        error.__notes__ = list(notes)
    return error


def own_copy(error: E) -> E:
    """Return an equal error with the same cause, to be raised in place of the original.

    Each waiter of a shared result gets an error of its own: a traceback grows with every raise, and a note or an
    attribute that one waiter adds must not appear in another's.

    Args:
        error: The error that is kept.
    """
    try:
        copied = copy.copy(error)
    except Exception:  # noqa: BLE001 - a foreign error may be built from anything but its text
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
