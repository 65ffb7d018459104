"""The vendor's request signature, SDK-HMAC-SHA256: pure, the time is passed in as text.

Client and server reduce a request to the same canonical text (method, path, query, the signed headers and a hash of the
body), which is signed with the secret key. A change to any of these invalidates the signature.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from bms_async.redaction import SecretBytes, SecretStr

ALGORITHM = "SDK-HMAC-SHA256"
DATE_HEADER = "X-Sdk-Date"
HASH_HEADER = "X-Sdk-Content-Sha256"

_EMPTY = sha256(b"").hexdigest()
_BLOCK = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))
_is_plain = re.compile(r"/[A-Za-z0-9/._~-]*").fullmatch
_MIN_LENGTH = len("http://h")
_strip = str.strip


class SigningKey:
    """A secret key, prepared for signing; no method returns it.

    HMAC begins with two blocks that depend on the key alone. They are hashed once, here, instead of for every request:
    for texts as short as these that is most of the work.

    Args:
        secret_key: The secret key.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, secret_key: str) -> None:
        secret_key = SecretStr(secret_key)
        key = secret_key.encode()
        if len(key) > _BLOCK:
            key = SecretBytes(sha256(key).digest())
        key = SecretBytes(key.ljust(_BLOCK, b"\0"))
        self._inner = sha256(key.translate(_INNER))
        self._outer = sha256(key.translate(_OUTER))

    def __repr__(self) -> str:
        return "SigningKey(***)"

    def __reduce__(self) -> str:
        raise TypeError("a SigningKey is not pickled: a reader of the pickle could sign requests")

    def sign(self, text: bytes) -> str:
        """Return the HMAC-SHA256 of a text, in hex."""
        inner = self._inner.copy()
        inner.update(text)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.hexdigest()


def format_date(moment: datetime) -> str:
    """Format a datetime in UTC as the signature requires it.

    Args:
        moment: Aware, in UTC.
    """
    return moment.strftime("%Y%m%dT%H%M%SZ")


def sign(
    method: str, url: str, headers: Mapping[str, str], body: bytes, *, access_key: str, key: SigningKey
) -> SecretStr:
    """Return the ``Authorization`` header of a request.

    The body's hash is signed, whatever its type. A non-empty ``X-Sdk-Content-Sha256`` header replaces it, as in the
    vendor's signer.

    Args:
        method: The HTTP method.
        url: Absolute, encoded.
        headers: All headers to be signed, ``Host`` and ``X-Sdk-Date`` among them. One with an underscore in its name
            is not signed: servers drop such headers.
        body: The body as it is sent.
        access_key: The key's public id.
        key: The secret key.

    Raises:
        ValueError: There is no ``X-Sdk-Date``.
    """
    return sign_arranged(method, url, arrange_headers(headers), body, access_key=access_key, key=key)


class SignedHeaders(NamedTuple):
    """The part of a signature that depends on the headers alone, which many requests of one second share.

    Attributes:
        lines: The headers, one a line, in signing order; a security token may be among them.
        names: Their names, joined.
        date: The value of the date header.
        payload_hash: What replaces the body's hash; empty for nothing.
    """

    lines: SecretStr
    names: str
    date: str
    payload_hash: str


def arrange_headers(headers: Mapping[str, str]) -> SignedHeaders:
    """Return the headers as they are signed.

    Args:
        headers: As of `sign`.

    Raises:
        ValueError: There is no ``X-Sdk-Date``.
    """
    signed, names, dated, payload_hash_header = _header_order(tuple(headers))
    payload_hash = "" if payload_hash_header is None else _strip(headers[payload_hash_header])
    # Stripped as plain text, which is read and not kept.
    lines = SecretStr("".join([f"{name}:{_strip(headers[given])}\n" for name, given in signed]))
    return SignedHeaders(lines, names, _strip(headers[dated]), payload_hash)


def sign_arranged(
    method: str, url: str, headers: SignedHeaders, body: bytes, *, access_key: str, key: SigningKey
) -> SecretStr:
    """Return what `sign` does, of headers that were arranged before."""
    path, query = _target(url)
    lines, names, date, payload_hash = headers
    digest = (payload_hash or sha256(body).hexdigest()) if body else _EMPTY
    canonical = sha256(f"{method.upper()}\n{path}\n{query}\n{lines}\n{names}\n{digest}".encode()).hexdigest()
    signature = SecretStr(key.sign(f"{ALGORITHM}\n{date}\n{canonical}".encode()))
    return SecretStr(f"{ALGORITHM} Access={access_key}, SignedHeaders={names}, Signature={signature}")


class _HeaderOrder(NamedTuple):
    """The part of a signature that depends on the names of the headers alone.

    Attributes:
        signed: For each header the name as it is signed and the name to look its value up by, in signing order.
        names: The signed names, joined.
        date: The name of the date header, as given.
        payload_hash_header: The name of the header that replaces the body's hash, as given.
    """

    signed: tuple[tuple[str, str], ...]
    names: str
    date: str
    payload_hash_header: str | None


@lru_cache(maxsize=128)
def _header_order(given: tuple[str, ...]) -> _HeaderOrder:
    # Of names that differ in case only, all are listed and the last one's value is signed, as in the vendor's signer:
    # that is what the server is known to accept.
    last = {name.lower(): name for name in given}
    names = sorted(name.lower() for name in given if "_" not in name)
    date = next((name for name in given if name.lower() == DATE_HEADER.lower()), None)
    if date is None:
        raise ValueError(f"expected the header {DATE_HEADER}, got none; a request is signed with its date")
    return _HeaderOrder(
        signed=tuple((name, last[name]) for name in names),
        names=";".join(names),
        date=date,
        payload_hash_header=next((name for name in given if name.lower() == HASH_HEADER.lower()), None),
    )


def _target(url: str) -> tuple[str, str]:
    """Return the canonical path and the canonical query of a URL."""
    if "?" not in url:
        # The usual case: to decode and encode a path costs more than to hash it.
        path = url[url.find("/", _MIN_LENGTH) :]
        if _is_plain(path):
            return path if path[-1] == "/" else path + "/", ""
    target, _, query = url.partition("?")
    start = target.find("/", target.find("://") + 3)
    path = target[start:] if start >= 0 else "/"
    # Decoded first, so that encoded and unencoded spellings give the same text.
    path = quote(unquote(path), safe="/~")
    if not path.endswith("/"):
        path += "/"
    if query:
        # Sorted while decoded: the encoded texts would sort differently.
        pairs = sorted(parse_qsl(query, keep_blank_values=True))
        query = "&".join([f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in pairs])
    return path, query
