"""The picture of the progress of ``bms``, ``docs/assets/progress.svg``, drawn from a run against the simulated cloud.

What it shows has happened: a rollout is carried out on the virtual clock, and what is drawn is what the command draws
in the middle of it, on a terminal of 80 columns. The fonts are those of whoever looks at it; nothing is fetched.

::

    python -m docs._site.progress_picture            # draw it anew
    python -m docs._site.progress_picture --check    # end with 1 when it is stale
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import anyio
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from bms_async import Rollout, tcp_open
from bms_async.cli.following.display import Display
from bms_async.cli.following.followed import MemoryRun
from bms_async.cli.terminal.progress import Screen
from bms_async.fleet.rollout import probes, readiness
from bms_async.testing import CloudSettings, SimulatedCloud, run_virtually
from docs._site.generated import update

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "assets" / "progress.svg"

COMMAND = "python -m docs._site.progress_picture"

SETTINGS = CloudSettings(
    servers=300, rack_size=20, seed=2, fail_share=0.01, job_seconds=(30.0, 90.0), boot_seconds=(20.0, 60.0)
)
OPTIONS = (
    "bms reboot --tag prod --group-by az --max-unavailable 10% --ready tcp:22 \\",
    "           --settle 30 --report tonight.html",
)
ROLLOUT = Rollout(group_by="availability_zone", max_unavailable=0.1, ready=tcp_open(22), settle=30)
"""The same."""

_LOOKED_AT = 240.0
_TICK = 1.0
_COLUMNS = 80
_ASPECT = 0.6
_DARK, _RED, _GREEN, _YELLOW = (20, 28, 28), (239, 83, 80), (77, 182, 120), (230, 180, 80)
_BLUE, _MAGENTA, _CYAN, _LIGHT = (90, 150, 220), (190, 120, 200), (77, 182, 172), (222, 230, 228)
_COLOURS = [_DARK, _RED, _GREEN, _YELLOW, _BLUE, _MAGENTA, _CYAN, _LIGHT]
_THEME = TerminalTheme(_DARK, _LIGHT, _COLOURS, [(110, 125, 123), *_COLOURS[1:]])
_FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>The progress of bms reboot in the middle of a rollout</title>
<style>
.{unique_id}-matrix {{ font: {char_height}px Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre; }}
.{unique_id}-title {{ display: none; }}
{styles}
</style>
<defs>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


async def play() -> list[Text]:
    """Carry the rollout out, and return what the terminal shows in the middle of it."""
    cloud = SimulatedCloud(SETTINGS)
    screen = Screen()
    screen.console = Console(file=StringIO(), width=_COLUMNS, force_terminal=True)
    async with cloud.client() as bms, AsyncExitStack() as stack:
        servers = [server async for server in bms.servers.list()]
        at = {address: server for server in servers for address in probes.addresses_of(server, "fixed", None)}

        async def ask_tcp(address: str, *_: object) -> str | None:
            return None if await cloud.reachable(at[address]) else "connection refused"

        # The simulated cloud has no ports, but says which servers are well again.
        stack.enter_context(patch.object(readiness, "ask_tcp", ask_tcp))
        run = bms.fleet.reboot(servers, rollout=ROLLOUT)
        display = Display(
            "reboot",
            MemoryRun(run, [], verb="reboot", operation="servers.reboot"),
            bms,
            screen,
            operation="servers.reboot",
            polls="jobs.get",
            wave=None,
            batch=1000,
            servers=len(servers),
        )

        async def consume() -> None:
            async for outcome in run:
                display.failures.add(outcome)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            while anyio.current_time() - display.began < _LOOKED_AT:
                display.sample()
                await anyio.sleep(_TICK)
            lines = display.block()
            tasks.cancel_scope.cancel()
        run.cancel(detach=True)
    typed = [Text(line) for line in OPTIONS]
    typed[0] = Text.assemble(("$ ", "bright_black"), typed[0])
    typed[1] = Text("  ") + typed[1]
    for line in lines:
        line.truncate(screen.width, overflow="ellipsis")
    return [*typed, *lines]


def draw(lines: Sequence[Text]) -> str:
    """Return the picture.

    Args:
        lines: What the terminal shows.
    """
    console = Console(
        file=StringIO(),
        record=True,
        width=_COLUMNS,
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)
    drawn = console.export_svg(
        title="", theme=_THEME, code_format=_FORMAT, font_aspect_ratio=_ASPECT, unique_id="progress"
    )
    return "\n".join(line.rstrip() for line in drawn.splitlines() if line.strip()) + "\n"


def main(arguments: Sequence[str] | None = None, *, path: Path = PICTURE) -> int:
    """Draw the picture, or check the one that is there.

    Returns:
        1 if it is to be checked and is stale or missing, otherwise 0.
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description="Draw docs/assets/progress.svg from a simulated run.")
    parser.add_argument("--check", action="store_true", help="change nothing, and end with 1 when it is stale")
    check = parser.parse_args(arguments).check
    return update(path, draw(run_virtually(play)), check=check, command=COMMAND)


if __name__ == "__main__":
    sys.exit(main())
