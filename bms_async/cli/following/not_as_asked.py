"""The servers that are not as asked at the end of a run: kept in a file, so that none of them is ever lost.

The file is in the state folder, whatever the run was and however it ended, and in a file that the user names as well.
Each line is an id, with its state, its code and its name behind a ``#``: what reads ids from a file reads it. What is
no id, and can be asked for by nobody, is a comment. A screen, or a page, has room for some of the servers only.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bms_async import Outcome, OutcomeState
from bms_async._addresses import state_folder
from bms_async._files import write_atomically
from bms_async.cli.terminal.texts import pluralize, strip_control_chars
from bms_async.cli.terminal.words import shown_code

if TYPE_CHECKING:
    from bms_async.cli.access.known import KnownServers

__all__ = ["NotAsAsked", "ask_again", "keep_list", "list_lines", "name_of_list", "write_list"]

_KEPT_SECONDS = 30 * 86400.0
_MAX_NAME = 80
_BEGINNING = b"# "


class NotAsAsked:
    """The servers of a run that are not as asked, with their reasons; a few bytes each beside their ids."""

    def __init__(self) -> None:
        self._servers: dict[tuple[OutcomeState, str, bool], list[str]] = {}

    def add(self, outcome: Outcome) -> None:
        """Add an outcome, unless it is a success."""
        state = outcome.state
        if state.is_success:
            return
        is_no_id = state is OutcomeState.SKIPPED and isinstance(outcome.error, ValueError)
        self._servers.setdefault((state, outcome.reason, is_no_id), []).append(outcome.server_id)

    def __len__(self) -> int:
        return sum(map(len, self._servers.values()))

    def __iter__(self) -> Iterator[tuple[str, OutcomeState, str, bool]]:
        """Iterate over ids, their states, their reasons, and whether each is no id at all."""
        for (state, reason, is_no_id), servers in self._servers.items():
            for server_id in servers:
                yield server_id, state, reason, is_no_id

    def ids(self) -> Iterator[str]:
        """Iterate over the ids."""
        return (server_id for server_id, _, _, is_no_id in self if not is_no_id)

    def count(self, state: OutcomeState) -> int:
        """Return how many are in a state."""
        return sum(len(servers) for (its_state, _, _), servers in self._servers.items() if its_state is state)


def list_lines(servers: NotAsAsked, known: KnownServers) -> Iterator[str]:
    """Yield the lines of a list.

    Args:
        servers: The servers.
        known: Their names.
    """
    for server_id, state, reason, is_no_id in servers:
        code = "" if reason == state.value else f" {shown_code(reason)}"
        name = known.get(server_id).name
        about = strip_control_chars(f"{state.value}{code}{f' {name}' if name else ''}")
        shown = strip_control_chars(server_id)
        yield f"# {shown} {about}\n" if is_no_id else f"{shown} # {about}\n"


def write_list(path: Path, head: str, lines: Iterable[str]) -> None:
    """Write a list of servers.

    Args:
        path: The file; what was in it before is lost only if the new list could be written.
        head: What it is, for people; one or more lines.
        lines: Its lines.

    Raises:
        OSError: It cannot be written.
    """
    comments = "".join(f"{_BEGINNING.decode()}{strip_control_chars(line)}\n" for line in head.splitlines())
    write_atomically(path, (comments + "".join(lines)).encode(errors="backslashreplace"))


def keep_list(name: str, head: str, lines: Iterable[str]) -> Path:
    """Write a list into the state folder, delete those that are older than 30 days, and return its path.

    Args:
        name: What it is called: the key of its run, or another name.
        head: What it is, for people.
        lines: Its lines.

    Raises:
        OSError: It cannot be written.
    """
    folder = state_folder() / "failed"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{_file_name(name)}.txt"
    write_list(path, head, lines)
    for old in folder.glob("*.txt"):
        # Another command may delete it at the same time.
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > _KEPT_SECONDS and _is_list(old):
                old.unlink()
    return path


def _is_list(path: Path) -> bool:
    """Return whether a file of that folder is a list that was written here, and no file of the user's."""
    with path.open("rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING


def name_of_list(key: str | None, run_id: str | None, verb: str) -> str:
    """Return what the list of a run is called: by its key, which two clouds may both have, else by the time.

    Args:
        key: The key of the run in the journal; None if it is in none.
        run_id: Its id there.
        verb: What it does, in a word.
    """
    if key is None:
        return f"{verb}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}"
    return key if key.startswith("bms-") or run_id is None else f"{key}.{_digest(run_id)}"


def ask_again(operation: str, path: Path, servers: NotAsAsked) -> tuple[str, str]:
    """Return how to ask again for the servers of a list, whose run is in no journal: what for, and the command.

    Args:
        operation: The call that was made.
        path: The file of the list.
        servers: The servers in it.
    """
    file = shlex.quote(str(path))
    command = {"servers": "bms", "nova.servers": "bms nova"}.get(operation.rpartition(".")[0])
    action = operation.rpartition(".")[2]
    if command is None or action not in {"start", "stop", "reboot"}:
        return "to ask again for them, give the same command with this in place of its servers:", f"--file {file}"
    unknown = servers.count(OutcomeState.UNKNOWN)
    if action == "reboot" and unknown:
        what = f"{pluralize(unknown, 'server')} may have been rebooted. To ask again for the others only:"
        return what, f"grep -v '# UNKNOWN' {file} | {command} reboot -"
    return "to ask again for them:", f"{command} {action} --file {file}"


def _file_name(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:_MAX_NAME]
    if plain == name and not name.startswith("."):
        return name
    return f"{plain.lstrip('.')}-{_digest(name)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:8]
