"""Masking secrets in a text, in whatever encoding the text has them (rule R5).

What it guarantees: a secret is masked verbatim, and as JSON, a repr, percent-encoding, HTML or an HTTP library's
misreading of UTF-8 write it, in any nesting of these (a URL in JSON in a repr). A text that was cut in the middle of a
secret is masked too, from four characters of the secret on. Everything else in the text is left as it is.

How: each character of a secret has a pattern of all its escapes, and the patterns are matched one after the other.
Letters and digits are the same in every encoding, so candidates are found by plain text search: a short text by its
first characters, a long one by the rarest run of letters and digits that the secret has.

Rejected: decoding the text before the comparison, for encodings nest and mix within one text; and a match attempt
wherever the first character occurs, which takes a second for a page of a list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain

MASK = "***"

# Fewest characters of a secret that are masked where the text ends in the middle of it.
_MIN_PART = 4
_MAX_ESCAPE = 12
_MAX_TRUNCATED = 1024
_MAX_ESCAPES_OF_ONE = 32
_MAX_PREFIX = 64
_LAST_OF_ASCII = 127
_PLAIN = re.compile("[A-Za-z0-9]+")
_NAMED_ESCAPES = {"\n": ["n"], "\r": ["r"], "\t": ["t"], "'": ["&apos;"], " ": [r"\+"]}


def mask(text: str, *secrets: str) -> str:
    """Mask `secrets` in `text`: verbatim, and as escaped by JSON, repr, URL or HTML encoding, in any nesting.

    At the end of the text four characters of a secret's beginning are masked as well, for the text may have been cut.

    Args:
        text: The text.
        secrets: The secrets; empty ones are ignored.
    """
    # The longest first, for one may be part of another.
    for secret in sorted({secret for secret in secrets if secret}, key=len, reverse=True):
        text = _mask(text, secret)
    return text


def _mask(text: str, secret: str) -> str:
    # Letters and digits are never escaped, and to search for them costs next to nothing.
    if _first_chars(secret) not in text:
        return text
    parts: list[str] = []
    done = 0
    for hit in _starts(text, secret):
        end = None if hit.start() < done else _match_at(text, hit.end(), secret)
        if end is not None:
            parts += [text[done : hit.start()], MASK]
            done = end
    return "".join(parts) + text[done:]


def _starts(text: str, secret: str) -> Iterator[re.Match[str]]:
    """Yield the candidates: matches of a secret's first character."""
    first = _escapes_of(secret[0])
    if len(text) <= _MAX_TRUNCATED:
        return first.finditer(text)
    runs = _runs(secret)
    found = iter(()) if _lacks(text, secret) else _near(text, secret, runs) if runs else first.finditer(text)
    # The end is searched by the first character, for it may be cut in the middle of the run.
    return chain(found, first.finditer(text, len(text) - _MAX_TRUNCATED))


def _lacks(text: str, secret: str) -> bool:
    """Return whether a text certainly lacks a secret, since a character of it occurs in none of its escapes."""
    return not all(any(sign in text for sign in signs) for signs in _signs(secret[:_MAX_PREFIX]))


def _near(text: str, secret: str, runs: tuple[tuple[int, str], ...]) -> Iterator[re.Match[str]]:
    """Yield the matches of a secret's first character that precede its rarest run of letters and digits."""
    counts = {run: text.count(run) for _, run in runs}
    before, run = min(runs, key=lambda offset_and_run: counts[offset_and_run[1]])
    if not counts[run]:
        return
    prefix, first = _prefix(secret[:before], run), _escapes_of(secret[0])
    position = text.find(run)
    while position >= 0:
        end = position + len(run)
        found = prefix.search(text, max(0, position - before * _MAX_ESCAPES_OF_ONE), end)
        while found is not None:
            # A match that ends before this run belongs to an earlier run.
            hit = first.match(text, found.start()) if found.end() == end else None
            if hit is not None:
                yield hit
            found = prefix.search(text, found.start() + 1, end)
        position = text.find(run, position + 1)


def _match_at(text: str, position: int, secret: str) -> int | None:
    """Return the end of a secret whose first character ends at `position`; None if the text does not match."""
    for matched, character in enumerate(secret[1:], start=1):
        found = _escapes_of(character).match(text, position)
        if found is None:
            is_cut = position == len(text) or (text[position] in "\\%&" and len(text) - position < _MAX_ESCAPE)
            return len(text) if is_cut and matched >= _MIN_PART else None
        position = found.end()
    return position


@lru_cache(maxsize=64)
def _first_chars(secret: str) -> str:
    """Return the characters that any masked part of a secret begins with, in any encoding; "" if there are none."""
    head = secret[:_MIN_PART]
    return head if len(head) == _MIN_PART and _PLAIN.fullmatch(head) else ""


@lru_cache(maxsize=64)
def _signs(secret: str) -> tuple[tuple[str, ...], ...]:
    """Return, for each special character of a secret, the texts of which any of its escapes contains at least one."""
    special = {sign for sign in secret if sign.isascii() and not sign.isalnum() and sign not in _NAMED_ESCAPES}
    codes = {sign: f"{ord(sign):02x}" for sign in special}
    return tuple(
        (sign, "%", "&", *(f"{prefix}{code}" for prefix in ("x", "X", "u00", "U00") for code in (hexed, hexed.upper())))
        for sign, hexed in codes.items()
    )


@lru_cache(maxsize=64)
def _runs(secret: str) -> tuple[tuple[int, str], ...]:
    """Return the runs of letters and digits near the beginning of a secret, each with its offset."""
    return tuple((found.start(), found[0]) for found in _PLAIN.finditer(secret[:_MAX_PREFIX]))


@lru_cache(maxsize=64)
def _prefix(before: str, run: str) -> re.Pattern[str]:
    """Return the pattern of a secret's beginning up to the end of a run, in any encoding."""
    # Letters match exactly; escapes match in any case.
    patterns = (sign if _PLAIN.fullmatch(sign) else f"(?i:{_escapes_of(sign).pattern})" for sign in before)
    return re.compile("".join(patterns) + run)


@lru_cache(maxsize=1024)
def _escapes_of(character: str) -> re.Pattern[str]:
    """Return the pattern of a character in any of its escapes."""
    if character.isascii() and character.isalnum():
        return re.compile(character)
    import html  # noqa: PLC0415 - its table of names is large, and most processes never need it

    data, code = character.encode(errors="surrogatepass"), ord(character)
    units = character.encode("utf-16-be", errors="surrogatepass")
    escapes = [
        re.escape(character),
        re.escape(html.escape(character)),
        f"&#0*{code};|&#x0*{code:x};",
        "".join(f"%(?:25)*{byte:02x}" for byte in data),
        r"\\+".join(f"x{byte:02x}" for byte in data),
        r"\\+".join(f"u{units[index]:02x}{units[index + 1]:02x}" for index in range(0, len(units), 2)),
        f"x{code:02x}",
        # HTTP libraries misread UTF-8 in a header or a status text, or drop it.
        *((re.escape(data.decode("latin-1")), "[?\ufffd]+", "") if code > _LAST_OF_ASCII else ()),
        *_NAMED_ESCAPES.get(character, ()),
    ]
    # JSON in JSON doubles the backslashes.
    return re.compile(rf"\\*(?:{'|'.join(escapes)})", re.IGNORECASE)
