"""Bodies that come packed, unpacked a piece at a time, so that nobody's bomb fills the memory or holds the loop."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

CHUNK_SIZE = 2**18
"""No piece is larger, however small what it was packed into."""

_GZIP = frozenset({"gzip", "x-gzip"})
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class Decompressor:
    """Unpacks one body that is packed with gzip, or with deflate in either of the two forms that servers send."""

    __slots__ = ("_begun", "_inflate", "_may_be_raw")

    def __init__(self, encoding: str) -> None:
        self._inflate = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._may_be_raw = encoding not in _GZIP
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what so much of it unpacks to.

        Raises:
            zlib.error: It is not packed so.
        """
        while data and not self._inflate.eof:
            try:
                piece = self._inflate.decompress(data, CHUNK_SIZE)
            except zlib.error:
                if self._begun or not self._may_be_raw:
                    raise
                self._inflate, self._may_be_raw = zlib.decompressobj(-zlib.MAX_WBITS), False
                continue
            self._begun = True
            data = self._inflate.unconsumed_tail
            yield piece

    def finish(self) -> None:
        """See that the end was reached.

        Raises:
            zlib.error: It was not.
        """
        if self._begun and not self._inflate.eof:
            raise zlib.error("it ends in the middle")


def make_decompressor(encoding: str | None) -> Decompressor | None:
    """Return what unpacks an encoding; None for a body that is to be left as it is."""
    name = (encoding or "").strip().lower()
    return Decompressor(name) if name in _GZIP or name == "deflate" else None
