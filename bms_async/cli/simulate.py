"""``bms simulator``: the simulator, with what leads to it in the words of a shell."""

from __future__ import annotations

import io
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TextIO

import msgspec

from .exit import Code, UsageError, print_error
from .output import write

__all__ = ["simulate"]

_PROGRAM = "bms simulator"
_PRINTS = "the exports that lead to it, or with --json one line of all that one can log in with"


class _Line(msgspec.Struct):
    address: str
    project_id: str
    token: str
    servers: int


def simulate(arguments: Sequence[str], *, json: bool) -> int:
    """Serve a simulated cloud until it is told to stop.

    Args:
        arguments: Options of the simulator.
        json: Whether to write its own line of JSON, which has all that can be used to log in.

    Raises:
        UsageError: The extra is missing.
    """
    try:
        from bms_async.simulator.__main__ import main  # noqa: PLC0415 - it needs an extra of its own
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{error.name} is not installed: pip install 'bms-async[simulator]' brings what the simulator needs"
        ) from error
    if "--help" in arguments or "-h" in arguments:
        text = io.StringIO()
        try:
            # What prints the help keeps it to itself if that fails.
            with redirect_stdout(text):
                return main(arguments, program=_PROGRAM, prints=_PRINTS)
        finally:
            write(text.getvalue())
    with redirect_stdout(_Told(sys.stdout) if json else _Exports(sys.stdout)) as told:
        main(arguments, program=_PROGRAM, prints=_PRINTS)
    if told.failure is not None:
        raise told.failure
    return Code.OK


class _Told(io.TextIOBase):
    """Takes the line of JSON by which the simulator says that it is ready, and ends it where nobody can read that.

    Attributes:
        failure: Why it could not be written.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.failure: OSError | None = None

    def write(self, text: str, /) -> int:
        """Take the line."""
        try:
            self._tell(text)
        except OSError as error:
            self.failure = error
            # It takes that as it takes Ctrl-C, and leaves nothing open.
            signal.raise_signal(signal.SIGTERM)
        return len(text)

    def _tell(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    def flush(self) -> None:
        """Do nothing: it is written already."""


class _Exports(_Told):
    """Turns that line into exports."""

    def _tell(self, text: str) -> None:
        told = msgspec.json.decode(text, type=_Line)
        exports = {"BMS_ENDPOINT": told.address, "OS_PROJECT_ID": told.project_id, "OS_TOKEN": told.token}
        if any(os.environ.get(name) for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")):
            exports["NO_PROXY"] = "127.0.0.1"
        values = " ".join(f"{name}={shlex.quote(value)}" for name, value in exports.items())
        print_error(f"a cloud of {told.servers:,} servers at {told.address}; Ctrl-C ends it. In another terminal:")
        self._out.write(f"export {values}\n")
        self._out.flush()
        print_error("and then: bms login, bms servers list, bms stop --tag rack-1", first="     ")
