"""Whether a call was signed with a known key: read from the vendor's signing guide, and not from the SDK."""

import hashlib
import hmac
import re
from calendar import timegm
from email.utils import formatdate
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl, quote, quote_from_bytes, unquote_to_bytes

from starlette.requests import Request

from bms_async.simulator.core.refusals import Refusal
from bms_async.simulator.core.tokens import AccessKey

__all__ = ["TOLERANCE", "http_date", "is_signed", "verify"]

TOLERANCE: Final = 15 * 60
"""Seconds that a call's date and the cloud's clock may differ."""

_SCHEME: Final = "SDK-HMAC-SHA256"
_AUTHORIZATION: Final = re.compile(
    rf"{_SCHEME} Access=([^,\s]+), ?SignedHeaders=([^,\s]+), ?Signature=([0-9a-f]{{64}})", re.ASCII
)
_DATE: Final = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", re.ASCII)
_HASH: Final = "x-sdk-content-sha256"
_UNSIGNED: Final = b"UNSIGNED-PAYLOAD"
_ALWAYS: Final = frozenset({"host", "x-sdk-date"})
_IF_THERE: Final = frozenset({"content-type", "x-project-id", "x-security-token", _HASH})
"""Headers that must be signed if they are sent, since the response depends on them."""


def is_signed(request: Request) -> bool:
    """Whether a call claims to be signed."""
    return request.headers.get("authorization", "").startswith(_SCHEME)


async def verify(request: Request, keys: dict[str, AccessKey], now: float) -> None:
    """Check a call's signature.

    Args:
        request: As it arrived.
        keys: The known keys by their names.
        now: The cloud's time, in Unix seconds.

    Raises:
        Refusal: It is not signed with one of the keys, not now, or not as it arrived.
    """
    claim = _AUTHORIZATION.fullmatch(request.headers["authorization"])
    if claim is None:
        raise _refused("The Authorization header is malformed.")
    name, signed, signature = claim[1], claim[2].split(";"), claim[3]
    key = keys.get(name)
    if key is None:
        raise _refused("The access key is not known.")
    headers = _headers(request, {*signed, *_ALWAYS, *_IF_THERE, "authorization"})
    _check_names(signed, headers)
    date = headers["x-sdk-date"].decode("latin-1")
    if not _is_near(date, now):
        raise _refused("X-Sdk-Date is missing, malformed or too far from the time of the gateway.")
    if headers.get("x-security-token", b"").decode("latin-1") != key.security_token:
        raise _refused("X-Security-Token is not the one of the access key.")
    canonical = b"\n".join(
        (
            request.method.encode(),
            _path(request.scope.get("raw_path") or quote(request.scope["path"]).encode()),
            _query(request.scope["query_string"]),
            *(each.encode() + b":" + headers[each] for each in signed),
            b"",
            ";".join(signed).encode(),
            _payload(await request.body(), headers),
        )
    )
    text = f"{_SCHEME}\n{date}\n{hashlib.sha256(canonical).hexdigest()}"
    if not hmac.compare_digest(signature, hmac.new(key.secret_key.encode(), text.encode(), "sha256").hexdigest()):
        raise _refused("The signature does not belong to the call.")


def http_date(unix: float) -> str:
    """A moment as the Date header has it."""
    return _http_date(int(unix))


@lru_cache(maxsize=8)
def _http_date(unix: int) -> str:
    return formatdate(unix, usegmt=True)


def _refused(why: str) -> Refusal:
    return Refusal(401, "APIGW.0301", f"Incorrect authentication information: {why}", "gateway")


def _headers(request: Request, single: set[str]) -> dict[str, bytes]:
    """All headers by name; a signed one that comes twice could be read in two ways, and is refused."""
    found: dict[str, bytes] = {}
    for raw, value in request.scope["headers"]:
        name = raw.decode("latin-1").lower()
        if name in found and name in single:
            raise _refused("A header of the signature comes twice.")
        found[name] = value.strip()
    return found


def _check_names(signed: list[str], headers: dict[str, bytes]) -> None:
    if signed != sorted(set(signed)) or not set(signed) >= _ALWAYS:
        raise _refused("SignedHeaders must be in order, with host and x-sdk-date among them.")
    if not set(signed) <= headers.keys():
        raise _refused("A signed header is missing.")
    if not _IF_THERE & headers.keys() <= set(signed):
        raise _refused("A header that must be signed is not.")


def _is_near(date: str, now: float) -> bool:
    found = _DATE.fullmatch(date)
    if found is None:
        return False
    year, month, day, hour, minute, second = map(int, found.groups())
    try:
        signed_at = timegm((year, month, day, hour, minute, second))
    except ValueError:
        return False
    return abs(now - signed_at) <= TOLERANCE


def _path(raw: bytes) -> bytes:
    decoded = unquote_to_bytes(raw)
    encoded = quote_from_bytes(decoded, safe="/~").encode()
    return encoded if encoded.endswith(b"/") else encoded + b"/"


def _query(raw: bytes) -> bytes:
    pairs = sorted(parse_qsl(raw.decode(errors="surrogateescape"), keep_blank_values=True, errors="surrogateescape"))
    return "&".join(
        f"{quote(name, safe='~', errors='surrogateescape')}={quote(value, safe='~', errors='surrogateescape')}"
        for name, value in pairs
    ).encode()


def _payload(body: bytes, headers: dict[str, bytes]) -> bytes:
    digest = hashlib.sha256(body).hexdigest().encode()
    sent_hash = headers.get(_HASH, digest)
    if sent_hash == _UNSIGNED and body and not headers.get("content-type", b"").startswith(b"application/json"):
        return _UNSIGNED
    if body and sent_hash != digest:
        raise _refused("The body does not match the hash in the headers.")
    return digest
