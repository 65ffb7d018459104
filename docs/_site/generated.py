"""Files that are made of the code: written anew, or compared with what the code makes of them."""

from __future__ import annotations

import sys
from pathlib import Path

from bms_async._files import write_atomically


def update(path: Path, text: str, *, check: bool, command: str) -> int:
    """Write a file or compare it, and return the exit status: 1 if it was to be compared and is stale or missing.

    Args:
        path: The file.
        text: What the code makes of it.
        check: Whether to compare only.
        command: The command that writes it, for the message.
    """
    before = path.read_text(encoding="utf-8") if path.exists() else None
    if before == text:
        return 0
    if check:
        what = "does not exist" if before is None else f"is stale ({_first_difference(before, text)})"
        sys.stderr.write(f"{path} {what}; write it with: {command}\n")
        return 1
    write_atomically(path, text.encode(), mode=0o644)
    sys.stdout.write(f"wrote {path}\n")
    return 0


def _first_difference(before: str, after: str) -> str:
    old, new = before.splitlines(), after.splitlines()
    number = next(
        (at for at, (was, now) in enumerate(zip(old, new, strict=False)) if was != now), min(len(old), len(new))
    )
    return f"from line {number + 1} on"
