"""The page of all error codes, docs/guides/error-codes.md, made of the table in `bms_async.errorcodes`.

python -m tests.docs.codes    # write it anew
"""

from __future__ import annotations

from collections.abc import Iterable

from bms_async.errorcodes import ERROR_CODES, ErrorCode, Remedy
from tests.docs.blocks import ROOT

PAGE = ROOT / "docs" / "guides" / "error-codes.md"

COMMAND = "python -m tests.docs.codes"

_HEAD = f"""\
# Error codes

What the cloud's {{count}} documented codes mean, and what to do about each: chapter 6.2 of the API reference, and two
codes of the gateway before it, each under both of its names. The reference says itself that a code may come with other
words and another status, so the message that came with it is the better witness. `explain(code)` looks one up, and an
error that has a code has its `meaning` and its `measure`:

```python
from bms_async import explain

if row := explain("BMS.0038"):
    print(row.meaning, row.measure)
```

This page is made of the code by `{COMMAND}`.
"""

_GROUPS = {
    Remedy.ALREADY_THERE: (
        "It already is so",
        "A fleet run counts such a server as UNCHANGED.",
    ),
    Remedy.IN_TRANSITION: (
        "It is busy",
        "A fleet run asks for such a server again after 10 s, then after ever longer. A single call raises.",
    ),
    Remedy.OVERLOADED: (
        "Too many calls",
        "The error is a `RateLimitedError`. The call was not executed, and is sent again by itself, up to ten times.",
    ),
    Remedy.QUOTA: ("Nothing left of it", "Somebody has to free some, or have the quota raised."),
    Remedy.PERMISSION: ("You may not", "The credentials, or the rights or the balance behind them, do not cover it."),
    Remedy.NOT_FOUND: ("It is not there", "An id is wrong, or of another project."),
    Remedy.PERMANENT: ("The same request will be refused again", "Nothing here is tried again by itself."),
}


def render(codes: Iterable[ErrorCode]) -> str:
    """Return the page."""
    by_remedy: dict[Remedy, list[ErrorCode]] = {remedy: [] for remedy in _GROUPS}
    for code in sorted(codes, key=lambda each: each.code):
        by_remedy[code.remedy].append(code)
    parts = [_HEAD.format(count=sum(map(len, by_remedy.values())))]
    for remedy, rows in by_remedy.items():
        title, text = _GROUPS[remedy]
        lines = ["| code | status | what it means | what to do |", "|---|---|---|---|"]
        lines += [f"| `{row.code}` | {row.status} | {row.meaning} | {row.measure} |" for row in rows]
        parts.append(f"## {title}\n\n{text}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(render(ERROR_CODES.values()), encoding="utf-8")
