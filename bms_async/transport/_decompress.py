"""Decompression of bodies in chunks, so that a compression bomb neither fills memory nor blocks the loop."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

CHUNK_SIZE = 2**18
"""The largest chunk that is decompressed at once, in bytes."""

_GZIP = frozenset({"gzip", "x-gzip"})
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_GZIP_ONLY = 16 + zlib.MAX_WBITS
_DEFLATE_HEADER_SIZE = 2
_SLICE_SIZE = 2**13


class Decompressor:
    """Decompresses one body of gzip, or of deflate in either of the two forms that servers send.

    A body of gzip may have several members, one after another, and zeros behind the last one.
    """

    __slots__ = ("_begun", "_held", "_inflate", "_is_gzip", "_may_be_raw")

    def __init__(self, encoding: str) -> None:
        self._inflate = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._is_gzip = encoding in _GZIP
        self._may_be_raw = not self._is_gzip
        self._begun = False
        self._held = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decompressed chunks of some data.

        Raises:
            zlib.error: The data is invalid.
        """
        if self._may_be_raw and not self._begun:
            # The two forms of deflate differ in the first two bytes, which may arrive one by one.
            data = self._held + data
            self._held = data if len(data) < _DEFLATE_HEADER_SIZE else b""
            if self._held:
                return
        while data:
            if self._inflate.eof and len(data) > _SLICE_SIZE:
                # zlib copies what is left at each end of a member, which may be twenty bytes on.
                for start in range(0, len(data), _SLICE_SIZE):
                    yield from self.feed(data[start : start + _SLICE_SIZE])
                return
            if self._inflate.eof and not (data := self._begin_member(data)):
                return
            try:
                chunk = self._inflate.decompress(data, CHUNK_SIZE)
            except zlib.error:
                if self._begun or not self._may_be_raw:
                    raise
                self._inflate, self._may_be_raw = zlib.decompressobj(-zlib.MAX_WBITS), False
                continue
            self._begun = True
            data = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
            if chunk:
                yield chunk

    def _begin_member(self, data: bytes) -> bytes:
        """Return the data of the next member, after the end of one; empty if there is none."""
        data = data.lstrip(b"\0") if self._is_gzip else b""
        if data:
            self._inflate = zlib.decompressobj(_GZIP_ONLY)
        return data

    def finish(self) -> None:
        """Check that the end of the body was reached.

        Raises:
            zlib.error: The body is truncated.
        """
        if self._held or (self._begun and not self._inflate.eof):
            raise zlib.error("the compressed body is truncated")


class PackedBody:
    """A compressed body whose parts arrive one after another, and are decompressed a chunk at a time.

    Args:
        decompressor: The decompressor of the body.
        max_bytes: The size limit of the decompressed body.

    Attributes:
        content: What was decompressed so far.
        is_too_large: Whether it is larger than the limit; the rest is not decompressed then.
    """

    __slots__ = ("_chunks", "_decompressor", "_max_bytes", "_waiting", "content", "is_too_large")

    def __init__(self, decompressor: Decompressor, max_bytes: int) -> None:
        self._decompressor = decompressor
        self._max_bytes = max_bytes
        # In one piece, because a part may be a byte, and each call of the decompressor costs as much as a hundred.
        self._waiting = bytearray()
        self._chunks: Iterator[bytes] | None = None
        self.content = bytearray()
        self.is_too_large = False

    def add(self, part: bytes) -> None:
        """Add what arrived."""
        self._waiting += part

    def unpack(self) -> bool:
        """Decompress about a chunk of what arrived, and return whether there is more of it.

        Raises:
            zlib.error: The data is invalid.
        """
        if self._chunks is None:
            self._chunks = self._iterate()
        done = 0
        for chunk in self._chunks:
            self.content += chunk
            done += len(chunk)
            if len(self.content) > self._max_bytes:
                self.is_too_large = True
                return False
            if done >= CHUNK_SIZE:
                return True
        self._chunks = None
        return False

    def finish(self) -> None:
        """Check that the end of the body was reached.

        Raises:
            zlib.error: The body is truncated.
        """
        self._decompressor.finish()

    def _iterate(self) -> Iterator[bytes]:
        while self._waiting:
            data, self._waiting = bytes(self._waiting), bytearray()
            yield from self._decompressor.feed(data)


def make_decompressor(encoding: str | None) -> Decompressor | None:
    """Return the decompressor of a content encoding; None for a body to leave as it is."""
    name = (encoding or "").strip().lower()
    return Decompressor(name) if name in _GZIP or name == "deflate" else None
