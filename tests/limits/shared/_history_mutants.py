"""Variants of the rule book that are broken on purpose: the histories are worth what they catch of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from bms_async.limits.shared import ledger
from tests.limits.shared._history_store import KeepingStore


class Mutant(NamedTuple):
    """A broken variant.

    Attributes:
        rule: What it breaks, as a line of a verdict begins that catches it.
        changes: What is replaced in the source, and by what; a text that is not there once is an error.
        first: The seed from which on it is looked for, so that it is soon found.
    """

    name: str
    rule: str
    changes: tuple[tuple[str, str], ...]
    first: int = 0


MUTANTS = (
    Mutant(
        "a slot that is free when its call ends", "R1", (("        _cool(ledger, now - min(", "        max(now, min("),)
    ),
    Mutant("ages that count twice", "R1", (("now - min(age if", "now - 2 * min(age if"),)),
    Mutant(
        "slots of the dead that are free at once",
        "R1",
        (("_cool(ledger, holder.ends + terms.timeout + CLOCK_DRIFT, holder.held)", "pass"),),
    ),
    Mutant(
        "slots of the dead without the timeout",
        "R1",
        (("holder.ends + terms.timeout + CLOCK_DRIFT", "holder.ends + CLOCK_DRIFT"),),
        first=8,
    ),
    Mutant("a window without what the clocks differ by", "R1", (("drift=CLOCK_DRIFT", "drift=0.0"),), first=71),
    Mutant(
        "a question dealt with again when it is repeated",
        "R1",
        (("if question.seq > holder.seq:", "if question.seq >= holder.seq:"),),
        first=134,
    ),
    Mutant(
        "another answer to a question that is repeated",
        "L repeated",
        (("if question.seq > holder.seq:", "if question.seq >= holder.seq:"),),
    ),
    Mutant(
        "an old question dealt with after a newer one",
        "R1",
        (
            ("elif question.seq < holder.seq:", "elif False:"),
            ("if question.seq > holder.seq:", "if question.seq != holder.seq:"),
        ),
        first=53,
    ),
    Mutant(
        "a new life that is open",
        "R1",
        (("return Account(VERSION, life, now, now + terms.closed)", "return Account(VERSION, life, now, now)"),),
        first=19,
    ),
    Mutant(
        "a new life that is closed for a window only",
        "R1",
        (
            (
                "return Account(VERSION, life, now, now + terms.closed)",
                "return Account(VERSION, life, now, now + 60.05)",
            ),
        ),
        first=78,
    ),
    Mutant("a clock set ahead that is ignored", "R1", (("if question.jumped:", "if False:"),), first=21),
    Mutant("a clock set back that is ignored", "R4", (("if now < ledger.seen:", "if False:"),), first=215),
    Mutant(
        "unused slots that come back twice",
        "R1",
        (("min(question.unused, holder.held)", "min(2 * question.unused, holder.held)"),),
        first=155,
    ),
    Mutant("slots that are not adopted", "R1", (("max(0, question.adopted)", "0"),), first=1),
    Mutant(
        "one slot more than there is",
        "R1",
        (
            (
                "free = ledger.adaptive.capacity - count_used(ledger)\n    if",
                "free = ledger.adaptive.capacity - count_used(ledger) + 1\n    if",
            ),
        ),
    ),
    Mutant(
        "a reserve of all slots",
        "R4",
        (("min(question.reserve, ledger.adaptive.capacity - 1)", "question.reserve"),),
    ),
    Mutant(
        "cooldowns that are not kept in order",
        "L cooldowns",
        (("bisect_right(ledger.ended, ended)", "len(ledger.ended)"),),
    ),
)


def changed(*changes: tuple[str, str]) -> ModuleType:
    """Return the rule book with a changed source."""
    source = Path(str(ledger.__file__)).read_text(encoding="utf-8")
    for old, new in changes:
        assert source.count(old) == 1, f"{old!r} is there {source.count(old)} times"
        source = source.replace(old, new)
    module = ModuleType(ledger.__name__)
    module.__package__ = ledger.__package__
    exec(compile(source, "a broken rule book", "exec"), module.__dict__)
    return module


@contextmanager
def broken(mutant: Mutant) -> Iterator[None]:
    """Have the histories run a broken rule book for as long as a `with` block lasts."""
    whole = KeepingStore.rule_book
    KeepingStore.rule_book = changed(*mutant.changes)
    try:
        yield
    finally:
        KeepingStore.rule_book = whole
