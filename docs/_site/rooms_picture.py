"""The picture of the rooms, ``docs/assets/rooms.svg``, drawn from the import contract in ``pyproject.toml``.

::

    python -m docs._site.rooms_picture            # draw it anew
    python -m docs._site.rooms_picture --check    # end with 1 when it is stale
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from docs._site.generated import update

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "assets" / "rooms.svg"

COMMAND = "python -m docs._site.rooms_picture"

_CONTRACT = "imports point one way"
_PACKAGE = "bms_async."
_WIDTH = 760
_HEIGHT = 34
_GAP = 14
_WORDS: Mapping[str, str] = {
    "cli": "the command bms",
    "testing": "what users test with",
    "client": "BmsClient",
    "view": "with_options",
    "config": "environment, clouds.yaml, endpoints",
    "fleet": "any number of servers, one outcome each",
    "api": "one module a resource",
    "jobs": "one watcher polls all jobs",
    "session": "one call: slot, credentials, send, read, retry",
    "limits": "rate limiter",
    "auth": "credentials",
    "transport": "connections",
    "telemetry": "OpenTelemetry",
    "wire": "HTTP messages as bytes",
    "hooks": "events",
    "validation": "arguments, before anything is sent",
    "redaction": "secrets",
    "errors": "the exceptions",
    "models": "what travels",
    "errorcodes": "the cloud's codes",
}
_STYLE = (
    "text { font: 13px sans-serif; fill: #1c2b2a; } .words { font-size: 11px; fill: #51605f; }"
    " rect { fill: #e8f3f1; stroke: #00796b; } .private rect { fill: #f4f4f4; stroke: #9aa5a4; }"
    " @media (prefers-color-scheme: dark) { text { fill: #e3ecea; } .words { fill: #a9b8b6; }"
    " rect { fill: #12312d; stroke: #4db6ac; } .private rect { fill: #262b2b; stroke: #6b7776; } }"
)


def read_layers(project: str) -> list[list[str]]:
    """Return the rooms of the import contract, from the top layer down.

    Args:
        project: The text of ``pyproject.toml``.
    """
    contracts = tomllib.loads(project)["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["name"] == _CONTRACT)
    return [[room.strip("() ").removeprefix(_PACKAGE) for room in layer.split("|")] for layer in layers]


def draw(layers: Sequence[Sequence[str]]) -> str:
    """Return the picture.

    Args:
        layers: The rooms, from the top layer down.
    """
    height = len(layers) * (_HEIGHT + _GAP) + _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        "<title>The rooms of bms_async; imports point down</title>",
        f"<style>{_STYLE}</style>",
    ]
    for number, rooms in enumerate(layers):
        top = _GAP + number * (_HEIGHT + _GAP)
        width = (_WIDTH - _GAP * (len(rooms) + 1)) / len(rooms)
        for index, room in enumerate(rooms):
            left = _GAP + index * (width + _GAP)
            words = _WORDS.get(room, "")
            middle, kind = left + width / 2, ' class="private"' if room.startswith("_") else ""
            baseline = top + (_HEIGHT / 2 - 2 if words else _HEIGHT / 2 + 4)
            parts.append(
                f'<g{kind}><rect x="{left:.0f}" y="{top}" width="{width:.0f}" height="{_HEIGHT}" rx="4"/>'
                f'<text x="{middle:.0f}" y="{baseline:.0f}" text-anchor="middle">{escape(room)}</text>'
                f'<text class="words" x="{middle:.0f}" y="{top + _HEIGHT - 6}" text-anchor="middle">'
                f"{escape(words)}</text></g>"
            )
    return "\n".join([*parts, "</svg>", ""])


def main(arguments: Sequence[str] | None = None, *, picture: Path = PICTURE) -> int:
    """Draw the picture, or check the one that is there.

    Returns:
        1 if it is stale or missing, otherwise 0.
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description="Draw docs/assets/rooms.svg from pyproject.toml.")
    parser.add_argument("--check", action="store_true", help="change nothing, and end with 1 when it is stale")
    check = parser.parse_args(arguments).check
    drawn = draw(read_layers((ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    return update(picture, drawn, check=check, command=COMMAND)


if __name__ == "__main__":
    sys.exit(main())
