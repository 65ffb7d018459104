"""`examples/many_replicas.py`, run as a user would."""

from __future__ import annotations

import re

from tests.examples.processes import ROOT, Program, running

PROGRAM = str(ROOT / "examples" / "many_replicas.py")
# More in all than a minute may hold, and fewer for each copy; those that wait for the next minute are not waited for.
BRIEF = ("--calls", "20", "--patience", "1")
REPLICA = re.compile(r"replica (\d): (\d+) of 20 requests done, \d+ of them at once, (\d+) calls refused, [\d.]+ s")
CLOUD = re.compile(r"the cloud: (\d+) calls arrived, (\d+) were refused")


def figures(program: Program) -> tuple[dict[str, int], int, int, int]:
    """Return the calls of each replica that were done, how many of them were refused, and the same of the cloud."""
    *replicas, cloud = program.lines
    said = [found.groups() for line in replicas if (found := REPLICA.fullmatch(line))]
    counted = CLOUD.fullmatch(cloud)
    assert counted, program.lines
    done = {number: int(calls) for number, calls, _ in said}
    return done, sum(int(refused) for _, _, refused in said), int(counted[1]), int(counted[2])


def test_four_processes_keep_one_budget_without_a_word_to_each_other() -> None:
    with running(PROGRAM, *BRIEF) as program:
        assert (program.end(), program.errors) == (0, [])
    done, refused, arrived, refused_by_the_cloud = figures(program)
    assert sorted(done) == ["0", "1", "2", "3"]
    assert (refused, refused_by_the_cloud) == (0, 0)
    assert sum(done.values()) == arrived <= 50


def test_without_a_store_the_same_four_are_refused() -> None:
    with running(PROGRAM, *BRIEF, "--alone") as program:
        assert program.end() == 1
    _, refused, arrived, refused_by_the_cloud = figures(program)
    assert refused == refused_by_the_cloud > 0
    assert arrived > 50


def test_a_store_that_makes_no_sense_is_told_by_each_copy() -> None:
    with running(PROGRAM, *BRIEF, "--store", "nonsense://host") as program:
        assert program.end() == 3
    assert ["expected the address of a store" in line for line in program.errors] == [True] * 4
    assert not [line for line in program.errors if "Traceback" in line]


def test_its_help_says_how_to_run_it_and_how_it_ends() -> None:
    with running(PROGRAM, "--help") as program:
        assert (program.end(), program.errors) == (0, [])
    shown = " ".join(program.lines)
    assert "python examples/many_replicas.py" in shown
    assert "bms limits open" in shown
    assert "Exit codes: 0" in shown
