"""Decompression of bodies in chunks, so that a compression bomb neither fills memory nor blocks the loop."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

CHUNK_SIZE = 2**18
"""The largest chunk that is decompressed at once, in bytes."""

_GZIP = frozenset({"gzip", "x-gzip"})
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class Decompressor:
    """Decompresses one body of gzip, or of deflate in either of the two forms that servers send."""

    __slots__ = ("_begun", "_inflate", "_may_be_raw")

    def __init__(self, encoding: str) -> None:
        self._inflate = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._may_be_raw = encoding not in _GZIP
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decompressed chunks of some data.

        Raises:
            zlib.error: The data is invalid.
        """
        while data and not self._inflate.eof:
            try:
                chunk = self._inflate.decompress(data, CHUNK_SIZE)
            except zlib.error:
                if self._begun or not self._may_be_raw:
                    raise
                self._inflate, self._may_be_raw = zlib.decompressobj(-zlib.MAX_WBITS), False
                continue
            self._begun = True
            data = self._inflate.unconsumed_tail
            yield chunk

    def finish(self) -> None:
        """Check that the end of the body was reached.

        Raises:
            zlib.error: The body is truncated.
        """
        if self._begun and not self._inflate.eof:
            raise zlib.error("the compressed body is truncated")


def make_decompressor(encoding: str | None) -> Decompressor | None:
    """Return the decompressor of a content encoding; None for a body to leave as it is."""
    name = (encoding or "").strip().lower()
    return Decompressor(name) if name in _GZIP or name == "deflate" else None
