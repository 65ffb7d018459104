"""The two pages, in a browser."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from bms_async import BmsClient, FleetReport, Outcome, OutcomeState, StaticToken
from bms_async.cli.report_page.history import CallHistory
from bms_async.cli.report_page.render import render_report
from bms_async.errors import SubJobFailedError
from bms_async.fleet.rollout.report import Pause, RolloutTally
from tests.browser.devtools import PATIENCE, Page, browsing, the_browser

BEGAN = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
LIVE = "document.querySelector('#state').textContent.includes('live')"
GONE = "document.querySelector('#state').textContent.includes('gone')"
WIDTHS = (360, 1600)
LABELS_ARE_CLEAR = """
    [...document.querySelectorAll('.across')].every(axis => {
        const boxes = [...axis.children].map(each => each.getBoundingClientRect()).filter(box => box.width);
        const within = boxes.every(box => box.left >= 0 && box.right <= innerWidth);
        return boxes.length && within && boxes.every((box, place) => !place || boxes[place - 1].right < box.left);
    })
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(the_browser(), tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@contextmanager
def simulator(port: int, *flags: str) -> Iterator[dict[str, str]]:
    arguments = [sys.executable, "-m", "bms_async.simulator", "--port", str(port), *flags]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            told = json.loads(process.stdout.readline())
            assert isinstance(told, dict)
            yield told
        finally:
            process.terminate()
            process.wait(PATIENCE)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def stop_all(told: dict[str, str]) -> FleetReport:
    async with BmsClient(
        endpoint=told["address"], project_id=told["project_id"], auth=StaticToken(told["token"])
    ) as bms:
        return await bms.fleet.stop([server.id async for server in bms.servers.list()])


@pytest.mark.parametrize(("ci", "end"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_to_have_no_browser_is_a_failure_where_ci_is_set_and_passes_a_test_over_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ci: str, end: type[BaseException]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", ci)
    with pytest.raises(end, match="`make browser` installs one"):
        the_browser()


def test_the_status_page_follows_what_happens_and_tells_when_the_simulator_is_gone(page: Page) -> None:
    port = free_port()
    flags = ("--servers", "300", "--fail-share", "0.1", "--job-seconds", "0.1", "0.3")
    with simulator(port, *flags) as told:
        page.open(told["address"])
        page.wait_until(LIVE)
        assert page.text("h1") == "A simulated cloud"
        assert page.text(".ACTIVE b") == "300"
        assert page.text("#jobs-words") == "There has been none yet."
        assert page.text("#calls-words").startswith("No call has come yet.")

        script = [{"operation": "servers.start", "nth": 1, "fault": {"type": "CutAfter"}}]
        assert httpx.post(f"{told['address']}/_admin/faults", json=script, trust_env=False).is_success
        report = asyncio.run(stop_all(told))
        assert report.by_state[OutcomeState.SUCCEEDED] == 270

        # Nobody touches the page: it looks for itself.
        page.wait_until("document.querySelector('.SHUTOFF b').textContent === '270'")
        page.wait_until("document.querySelector('#jobs-words').textContent.includes('ended')")
        assert page.text(".ACTIVE b") == "30"
        assert page.text("#jobs-words") == "0 running, 1 ended, 1 of them failed in part or all."
        assert "300 of 300 ended" in page.text("#jobs-rows li")
        assert "30 failed" in page.text("#jobs-rows li")
        assert "1 of 50 used" in page.text("#calls-rows li[data-key='servers.stop']")
        assert page.text("#faults-rows") == "CutAfter at call 1 of servers.start"
        assert not page.read("!!document.querySelector('[data-key^=versions]')")
        assert page.complaints == []
        for width in WIDTHS:
            page.resize(width, 800)
            assert page.overflow() == 0

    page.wait_until(GONE)
    assert page.text("#since").startswith("The simulator does not respond. Since ")
    assert page.text(".SHUTOFF b") == "270"
    with simulator(port, *flags):
        page.wait_until(LIVE)
        assert page.text("#since").startswith("It was started anew. It is back after ")
        assert page.text(".ACTIVE b") == "300"
    assert all("ERR_CONNECTION" in each or "ERR_EMPTY" in each for each in page.complaints)


def test_the_status_page_tells_another_simulator_from_the_one_before_though_it_has_not_seen_the_end(page: Page) -> None:
    hide = "Object.defineProperty(document, 'hidden', {configurable: true, value: HIDDEN});"
    hide += "document.dispatchEvent(new Event('visibilitychange'))"
    port = free_port()
    with simulator(port, "--servers", "300") as told:
        page.open(told["address"])
        page.wait_until(LIVE)
        page.read(hide.replace("HIDDEN", "true"))
        # A look that was under way is still answered.
        page.read("new Promise(done => { const look = () => asking ? setTimeout(look, 10) : done(); look(); })")
        lived = page.read("past.at(-1).uptime")
    with simulator(port, "--servers", "7", "--throttle", "fixed") as told:
        # The second has lived for longer than the first had when it was seen last.
        while httpx.get(f"{told['address']}/_admin/status", trust_env=False).json()["uptime"] <= lived:
            pass
        page.read(hide.replace("HIDDEN", "false"))
        page.wait_until("document.querySelector('.ACTIVE b').textContent === '7'")
        assert page.text("#since").startswith("It was started anew.")
        assert page.text("#top") == "7"
        assert page.complaints == []


def test_the_status_page_shows_what_it_is_told_as_text_and_its_policy_forbids_the_rest(
    page: Page, tmp_path: Path
) -> None:
    evil = "</script><img src=x onerror=window.broken=1><svg/onload=window.broken=1>"
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"servers": 3, "username": evil}), encoding="utf-8")
    with simulator(free_port(), "--settings", str(settings)) as told:
        script = [{"operation": evil, "nth": 1, "fault": {"type": "CutAfter"}}]
        assert httpx.post(f"{told['address']}/_admin/faults", json=script, trust_env=False).is_success
        page.open(told["address"])
        page.wait_until(LIVE)
        assert page.text("#faults-rows") == f"CutAfter at call 1 of {evil}"
        assert evil in page.text("#settings-rows")
        assert page.read("[document.images.length, document.querySelectorAll('svg').length]") == [0, 1]
        assert page.complaints == []

        page.read(
            "const more = document.createElement('script'); more.textContent = 'window.broken = 1';"
            " document.body.append(more)"
        )
        assert page.read("fetch('http://127.0.0.2:9/').catch(error => error.name)") == "TypeError"
        assert not page.read("!!window.broken")
        assert sum("Content Security Policy" in each for each in page.complaints) >= 2


