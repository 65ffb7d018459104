"""Files that a command writes."""

from __future__ import annotations

import os
from pathlib import Path

from .exit import UsageError

__all__ = ["check_output_file"]


def check_output_file(option: str, path: str | None) -> None:
    """Refuse an output file that cannot be written, before anything is changed.

    Args:
        option: The option that names it.
        path: The file; None if none is.

    Raises:
        UsageError: It cannot be written.
    """
    if path is None:
        return
    if not Path(path).absolute().parent.is_dir():
        raise UsageError(f"{option} {path}: its folder does not exist; create it, or name another file")
    if not path or (Path(path).exists() and not Path(path).is_file()):
        raise UsageError(f"{option} {path!r}: not a regular file; name another one")
    if not os.access(Path(path).absolute().parent, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {path}: its folder cannot be written; name another file")
