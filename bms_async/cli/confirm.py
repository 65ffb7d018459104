"""Asking before something is done to more than one server."""

from __future__ import annotations

import sys

import anyio

from .exit import UsageError, print_error

__all__ = ["confirm"]


async def confirm(question: str) -> None:
    """Ask, and go on only after a yes.

    Raises:
        UsageError: The answer was another, or nobody can be asked.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{question} There is nobody to ask: if so, add --yes (--dry-run tells more)")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    # A terminal hands over whole lines, so that reading one does not wait.
    await anyio.wait_readable(sys.stdin)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        print_error("", first="")
    if answer.strip().lower() not in {"y", "yes"}:
        raise UsageError("nothing was done")
