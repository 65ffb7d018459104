"""Asks before something is done that may do harm."""

from __future__ import annotations

import sys
from typing import Final

import anyio
import anyio.to_thread

from .exit import UsageError, print_error

__all__ = ["confirm", "confirm_number"]

_OTHERWISE: Final = "confirm with --yes, or see the plan with --plan"


async def confirm(question: str, *, otherwise: str = _OTHERWISE) -> None:
    """Ask a question, and return only after a yes.

    Args:
        question: The question.
        otherwise: What to do where there is no terminal to ask on.

    Raises:
        UsageError: The reply was another, or there is no terminal to ask on.
    """
    reply = await _ask(question, "[y/N]", otherwise=otherwise)
    if reply.lower() not in {"y", "yes"}:
        raise UsageError("nothing was done")


async def confirm_number(question: str, number: int) -> None:
    """Ask a question about something that cannot be undone, and return only after the number was typed.

    Args:
        question: The question.
        number: How many servers it is about.

    Raises:
        UsageError: The reply was another, or there is no terminal to ask on.
    """
    how = f"Type {number} to go on:"
    reply = await _ask(question, how, otherwise=_OTHERWISE)
    if reply.replace(",", "") != str(number):
        raise UsageError("nothing was done")


async def _ask(question: str, how: str, *, otherwise: str) -> str:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{question} There is no terminal to ask on: {otherwise}")
    sys.stderr.write(f"{question} {how} ")
    sys.stderr.flush()
    reply = await _read_line()
    if not reply.endswith("\n"):
        print_error("", first="")
    return reply.strip()


async def _read_line() -> str:
    if sys.platform == "win32":
        # A loop there waits for sockets alone. Ctrl-C leaves the thread behind, which ends with the process.
        return await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    # A terminal delivers whole lines, so that `readline` does not block.
    await anyio.wait_readable(sys.stdin)
    return sys.stdin.readline()
