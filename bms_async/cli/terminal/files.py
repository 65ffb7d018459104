"""Files that a command reads and writes."""

from __future__ import annotations

import codecs
import errno
import os
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Final

from .exit import UsageError

__all__ = ["check_output_file", "read_bounded", "read_file"]

_MOST: Final = 512 << 20
_PIECE: Final = 1 << 20
_WIDE: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_file(file: str) -> bytes:
    """Return the bytes of a file, a pipe or a device, as `read_bounded` does.

    Args:
        file: Its path.

    Raises:
        OSError: It cannot be read, or has too much.
    """
    with Path(file).open("rb", buffering=0) as stream:
        return read_bounded(stream)


def read_bounded(stream: BinaryIO | FileIO) -> bytes:
    """Return what is left of a stream that has text; of one that begins with other bytes the beginning alone.

    Some have no end, such as ``/dev/zero``: the memory of the machine is not theirs.

    Args:
        stream: The stream.

    Raises:
        OSError: It cannot be read, or has more than 512 MiB.
    """
    pieces, size = list[bytes](), 0
    while piece := stream.read(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > _MOST:
            raise OSError(errno.EFBIG, f"it has more than {_MOST >> 20} MiB")
        if b"\0" in piece and not pieces[0].startswith(_WIDE):
            break
    return b"".join(pieces)


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