def test_the_report_page_fits_every_window_and_complains_of_nothing(page: Page, tmp_path: Path) -> None:
    evil = (
        '"><img src=x onerror=alert(1)><script>document.title = "broken"</script>\N{RIGHT-TO-LEFT OVERRIDE}' + "x" * 500
    )
    outcomes = [
        Outcome(
            server_id=f"{evil}{each}" if each % 10 == 0 else f"5a1d0c3e-0000-4000-a000-{each:012x}",
            state=OutcomeState.FAILED if each % 10 == 0 else OutcomeState.SUCCEEDED,
            job_id="7f" * 16,
            error=SubJobFailedError(server_id="", job_id="", code=f"{evil[each % 3 :]}", reason=evil)
            if each % 10 == 0
            else None,
            started=BEGAN,
            ended=BEGAN + timedelta(seconds=each / 10),
        )
        for each in range(900)
    ]
    tally = RolloutTally()
    for number, outcome in enumerate(outcomes):
        tally.add(outcome, f"{evil[number % 7 :]}", is_canary=number < 2, is_lost=number % 10 == 0)
    groups = tuple(tally.groups(lambda _: 900, lambda _: True))
    pause = Pause(started=BEGAN + timedelta(seconds=5), ended=BEGAN + timedelta(seconds=9), reason="paused")
    report = FleetReport(
        action="servers.reboot",
        outcomes=outcomes,
        by_state={**dict.fromkeys(OutcomeState, 0), OutcomeState.SUCCEEDED: 810, OutcomeState.FAILED: 90},
        by_code={evil[each:]: 30 for each in range(3)},
        batches=1,
        cancelled=True,
        started=BEGAN,
        ended=BEGAN + timedelta(seconds=90),
        aborted=evil,
        unverified=4,
        rollout=tally.report(groups, [pause]),
    )
    calls = CallHistory(
        operation="servers.reboot",
        limit=50,
        started=BEGAN,
        calls=[(each / 2, min(70, each)) for each in range(180)],
        polls=[(each / 2, each * 9) for each in range(180)],
        poll_limit=2000,
    )
    file = tmp_path / "report.html"
    file.write_text(render_report(report, calls), encoding="utf-8")
    for width in WIDTHS:
        for dark in (False, True):
            page.open(file.as_uri(), width=width, dark=dark)
            assert page.overflow() == 0
            assert page.read(LABELS_ARE_CLEAR), width
            colour = page.read("getComputedStyle(document.body).backgroundColor")
            assert (colour == "rgb(255, 255, 255)") is not dark
    assert page.text("h1") == "reboot of 900 servers"
    assert page.read("document.querySelectorAll('.lanes .lane').length") == 1 + 7
    assert page.read("document.title") == "reboot of 900 servers: 810 as asked"
    assert page.read("[document.images.length, document.scripts.length]") == [0, 1]
    assert page.complaints == []


def test_no_label_of_an_axis_lies_on_another_or_leaves_the_window(page: Page, tmp_path: Path) -> None:
    for seconds in (0.4, 3.0, 20.0, 47.0, 90.0, 151.0, 599.0, 3599.0, 9000.0, 200_000.0):
        ended = BEGAN + timedelta(seconds=seconds)
        report = FleetReport(
            action="servers.stop",
            outcomes=[Outcome(server_id="s", state=OutcomeState.SUCCEEDED, started=BEGAN, ended=ended)] * 12_000,
            by_state={**dict.fromkeys(OutcomeState, 0), OutcomeState.SUCCEEDED: 12_000},
            by_code={},
            batches=12,
            cancelled=False,
            started=BEGAN,
            ended=ended,
        )
        calls = [(0.0, 0), (seconds, 12)]
        history = CallHistory(
            operation="servers.stop", limit=50, started=BEGAN, calls=calls, polls=calls, poll_limit=2000
        )
        file = tmp_path / "report.html"
        file.write_text(render_report(report, history), encoding="utf-8")
        page.open(file.as_uri())
        for width in (360, 545, 1100):
            page.resize(width, 900)
            assert page.read(LABELS_ARE_CLEAR), (seconds, width)
