"""What a shell is offered for the values of options: clouds, tags, zones, flavors and runs.

Nothing here asks anything of the user, prints, or fails: whatever goes wrong, nothing is offered. Completion as a whole
ends within 2 s, whatever waits: `ended_in_time` ends the process then.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal, TypeAlias

import click
from click.shell_completion import CompletionItem

from .context import CLOUD

__all__ = ["complete_clouds", "complete_runs", "complete_seen", "ended_in_time", "is_harmless"]

Items: TypeAlias = "list[CompletionItem[Any]]"

_HARMLESS: Final = re.compile(r"[\w@%+=:,./-]+")
_SECONDS: Final = 1.7
_RUNS: Final = 100


@contextmanager
def ended_in_time() -> Iterator[None]:
    """End the process, without an error, if the block takes too long; a look-up of a name cannot be interrupted."""
    from threading import Timer

    timer = Timer(_SECONDS, os._exit, [0])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def is_harmless(name: str) -> bool:
    """Return whether a shell takes a name for one word, and nothing of it for a command.

    bash puts what is offered on the line as it is, so that a tag such as ``$(reboot)``, which anybody may give a server
    of the project, would be run with the line.

    Args:
        name: What would be offered.
    """
    return _HARMLESS.fullmatch(name) is not None


def complete_clouds(_context: click.Context, _parameter: click.Parameter, begun: str) -> Items:
    """Offer the clouds of clouds.yaml."""

    def find() -> Iterable[str]:
        from bms_async.config import read_cloud_names

        return read_cloud_names()

    return _offer(find, begun)


def complete_seen(kind: Literal["tags", "zones", "flavors"]) -> Callable[..., Items]:
    """Return what click asks for what the servers of the cloud have.

    Args:
        kind: What it is.
    """

    def completed(context: click.Context, _parameter: click.Parameter, begun: str) -> Items:
        def find() -> Iterable[str]:
            from .access.seen import find_seen
            from .access.settings import read_settings

            found: Iterable[str] = getattr(find_seen(read_settings(context.meta.get(CLOUD))), kind)
            return sorted(found)

        return _offer(find, begun)

    return completed


def complete_runs(_context: click.Context, _parameter: click.Parameter, begun: str) -> Items:
    """Offer the last runs of the journal of this machine, and ``last``."""

    def find() -> Iterable[str]:
        import sqlite3
        from contextlib import closing

        from bms_async._addresses import state_folder

        # A completion must neither make the file nor wait for whoever writes to it.
        address = f"{(state_folder() / 'runs.db').as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=0.2)) as connection:
            asked = "SELECT run_key FROM bms_async_runs ORDER BY created DESC LIMIT ?"
            return [key for (key,) in connection.execute(asked, (_RUNS,))]

    return [*_offer(lambda: ["last"], begun), *_offer(find, begun)]


def _offer(find: Callable[[], Iterable[str]], begun: str) -> Items:
    with _silence():
        try:
            names = dict.fromkeys(find())
            return [CompletionItem(name) for name in names if name.startswith(begun) and is_harmless(name)]
        except Exception:  # noqa: BLE001 - a shell that completes a word has no room for an error
            return []


@contextmanager
def _silence() -> Iterator[None]:
    """Print nothing to the terminal that a word is typed on: neither errors nor what a command waits for."""
    before = sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - no path, but the name of nothing
        sys.stderr = nowhere
        try:
            yield
        finally:
            sys.stderr = before
