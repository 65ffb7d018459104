"""Readiness checks: whether a server that was restarted is well again.

A check is a coroutine function of a `Server`. True means well; False, or an exception, means not yet. Anything else is
a fault of the function, and no reason to ask once more: a function that forgets its ``return`` would never be well.

The checks here note what they asked and what was answered, for the error of a server that is not well in time. They
note it in a context variable, so that a function of the application's that calls one of them needs to do nothing for
it. Rejected: raising it, for ``await one(server) or await other(server)`` would never come to the other one.
"""

from __future__ import annotations

from contextvars import ContextVar
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Final, NamedTuple, cast

import msgspec

from bms_async._foreign import call_foreign
from bms_async._plain_errors import text_of
from bms_async.models import Server

from .rollout import Check

_MAX_NAME: Final = 80


class Answer(NamedTuple):
    """What a check has asked a server and what was answered.

    Attributes:
        asked: Such as ``tcp 22 at 192.168.0.7``.
        answered: Such as ``connection refused``; None if the server is well.
        is_fault: Whether the check itself is wrong, so that it need not be repeated.
    """

    asked: str
    answered: str | None = None
    is_fault: bool = False


_notes: ContextVar[list[Answer] | None] = ContextVar("bms_async answers to a readiness check", default=None)


class OwnCheck(msgspec.Struct, frozen=True):
    """A check of this package, which notes what was answered."""

    def describe(self) -> str:
        """Return what is asked of any server."""
        raise NotImplementedError


def note(answer: Answer) -> None:
    """Note what was answered, for the `ask` that this is called in."""
    notes = _notes.get()
    if notes is not None:
        notes.append(answer)


def describe(check: object) -> str:
    """Return what a check asks: of a foreign function its name.

    Args:
        check: The check.
    """
    # By its type: to ask a foreign object for an attribute, even for its class, is to run foreign code.
    kind = type(check)
    if issubclass(kind, OwnCheck):
        return cast("OwnCheck", check).describe()
    named = kind in (FunctionType, MethodType, BuiltinFunctionType)
    name = cast("FunctionType", check).__qualname__ if named else kind.__qualname__
    return f"{name[-_MAX_NAME:]}()"


async def ask(check: Check, server: Server) -> Answer:
    """Make a check once, and return what was asked and answered.

    Args:
        check: The check, which may raise anything; what it raises is its answer.
        server: The server.

    Raises:
        CancelledError: The current task was cancelled.
    """
    notes: list[Answer] = []
    token = _notes.set(notes)
    asked = describe(check)
    try:
        is_well: object = await call_foreign("the readiness check", check, server)
    except Exception as error:  # noqa: BLE001 - whatever it is, the server is not known to be well
        text = text_of(error)
        return Answer(asked, f"{type(error).__name__}: {text}" if text else type(error).__name__)
    finally:
        _notes.reset(token)
    if is_well is True:
        return Answer(asked)
    if is_well is False:
        return notes[-1] if notes else Answer(asked, "returned False")
    found = "None" if is_well is None else f"a value of type {type(is_well).__name__}"
    return Answer(asked, f"returned {found}, expected True or False", is_fault=True)
