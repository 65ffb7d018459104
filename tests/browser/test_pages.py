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
from functools import partial
from pathlib import Path

import httpx
import msgspec
import pytest
from anyio.from_thread import start_blocking_portal

from bms_async import BmsClient, FleetReport, Outcome, OutcomeState, StaticToken
from bms_async.cli.report_page.history import CallHistory
from bms_async.cli.report_page.live import LiveSource, serve_page
from bms_async.cli.report_page.render import render_report
from bms_async.errors import SubJobFailedError
from bms_async.fleet.rollout.report import Pause, RolloutTally
from tests.browser.devtools import PATIENCE, Page, browsing, the_browser
from tests.browser.pictures import render
from tests.browser.sample_reports import report_of, rollout_of_80, run_of_12000
from tests.support.plain_http import plain_client

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
        with plain_client(told["address"]) as admin:
            while admin.get("/_admin/status").json()["uptime"] <= lived:
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


CONTRAST = """
    (() => {
        const channel = value => (value /= 255) <= .03928 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
        const weights = [.2126, .7152, .0722];
        const light = rgb => rgb.map(channel).reduce((sum, part, place) => sum + part * weights[place], 0);
        const colour = text => text.match(/[\\d.]+/g).map(Number);
        const behind = element => {
            for (; element; element = element.parentElement) {
                const found = colour(getComputedStyle(element).backgroundColor);
                if (found.length === 3 || found[3] > 0) return found.slice(0, 3);
            }
            return [255, 255, 255];
        };
        const shown = [...document.querySelectorAll('h1, h2, p, dt, dd, td, th, button, summary, .tiles b')]
            .filter(each => each.getClientRects().length && each.textContent.trim() && !each.disabled);
        const worst = shown.map(each => {
            const pair = [light(colour(getComputedStyle(each).color)), light(behind(each))].sort((a, b) => b - a);
            return (pair[0] + .05) / (pair[1] + .05);
        });
        return Math.min(...worst);
    })()
"""


def typed(text: str) -> str:
    """Return the expression of typing a text into the filter."""
    return (
        f"(field => {{ field.value = {text!r}; field.dispatchEvent(new Event('input')); }})"
        "(document.querySelector('#servers-filter'))"
    )


def test_the_page_is_read_on_a_phone_in_the_dark_and_on_paper(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(render(rollout_of_80()), encoding="utf-8")
    for dark in (False, True):
        page.open(file.as_uri(), width=390, dark=dark)
        assert page.overflow() == 0
        pushed = "[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth).length"
        assert page.read(pushed) == 0
        assert page.read(CONTRAST) >= 4.5
    page.read("document.querySelectorAll('details').forEach(each => each.open = false)")
    assert not page.read("document.querySelector('td.who').checkVisibility()")
    page.resize(794, 1123)
    page.ask("Emulation.setEmulatedMedia", media="print")
    page.read("dispatchEvent(new Event('beforeprint'))")
    assert page.read("document.querySelector('td.who').checkVisibility()")
    assert "The page itself has a table of all 80 servers" in page.text("main")
    assert page.overflow() == 0
    page.read("dispatchEvent(new Event('afterprint'))")
    assert not page.read("!!document.querySelector('details[open]')")
    page.ask("Emulation.setEmulatedMedia", media="")
    assert page.complaints == []


def test_the_table_of_twelve_thousand_servers_filters_sorts_and_turns_its_pages(page: Page, tmp_path: Path) -> None:
    file, sample = tmp_path / "report.html", run_of_12000()
    evil = "<img src=x onerror=alert(1)></pre><script>alert(1)</script>"
    server_id = sample.report.outcomes[-1].server_id
    sample.known.note(server_id, msgspec.structs.replace(sample.known.get(server_id), name=evil))
    file.write_text(render(sample), encoding="utf-8")
    page.open(file.as_uri())
    assert page.text("#servers-shown") == "1 to 100 of 12,000"
    assert page.read("document.querySelectorAll('#servers-rows tr').length") == 100
    page.read("document.querySelector('#servers-after').click()")
    assert page.text("#servers-shown") == "101 to 200 of 12,000"
    page.read(typed("RACK-5 bms.3037"))
    assert page.text("#servers-shown").endswith("(of 12,000)")
    assert {"rack-5, kernel-42"} == set(
        page.read("[...document.querySelectorAll('#servers-rows [data-label=tags]')].map(each => each.innerText)")
    )
    page.read(
        "const state = document.querySelector('#servers-state'); state.value = 'succeeded';"
        " state.dispatchEvent(new Event('change'))"
    )
    assert page.text("#servers-shown") == "No server matches (of 12,000)"
    page.read(typed("onerror"))
    assert page.text("#servers-rows [data-label=name]") == evil
    page.read(typed(""))
    heads = "[...document.querySelectorAll('#servers-head button')]"
    page.read(f"{heads}.find(each => each.innerText === 'seconds').click()")
    seconds = page.read("[...document.querySelectorAll('#servers-rows .n')].map(each => Number(each.innerText))")
    assert seconds == sorted(seconds)
    assert page.read("[document.images.length, document.scripts.length]") == [0, 1]
    assert page.complaints == []


def test_without_scripts_every_server_is_on_the_page_as_text(page: Page, tmp_path: Path) -> None:
    file, sample = tmp_path / "report.html", rollout_of_80()
    file.write_text(render(sample), encoding="utf-8")
    page.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(file.as_uri(), width=390)
        assert page.read("document.querySelector('#servers-table').hidden")
        page.read("document.querySelector('#servers-folded').open = true")
        shown = page.text("#servers-text")
    finally:
        page.ask("Emulation.setScriptExecutionDisabled", value=False)
    assert all(outcome.server_id in shown for outcome in sample.report.outcomes)
    assert page.overflow() == 0


def test_the_live_page_follows_its_run_keeps_what_was_typed_and_sees_the_end(page: Page) -> None:
    sample = run_of_12000()
    known, outcomes = sample.known, list(sample.report.outcomes)[:300]
    half = outcomes[:150]
    source = LiveSource(sample.head, known, "servers.stop", 300, lambda: None, lambda: sample.calls)

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serve_page(0)) as live:
        assert live is not None
        portal.call(live.begin, source)
        for outcome in half:
            portal.call(live.add, outcome)
        page.open(live.address)
        page.wait_until("document.querySelector('#live').textContent.startsWith('The run goes on: 150 of 300')")
        assert page.text("h1") == "stop of 300 servers in billing"
        page.read(typed("billing"))
        page.read("document.querySelector('#failure-1').open = true")
        report = report_of("servers.stop", outcomes, outcomes[-1].ended or BEGAN, batches=1)
        ending = portal.start_task_soon(partial(live.end, report, 0, linger=PATIENCE))
        page.wait_until("document.querySelector('main').dataset.version === 'end'")
        ending.result(PATIENCE)
    assert page.text("#live") == "The run has ended. This page does not change any more."
    assert page.read("document.querySelector('#servers-filter').value") == "billing"
    assert page.read("document.querySelector('#failure-1').open")
    assert page.text("#servers-shown") == "1 to 100 of 300"
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
