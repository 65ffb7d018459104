"""What an example of the reference is, and what a repair of one may be."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

PRINTED = Path(__file__).parent / "printed"

Kind: TypeAlias = Literal["brackets", "lines", "words"]
"""What a repair touches.

``brackets``: brackets, commas and page breaks, and no name and no value. ``lines``: the line breaks inside one text.
``words``: names and values, where the print is known to be wrong, or holds what must not be kept.
"""


@dataclass(frozen=True, slots=True)
class Repair:
    """One replacement: what is printed, what it should have been, and how we know."""

    printed: str
    repaired: str
    reason: str
    times: int = 1
    kind: Kind = "brackets"


@dataclass(frozen=True, slots=True)
class Example:
    """One example: where it stands, the call it belongs to, its text and what mends it."""

    name: str
    sections: tuple[str, ...]
    call: str
    repairs: tuple[Repair, ...] = ()

    @property
    def printed(self) -> str:
        return (PRINTED / f"{self.name}.txt").read_text(encoding="utf-8")


def repair(example: Example) -> str:
    """Mend an example; the result is JSON.

    Every fragment has to occur exactly as often as its repair claims, so that a repair can neither
    miss its place nor touch another one.
    """
    text = example.printed
    for step in example.repairs:
        found = text.count(step.printed)
        assert found == step.times, f"{example.name}: {found} x {step.printed!r} ({step.reason})"
        text = text.replace(step.printed, step.repaired)
    return text


def rejoined(printed: str, repaired: str, times: int = 1) -> Repair:
    """Mend a text that was broken over lines; JSON allows no line break in one."""
    return Repair(printed, repaired, "a text broken over lines, which no JSON text may be", times, kind="lines")


def respelled(printed: str, repaired: str, reason: str, times: int = 1) -> Repair:
    """Mend a name or a value."""
    return Repair(printed, repaired, reason, times, kind="words")
