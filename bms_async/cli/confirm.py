"""Asks before something is done that may do harm."""

from __future__ import annotations

import sys

import anyio

from .exit import UsageError, print_error

__all__ = ["confirm"]


async def confirm(question: str, *, otherwise: str = "confirm with --yes, or see the plan with --plan") -> None:
    """Ask a question, and return only after a yes.

    Args:
        question: The question.
        otherwise: What to do where there is no terminal to ask on.

    Raises:
        UsageError: The reply was another, or there is no terminal to ask on.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{question} There is no terminal to ask on: {otherwise}")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    # A terminal delivers whole lines, so that `readline` does not block.
    await anyio.wait_readable(sys.stdin)
    reply = sys.stdin.readline()
    if not reply.endswith("\n"):
        print_error("", first="")
    if reply.strip().lower() not in {"y", "yes"}:
        raise UsageError("nothing was done")
