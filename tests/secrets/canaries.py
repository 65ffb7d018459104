"""Secrets that cannot be mistaken for anything else, and the search for them in whatever way they are spelled.

Each has a mark of letters and digits, which JSON, a URL, a repr and HTML leave as it is, and round it the characters
that they do not. So the mark is found in all of these spellings, in any nesting of them, and where a part is left over.
"""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64encode
from typing import Final

_MARK: Final = "Zq7x"

TOKEN: Final = f"{_MARK}TOKEN+/=-9"
PASSWORD: Final = f'{_MARK}PASSWORD-"\\/ü'
ISSUED: Final = f"{_MARK}ISSUED+/=-8"
CACHED: Final = f"{_MARK}CACHED+/=-7"
SECRET_KEY: Final = f"{_MARK}SECRETKEY+/=6"
SECURITY_TOKEN: Final = f"{_MARK}SECURITYTOKEN+/=5"
ADMIN: Final = f'{_MARK}BOOTPASS-"\\/ü'
RESET: Final = f'{_MARK}RESET-4"\\/ü'
METADATA: Final = f'{_MARK}METAPASS-3"\\/ü'
USER_DATA: Final = f'#!/bin/sh\necho "{_MARK}USERDATA ü" | chpasswd\n'
PRIVATE_KEY: Final = f"-----BEGIN RSA PRIVATE KEY-----\n{_MARK}PRIVATEKEY+/=\n-----END RSA PRIVATE KEY-----\n"
WINDOWS: Final = f"{_MARK}WINDOWS+/=="
FIRST: Final = f'{_MARK}FIRSTPASS-"\\/ü'
PROXY: Final = f"{_MARK}PROXYPASS"

ALL: Final = (
    TOKEN,
    PASSWORD,
    ISSUED,
    CACHED,
    SECRET_KEY,
    SECURITY_TOKEN,
    ADMIN,
    RESET,
    METADATA,
    USER_DATA,
    PRIVATE_KEY,
    WINDOWS,
    FIRST,
    PROXY,
)

_MARKED: Final = re.compile(rf"{_MARK}[A-Z]+", re.IGNORECASE)


def _encoded(data: bytes) -> set[str]:
    """Return what base64 makes of some bytes wherever among others they stand."""
    found = set()
    for skipped in range(3):
        # Groups of three, for some of the letters at either end depend on their neighbours too.
        part = data[skipped : skipped + (len(data) - skipped) // 3 * 3]
        found |= {encode(part).decode() for encode in (b64encode, urlsafe_b64encode)}
    return found


_ENCODED: Final = {
    spelled: mark for secret in ALL for mark in _MARKED.findall(secret) for spelled in _encoded(mark.encode())
}
_ANY_ENCODED: Final = re.compile("|".join(map(re.escape, sorted(_ENCODED, key=len, reverse=True))))


# Nearly all texts have neither, and to look for these is ten times as fast as for all spellings.
_MARK_IN_SMALL: Final = _MARK.lower()
_BEGINNINGS: Final = tuple({spelled[:3] for spelled in _ENCODED})


def secrets_in(text: str | bytes) -> set[str]:
    """Return the marks of the secrets that a text shows, plainly or in some spelling."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    found = set()
    if _MARK_IN_SMALL in text.lower():
        found |= {mark.removeprefix(_MARK) for mark in _MARKED.findall(text)}
    for beginning in _BEGINNINGS:
        if beginning in text:
            return found | {_ENCODED[spelled].removeprefix(_MARK) for spelled in _ANY_ENCODED.findall(text)}
    return found
