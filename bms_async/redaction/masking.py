"""Taking secrets out of a text, however the text spells them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain

MASK = "***"

_MIN_PART = 4
_MAX_ESCAPE = 12
_MAX_TRUNCATED = 1024
_MAX_SPELLING = 32
_MAX_PREFIX = 64
_LAST_OF_ASCII = 127
_PLAIN = re.compile("[A-Za-z0-9]+")
_NAMED_ESCAPES = {"\n": ["n"], "\r": ["r"], "\t": ["t"], "'": ["&apos;"], " ": [r"\+"]}


def mask(text: str, *secrets: str) -> str:
    """Return a text without some secrets: as they are, and as JSON, a repr, a URL or HTML write them, one in another.

    A text is cut at a length, and a secret at its end with it: four characters of its beginning are taken for it.

    Args:
        text: The text.
        secrets: The secrets; an empty one is none.
    """
    # The longest first, for one may be a part of another.
    for secret in sorted({secret for secret in secrets if secret}, key=len, reverse=True):
        text = _mask(text, secret)
    return text


def _mask(text: str, secret: str) -> str:
    # No spelling touches letters and digits, and to look for them costs next to nothing; only a short text is cut.
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
    """Yield where the first character of a secret may stand."""
    first = _escapes_of(secret[0])
    if len(text) <= _MAX_TRUNCATED:
        return first.finditer(text)
    runs = _runs(secret)
    found = iter(()) if _lacks(text, secret) else _near(text, secret, runs) if runs else first.finditer(text)
    # At its end it may be cut in the middle of what the secret is looked for by.
    return chain(found, first.finditer(text, len(text) - _MAX_TRUNCATED))


def _lacks(text: str, secret: str) -> bool:
    """Tell whether a text surely does not hold a secret, for a character of it is there in no spelling."""
    return not all(any(sign in text for sign in signs) for signs in _signs(secret[:_MAX_PREFIX]))


def _near(text: str, secret: str, runs: tuple[tuple[int, str], ...]) -> Iterator[re.Match[str]]:
    """Yield where the first character of a secret may stand: before its rarest run of letters and digits.

    To look at each place where that character stands takes a second for a page of a list.
    """
    counts = {run: text.count(run) for _, run in runs}
    before, run = min(runs, key=lambda each: counts[each[1]])
    if not counts[run]:
        return
    prefix, first = _prefix(secret[:before], run), _escapes_of(secret[0])
    place = text.find(run)
    while place >= 0:
        end = place + len(run)
        found = prefix.search(text, max(0, place - before * _MAX_SPELLING), end)
        while found is not None:
            # One that ends before this run belongs to a run before it.
            hit = first.match(text, found.start()) if found.end() == end else None
            if hit is not None:
                yield hit
            found = prefix.search(text, found.start() + 1, end)
        place = text.find(run, place + 1)


def _match_at(text: str, place: int, secret: str) -> int | None:
    """Return where a secret ends whose first character ends here; None where the text says something else."""
    for number, character in enumerate(secret[1:], start=1):
        found = _escapes_of(character).match(text, place)
        if found is None:
            cut = place == len(text) or (text[place] in "\\%&" and len(text) - place < _MAX_ESCAPE)
            return len(text) if cut and number >= _MIN_PART else None
        place = found.end()
    return place


@lru_cache(maxsize=64)
def _first_chars(secret: str) -> str:
    """Return what even the least of a secret that is masked begins with, in any spelling."""
    head = secret[:_MIN_PART]
    return head if len(head) == _MIN_PART and _PLAIN.fullmatch(head) else ""


@lru_cache(maxsize=64)
def _signs(secret: str) -> tuple[tuple[str, ...], ...]:
    """Return, for each special character of a secret, what there is one of wherever the character is spelled."""
    special = {each for each in secret if each.isascii() and not each.isalnum() and each not in _NAMED_ESCAPES}
    codes = {each: f"{ord(each):02x}" for each in special}
    return tuple(
        (each, "%", "&", *(f"{mark}{code}" for mark in ("x", "X", "u00", "U00") for code in (hexed, hexed.upper())))
        for each, hexed in codes.items()
    )


@lru_cache(maxsize=64)
def _runs(secret: str) -> tuple[tuple[int, str], ...]:
    """Return the runs of letters and digits near the beginning of a secret, each with its place."""
    return tuple((found.start(), found[0]) for found in _PLAIN.finditer(secret[:_MAX_PREFIX]))


@lru_cache(maxsize=64)
def _prefix(before: str, run: str) -> re.Pattern[str]:
    """Return what finds the beginning of a secret up to the end of a run, in any spelling."""
    # Letters are looked for as they are, in all other spellings their case does not count.
    spelled = (each if _PLAIN.fullmatch(each) else f"(?i:{_escapes_of(each).pattern})" for each in before)
    return re.compile("".join(spelled) + run)


@lru_cache(maxsize=1024)
def _escapes_of(character: str) -> re.Pattern[str]:
    """Return what finds a character in any of its spellings."""
    if character.isascii() and character.isalnum():
        return re.compile(character)
    import html  # noqa: PLC0415 - its table of names is large, and most processes never come here

    data, code = character.encode(errors="surrogatepass"), ord(character)
    units = character.encode("utf-16-be", errors="surrogatepass")
    ways = [
        re.escape(character),
        re.escape(html.escape(character)),
        f"&#0*{code};|&#x0*{code:x};",
        "".join(f"%(?:25)*{byte:02x}" for byte in data),
        r"\\+".join(f"x{byte:02x}" for byte in data),
        r"\\+".join(f"u{units[place]:02x}{units[place + 1]:02x}" for place in range(0, len(units), 2)),
        f"x{code:02x}",
        # What HTTP libraries make of UTF-8 in a header or a status text: they misread it, or leave it out.
        *((re.escape(data.decode("latin-1")), "[?\ufffd]+", "") if code > _LAST_OF_ASCII else ()),
        *_NAMED_ESCAPES.get(character, ()),
    ]
    # JSON in JSON doubles the backslashes, and so on.
    return re.compile(rf"\\*(?:{'|'.join(ways)})", re.IGNORECASE)
