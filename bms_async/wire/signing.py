"""The vendor's request signature, SDK-HMAC-SHA256: pure, the time comes in as text.

A request is boiled down to one text that server and client make alike (method, path, query, the signed headers and a
hash of the body), and that text is signed with the secret key. Whoever changes any of it breaks the signature.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from urllib.parse import parse_qsl, quote, unquote

ALGORITHM = "SDK-HMAC-SHA256"
DATE_HEADER = "X-Sdk-Date"

_EMPTY = sha256(b"").hexdigest()


def format_date(moment: datetime) -> str:
    """Return a moment in UTC as the signature wants it.

    Args:
        moment: Aware, in UTC.
    """
    return moment.strftime("%Y%m%dT%H%M%SZ")


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    access_key: str,
    secret_key: bytes,
) -> str:
    """Return the ``Authorization`` header of a request.

    Args:
        method: The HTTP method, upper case.
        url: Absolute, encoded.
        headers: All headers to be signed, ``Host`` and ``X-Sdk-Date`` among them. One with an underscore in its name
            is not signed: servers drop such headers.
        body: The body as it is sent.
        access_key: Names the key.
        secret_key: Makes the signature; it is in nothing that is returned.
    """
    path, query = _target(url)
    order, names, dated = _order(tuple(headers))
    lines = "".join([f"{name}:{headers[given].strip()}\n" for name, given in order])
    digest = sha256(body).hexdigest() if body else _EMPTY
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{digest}"
    date = headers[dated]
    to_sign = f"{ALGORITHM}\n{date}\n{sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(secret_key, to_sign.encode(), "sha256").hex()
    return f"{ALGORITHM} Access={access_key}, SignedHeaders={names}, Signature={signature}"


@lru_cache(maxsize=128)
def _order(given: tuple[str, ...]) -> tuple[tuple[tuple[str, str], ...], str, str]:
    """Return the signed headers in their order, their names joined, and which one is the date."""
    order = tuple(sorted((name.lower(), name) for name in given if "_" not in name))
    dated = next(name for lower, name in order if lower == "x-sdk-date")
    return order, ";".join([lower for lower, _ in order]), dated


def _target(url: str) -> tuple[str, str]:
    """Return the canonical path and the canonical query of a URL."""
    target, _, query = url.partition("?")
    start = target.find("/", target.find("://") + 3)
    path = target[start:] if start >= 0 else "/"
    if "%" in path:
        path = quote(unquote(path), safe="/~")
    if not path.endswith("/"):
        path += "/"
    if query:
        pairs = sorted(parse_qsl(query, keep_blank_values=True))
        query = "&".join([f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in pairs])
    return path, query
