"""What the command looks like: run whole in this process, on a virtual clock, in a simulated cloud, on a terminal."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import time
from collections.abc import Coroutine, Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple, cast

import anyio
import pyte
import pytest

from bms_async import Limits, cli
from bms_async.cli.access import cloud as access
from bms_async.cli.following import display, follow, followed
from bms_async.cli.terminal.progress import Screen
from bms_async.client import BmsClient
from bms_async.testing import SimulatedCloud
from tests.support.virtual_clock import PatientLoop

__all__ = ["Look", "Looks"]

_UNSET: Final = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TERM", "XTERM_VERSION", "HOME")
_OURS: Final = ("BMS_", "OS_", "HUAWEICLOUD_", "XDG_")
_HIGHEST: Final = 200


class Look(NamedTuple):
    """What an operator has in front of them.

    Attributes:
        columns: The width of the terminal; 0 for a pipe.
        exports: Variables that are set beside those of the cloud.
        at: Seconds of the command's time at which the screen is taken; None for its end.
        has_marks: Whether bold and coloured texts have marks around them.
    """

    columns: int = 80
    exports: Mapping[str, str] = {}
    at: float | None = None
    has_marks: bool = False


class _Tty(io.StringIO):
    """A stream that says it is a terminal, and has no number: its width is that of COLUMNS."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class _Pipe(io.StringIO):
    encoding = "utf-8"


class Looks:
    """Takes pictures of the command as texts, the same ones on any machine.

    Args:
        cloud: The cloud.
        folder: Where the command keeps what it keeps.
        patch: Undone by whoever made it.
    """

    def __init__(self, cloud: SimulatedCloud, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._cloud = cloud
        self._folder = folder
        self._patch = patch
        # Each as wide as what it stands for, so that lines end where they do.
        self._volatile = (
            (re.escape(str(folder)), "/home/user/.state"[: len(str(folder))]),
            (r"\b20[2-9]\d-\d\d-\d\d(?=[T ]\d\d:\d\d)", "2026-03-07"),
            (r"(?<=2026-03-07[T ])\d\d:\d\d:\d\d", "22:00:03"),
            (r"(?<=2026-03-07[T ])\d\d:\d\d(?![:\d])", "22:00"),
            (r"\b20\d{6}-\d{6}-[0-9a-f]{4}\b", "20260307-220003-5e1f"),
            (r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun)(?= 2026-03-07)", "Sat"),
            # The digest of a run's id.
            (r"(?<=/kernel-42\.)[0-9a-f]{8}\b", "5e1f5e1f"),
            # How long ago a run was, by the clock of this machine.
            (r"(?m)(?<=40/40   )\d:\d\d$", "0:01"),
            (r"\b\d+ polls\b", "99 polls"),
        )

    def __call__(self, look: Look, *arguments: str, presses: tuple[float, ...] = ()) -> str:
        """Run a command, and return what is to be seen.

        Args:
            look: On what.
            arguments: Its arguments.
            presses: Seconds of its time at which Ctrl-C is pressed.
        """
        self._set_up(look, presses)
        out, err = (_Tty(), _Tty()) if look.columns else (_Pipe(), _Pipe())
        if look.columns:
            # On one terminal, in the order in which they were written.
            err = out
        taken: list[str] = []
        draw = Screen.draw

        async def draw_and_look(screen: Screen, lines: Any) -> None:
            await draw(screen, lines)
            if look.at is not None and not taken and anyio.current_time() >= look.at:
                taken.append(out.getvalue())
                # The rest of the run would take most of the time, and nobody looks at it.
                self._running.cancel()

        self._patch.setattr(Screen, "draw", draw_and_look)
        with ExitStack() as stack:
            stack.enter_context(redirect_stdout(out))
            stack.enter_context(redirect_stderr(err))
            code = None
            with suppress(asyncio.CancelledError):
                code = cli.main(list(arguments))
        assert bool(taken) is (look.at is not None), f"it ended with {code} before anybody looked"
        typed = " ".join(arguments)
        seen, said = self._steady(taken[0] if taken else out.getvalue()), self._steady(err.getvalue())
        if look.columns:
            shown, end = _screen(seen, look), "going on" if taken else f"exit {code}"
        else:
            shown, end = f"{seen}--- standard error\n{said}", f"exit {code}"
        return re.sub(r"[ \t]+(?=\n)", "", f"$ bms {typed}\n{shown}--- {end}\n")

    def _set_up(self, look: Look, presses: tuple[float, ...]) -> None:
        for name in [name for name in os.environ if name in _UNSET or name.startswith(_OURS)]:
            self._patch.delenv(name)
        state = {"XDG_STATE_HOME": str(self._folder), "XDG_CONFIG_HOME": str(self._folder)}
        state["TZ"] = "UTC"
        terminal = {"COLUMNS": str(look.columns), "LINES": "60", "TERM": "xterm-256color"} if look.columns else {}
        for name, value in {**state, **terminal, **look.exports}.items():
            self._patch.setenv(name, value)
        time.tzset()
        made = BmsClient.from_settings

        def reach(settings: Any, *, limits: Any, runs: Any, transport: Any) -> BmsClient:
            client = made(settings, limits=limits, runs=runs, transport=transport or self._cloud.transport())
            client._core.random = Random(7)
            return client

        self._patch.setattr(access, "BmsClient", type("Reaching", (), {"from_settings": staticmethod(reach)}))
        self._patch.setattr(access, "_own_limits", lambda _settings: Limits())
        # Between two of its ticks, where no rounding decides which of them are in it.
        self._patch.setattr(display, "_RATE_SECONDS", 9.9)

        def run(main: Coroutine[Any, Any, int]) -> int:
            async def pressed() -> int:
                loop, self._running = asyncio.get_running_loop(), cast("asyncio.Task[int]", asyncio.current_task())
                for at in presses:
                    loop.call_later(at, signal.raise_signal, signal.SIGINT)
                return await main

            with asyncio.Runner(loop_factory=PatientLoop) as runner:
                return runner.run(pressed())

        self._patch.setattr(asyncio, "run", run)
        self._patch.setattr(
            followed,
            "name_of_list",
            lambda _key, _id, verb: f"{verb}-20260307-220003-42",
        )
        # Else most of the time goes into frames that nobody sees.
        self._patch.setattr(follow, "_TICK", 1.0)

    def _steady(self, text: str) -> str:
        """Return a text without what another machine or another day changes in it."""
        for found, shown in self._volatile:
            text = re.sub(found, shown, text)
        return text


def _screen(text: str, look: Look) -> str:
    screen = pyte.Screen(look.columns, _HIGHEST)
    pyte.Stream(screen).feed(text.replace("\n", "\r\n"))
    lines = [_marked(screen, row) for row in range(_HIGHEST)] if look.has_marks else screen.display
    while lines and not lines[-1].strip():
        lines.pop()
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _marked(screen: pyte.Screen, row: int) -> str:
    parts, before = list[str](), ""
    for column in range(screen.columns):
        char = screen.buffer[row][column]
        colour = "" if char.fg == "default" else char.fg
        mark = " ".join(filter(None, ["bold" if char.bold else "", colour]))
        if mark != before:
            parts += ["[/]" if before else "", f"[{mark}]" if mark else ""]
            before = mark
        parts.append(char.data)
    return "".join([*parts, "[/]" if before else ""])
