"""Taking secrets out of a text, however the text spells them."""

from __future__ import annotations

import re
from functools import lru_cache

MASK = "***"

_SHORTEST_PART = 4
_LONGEST_ESCAPE = 12
_LONGEST_CUT = 1024
_LAST_OF_ASCII = 127
_PLAIN = re.compile("[A-Za-z0-9]+")
_NAMED = {"\n": ["n"], "\r": ["r"], "\t": ["t"], "'": ["&apos;"], " ": [r"\+"]}


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
    if _head(secret) not in text or (len(text) > _LONGEST_CUT and _core(secret) not in text):
        return text
    parts: list[str] = []
    done = 0
    for hit in _ways(secret[0]).finditer(text):
        end = None if hit.start() < done else _follow(text, hit.end(), secret)
        if end is not None:
            parts += [text[done : hit.start()], MASK]
            done = end
    return "".join(parts) + text[done:]


def _follow(text: str, place: int, secret: str) -> int | None:
    """Return where a secret ends whose first character ends here; None where the text says something else."""
    for number, character in enumerate(secret[1:], start=1):
        found = _ways(character).match(text, place)
        if found is None:
            cut = place == len(text) or (text[place] in "\\%&" and len(text) - place < _LONGEST_ESCAPE)
            return len(text) if cut and number >= _SHORTEST_PART else None
        place = found.end()
    return place


@lru_cache(maxsize=64)
def _head(secret: str) -> str:
    """Return what even the least of a secret that is masked begins with, in any spelling."""
    head = secret[:_SHORTEST_PART]
    return head if len(head) == _SHORTEST_PART and _PLAIN.fullmatch(head) else ""


@lru_cache(maxsize=64)
def _core(secret: str) -> str:
    return max(_PLAIN.findall(secret), key=len, default="")


@lru_cache(maxsize=1024)
def _ways(character: str) -> re.Pattern[str]:
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
        *_NAMED.get(character, ()),
    ]
    # JSON in JSON doubles the backslashes, and so on.
    return re.compile(rf"\\*(?:{'|'.join(ways)})", re.IGNORECASE)
