"""The vendor's request signature, SDK-HMAC-SHA256: pure, the time comes in as text.

A request is boiled down to one text that server and client make alike (method, path, query, the signed headers and a
hash of the body), and that text is signed with the secret key. Whoever changes any of it breaks the signature.
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


class SigningKey:
    """A secret key, ready to sign with; no method gives it back.

    HMAC begins with two blocks that are made of the key alone. They are hashed once, here, and not for every request:
    with texts as short as these that is most of the work.

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
        raise TypeError("a SigningKey is not pickled: whoever reads the pickle could sign")

    def sign(self, text: bytes) -> str:
        """Return the HMAC-SHA256 of a text, in hex."""
        inner = self._inner.copy()
        inner.update(text)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.hexdigest()


def format_date(moment: datetime) -> str:
    """Return a moment in UTC as the signature wants it.

    Args:
        moment: Aware, in UTC.
    """
    return moment.strftime("%Y%m%dT%H%M%SZ")


def sign(
    method: str, url: str, headers: Mapping[str, str], body: bytes, *, access_key: str, key: SigningKey
) -> SecretStr:
    """Return the ``Authorization`` header of a request.

    The body's hash is signed, whatever its type is. Where the headers have an ``X-Sdk-Content-Sha256``, that is signed
    in its place, as the vendor's signer does.

    Args:
        method: The HTTP method.
        url: Absolute, encoded.
        headers: All headers to be signed, ``Host`` and ``X-Sdk-Date`` among them. One with an underscore in its name
            is not signed: servers drop such headers.
        body: The body as it is sent.
        access_key: Names the key.
        key: Makes the signature.

    Raises:
        ValueError: There is no ``X-Sdk-Date``.
    """
    path, query = _target(url)
    signed, names, dated, payload_hash_header = _header_order(tuple(headers))
    if not body:
        digest = _EMPTY
    else:
        told = headers[payload_hash_header].strip() if payload_hash_header is not None else ""
        digest = told or sha256(body).hexdigest()
    # A security token is among them.
    lines = SecretStr("".join([f"{name}:{headers[given].strip()}\n" for name, given in signed]))
    canonical = sha256(f"{method.upper()}\n{path}\n{query}\n{lines}\n{names}\n{digest}".encode()).hexdigest()
    signature = SecretStr(key.sign(f"{ALGORITHM}\n{headers[dated].strip()}\n{canonical}".encode()))
    return SecretStr(f"{ALGORITHM} Access={access_key}, SignedHeaders={names}, Signature={signature}")


class _HeaderOrder(NamedTuple):
    """What only depends on which headers there are.

    Attributes:
        signed: The name as it is signed and the one that has its value, in the order of the signature.
        names: The signed names, joined.
        date: The header that is the date.
        payload_hash_header: The header that stands for the body's hash.
    """

    signed: tuple[tuple[str, str], ...]
    names: str
    date: str
    payload_hash_header: str | None


@lru_cache(maxsize=128)
def _header_order(given: tuple[str, ...]) -> _HeaderOrder:
    # Of two names that differ in their case the last one's value counts, but both are listed; the vendor's signer
    # is what the server is known to agree with.
    last = {name.lower(): name for name in given}
    names = sorted(name.lower() for name in given if "_" not in name)
    date = next((name for name in given if name.lower() == DATE_HEADER.lower()), None)
    if date is None:
        raise ValueError(f"a request is signed with its date: there is no {DATE_HEADER}")
    return _HeaderOrder(
        signed=tuple((name, last[name]) for name in names),
        names=";".join(names),
        date=date,
        payload_hash_header=next((name for name in given if name.lower() == HASH_HEADER.lower()), None),
    )


def _target(url: str) -> tuple[str, str]:
    """Return the canonical path and the canonical query of a URL."""
    if "?" not in url:
        # Most are as plain as this, and to decode and encode a path costs more than to hash it.
        path = url[url.find("/", _MIN_LENGTH) :]
        if _is_plain(path):
            return path if path[-1] == "/" else path + "/", ""
    target, _, query = url.partition("?")
    start = target.find("/", target.find("://") + 3)
    path = target[start:] if start >= 0 else "/"
    # What is encoded and what is not must come out alike, so all of it is decoded first.
    path = quote(unquote(path), safe="/~")
    if not path.endswith("/"):
        path += "/"
    if query:
        # The order is that of the decoded texts, which is not the one of the encoded.
        pairs = sorted(parse_qsl(query, keep_blank_values=True))
        query = "&".join([f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in pairs])
    return path, query
