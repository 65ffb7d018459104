"""The command ``bms``: lists servers, stops, starts and reboots any number of them, watches jobs, shows limits.

It needs the extra ``cli``. The code of a command is imported when it is run, so that help and completion are quick.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence

from bms_async._extras import require

from .terminal.streams import flush_output, print_error, repair_streams

__all__ = ["main"]

_NEEDED = {"click", "jinja2", "rich"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    Args:
        arguments: The arguments after ``bms``; those of the process by default.
    """
    is_process = arguments is None
    if is_process:
        # Nothing that is imported is ever garbage: what runs for longer collects from `run_interruptibly` on.
        gc.disable()
    repair_streams()
    code = flush_output(_run(arguments))
    if is_process:
        # The system takes back all memory at once; Python would look through each object first.
        gc.freeze()
    return code


def _run(arguments: Sequence[str] | None) -> int:
    try:
        from .app import run_app

        # Before a command begins what it could not show; most commands never import it.
        require("rich")

        return run_app(arguments)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        print_error(f"{error.name} is not installed: pip install 'bms-async[cli]' brings what bms needs")
        return 2
    except KeyboardInterrupt:
        # Ctrl-C before the signal handler is installed.
        return 130
