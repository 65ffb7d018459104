"""The guide lists every event, span, metric, attribute and logger, and none that does not exist."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any, get_args

import pytest

import bms_async
from bms_async import BmsError, HookEvent
from bms_async.simulator import Answer, Throttled
from bms_async.telemetry.meters import Meters
from tests.hooks._helpers import first, hooked
from tests.support.virtual_clock import advance, run_virtually
from tests.telemetry._helpers import Recorder

ROOT = Path(bms_async.__file__).parents[1]
GUIDE = (ROOT / "docs" / "guides" / "observability.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return re.split(r"^#+ ", GUIDE.partition(f"# {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|") and not set(line) <= set("|- ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines][1:]


def quoted(text: str) -> set[str]:
    return {name.strip() for name in re.findall(r"`([^`]+)`", text)}


async def do_all(recorder: Recorder) -> None:
    """Do what has every kind of span, and every attribute but those of other parameters."""
    async with hooked(recorder.telemetry, servers=60, fail_share=0.1) as sim:
        sim.cloud.faults.append(first("servers.get", Throttled(retry_after=1), Answer(status=503)))
        await sim.bms.servers.get(sim.ids[0])
        with pytest.raises(BmsError):
            await sim.bms.servers.get("616fb98f-46ca-475e-917e-2563e5a8cd19")
        await sim.bms.fleet.stop(sim.ids, wave_size=40, abort_above=0.01, abort_sample=1)
        async with sim.bms.reconciler(resync=5.0) as power:
            power.want("ACTIVE", sim.ids[:2])
            await advance(10)


def test_every_event_is_in_the_table_and_no_other() -> None:
    listed = {name for row in rows(section("Hooks")) for name in re.findall(r"\[bms_async\.(\w+)\]", row[0])}
    assert listed == {each.__name__ for each in get_args(HookEvent)}


def test_every_metric_is_in_the_table_with_its_instrument_unit_and_attributes() -> None:
    class Meter:
        """Notes what is made, and what is measured with it."""

        def __init__(self) -> None:
            self.made: dict[str, str] = {}

        def __getattr__(self, kind: str) -> Any:
            def make(name: str, unit: str, description: str, **given: Any) -> None:
                words = {"up_down_counter": "up-down counter"}
                short = kind.removeprefix("create_")
                self.made[name] = f"{words.get(short, short)}, {unit}"

            return make

    meter = Meter()
    Meters(meter)  # type: ignore[arg-type]
    table = {quoted(row[0]).pop(): row for row in rows(section("Metrics"))}
    assert {name: row[1] for name, row in table.items()} == meter.made

    recorder = Recorder()
    run_virtually(lambda: do_all(recorder))
    measured = {
        name: {attribute for series in recorder.values(name) for attribute, _ in series}
        for name in meter.made
        if name != "bms.credentials.renewals"
    }
    for name, attributes in measured.items():
        assert attributes <= quoted(table[name][2]), name


def test_every_attribute_of_a_span_is_in_the_table_and_no_other() -> None:
    recorder = Recorder()
    run_virtually(lambda: do_all(recorder))
    operation, tried, run = (quoted(row[3]) for row in rows(section("Spans")))
    kinds = {"call": set[str](), "try": set[str](), "run": set[str]()}
    for span in recorder.spans:
        kind = "try" if span.kind.name == "CLIENT" else "run" if span.name.startswith("fleet.") else "call"
        kinds[kind] |= set(span.attributes or {})
    assert kinds["call"] == operation
    assert kinds["try"] == tried
    states = {f"bms.outcomes.{state.value.lower()}" for state in bms_async.OutcomeState}
    assert kinds["run"] == run | states
    events = {event.name: set(event.attributes or {}) for span in recorder.spans for event in span.events}
    assert set(events) == {"bms.retry", "bms.rate_limited"}
    for name, attributes in events.items():
        assert {name, *attributes} <= quoted(section("Spans"))


def test_every_logger_and_its_levels_are_in_the_table() -> None:
    table: dict[str, set[str]] = {}
    name = ""
    for row in rows(section("Logs")):
        name = next(iter(quoted(row[0])), name)
        table.setdefault(name, set()).add(row[1])
    found: dict[str, set[str]] = {}
    words = {"exception": "ERROR", "error": "ERROR", "warning": "WARNING", "info": "INFO", "debug": "DEBUG"}
    for path in (ROOT / "bms_async").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        logger = re.search(r'getLogger\("(bms_async[\w.]*)"\)', text)
        inside = path.relative_to(ROOT / "bms_async").parts[0]
        if logger and inside not in {"simulator", "cli", "testing"}:
            levels = {words[each] for each in re.findall(rf"_log\.({'|'.join(words)})\(", text)}
            found.setdefault(logger[1], set()).update(levels)
    # These two choose the level as they go.
    found["bms_async.session"] |= {"DEBUG", "INFO", "WARNING"}
    found["bms_async.hooks"] |= {"DEBUG", "ERROR"}
    assert table == found
    assert logging.getLogger("bms_async").handlers == []


def test_the_attributes_of_a_record_are_those_that_the_guide_names_and_its_example_shows() -> None:
    source = (ROOT / "bms_async" / "session" / "log.py").read_text(encoding="utf-8")
    given = set(re.findall(r'^            "(\w+)": ', source, re.MULTILINE))
    assert given
    assert given <= quoted(section("Logs"))
    (example,) = re.findall(r"^FIGURES = \((.*)\)$", GUIDE, re.MULTILINE)
    assert set(re.findall(r'"(\w+)"', example)) == given
