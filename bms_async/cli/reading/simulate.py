"""``bms simulator``: serves a simulated cloud, and prints the shell variables that lead to it."""

from __future__ import annotations

import io
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from bms_async.cli.terminal.exit import Code, UsageError, print_error
from bms_async.cli.terminal.output import write

if TYPE_CHECKING:
    from bms_async.simulator.__main__ import Announcement

__all__ = ["simulate"]

_PROGRAM = "bms simulator"
_PRINTS = "the exports that lead to it, or with --json one line with everything needed to log in"


def simulate(arguments: Sequence[str], *, json: bool) -> int:
    """Serve a simulated cloud until a signal ends it.

    Args:
        arguments: Options of the simulator.
        json: Whether to print the simulator's own line of JSON in place of the exports.

    Raises:
        UsageError: The extra is missing.
        OSError: Standard output cannot be written.
    """
    try:
        from bms_async.simulator.__main__ import main, print_announcement
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{error.name} is not installed: pip install 'bms-async[simulator]' brings what the simulator needs"
        ) from error
    if "--help" in arguments or "-h" in arguments:
        text = io.StringIO()
        try:
            # argparse swallows a failure to print the help.
            with redirect_stdout(text):
                return main(arguments, program=_PROGRAM, prints=_PRINTS)
        finally:
            write(text.getvalue())
    failures: list[OSError] = []

    def on_ready(announcement: Announcement) -> None:
        try:
            (print_announcement if json else _print_exports)(announcement)
        except OSError as error:
            failures.append(error)
            # Nobody can read the address: end as on Ctrl-C, which closes all sockets.
            signal.raise_signal(signal.SIGTERM)

    main(arguments, program=_PROGRAM, prints=_PRINTS, on_ready=on_ready)
    if failures:
        raise failures[0]
    return Code.OK


def _print_exports(announcement: Announcement) -> None:
    exports = {
        "BMS_ENDPOINT": announcement.address,
        "OS_PROJECT_ID": announcement.project_id,
        "OS_TOKEN": announcement.token,
    }
    if any(os.environ.get(name) for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")):
        exports["NO_PROXY"] = "127.0.0.1"
    values = " ".join(f"{name}={shlex.quote(value)}" for name, value in exports.items())
    print_error(
        f"a cloud of {announcement.servers:,} servers at {announcement.address}; Ctrl-C ends it. In another terminal:"
    )
    sys.stdout.write(f"export {values}\n")
    sys.stdout.flush()
    print_error("and then: bms login, bms servers list, bms stop --tag rack-1", first="     ")
