"""`examples/fleet_power.py`, run as a user would."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bms_async.simulator import Cloud, CloudSettings
from tests.examples.processes import NOBODY, ROOT, running, simulator, wait_until
from tests.support.machine import patience

COMMAND = [sys.executable, "-W", "error", str(ROOT / "examples" / "fleet_power.py")]
SMALL = ["--servers", "60", "--seed", "7", "--job-seconds", "0.2", "0.5"]


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("BMS_", "OS_", "HUAWEICLOUD_"))}
    ours.pop("FORCE_COLOR", None)
    return ours | {"COLUMNS": "80"} | dict(settings or {})


def fleet_power(
    *arguments: str, text: str = "", settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        input=text,
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=patience(60.0),
        check=False,
    )


def ids_of_the_simulator() -> list[str]:
    return list(Cloud(CloudSettings(servers=60, seed=7)).servers)


def answers_at(address: str) -> bool:
    place = urlsplit(address)
    try:
        socket.create_connection((place.hostname, place.port), timeout=patience(60.0)).close()
    except ConnectionRefusedError:
        return False
    return True


def simulator_of(output: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", output)
    assert found, output
    return found[0]


@pytest.fixture(scope="module")
def real() -> Iterator[Mapping[str, str]]:
    """The environment that leads to a simulator that somebody else runs, which is as good as a real cloud here."""
    with subprocess.Popen(
        [sys.executable, "-m", "bms_async.simulator", *SMALL], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            told = json.loads(process.stdout.readline())
            yield {
                "BMS_ENDPOINT": told["address"],
                "OS_PROJECT_ID": told["project_id"],
                "OS_TOKEN": told["token"],
                "NO_PROXY": "127.0.0.1",
            }
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def demo() -> subprocess.CompletedProcess[str]:
    return fleet_power(*SMALL, "--fail-share", "0.1", "stop", "start", "reboot")


def test_three_actions_account_for_every_server_and_leave_no_simulator_behind(
    demo: subprocess.CompletedProcess[str],
) -> None:
    assert (demo.returncode, demo.stderr) == (0, "")
    lines = demo.stdout.splitlines()
    assert "stop: succeeded 54 + unchanged 0 + failed 6 + unknown 0 + skipped 0 = 60" in lines
    # Those that could not be stopped still run, and so they are as asked.
    assert "start: succeeded 54 + unchanged 6 + failed 0 + unknown 0 + skipped 0 = 60" in lines
    assert "reboot: succeeded 54 + unchanged 0 + failed 6 + unknown 0 + skipped 0 = 60" in lines
    assert lines[-1] == "calls refused by the simulator: 0"
    assert not answers_at(simulator_of(demo.stdout))


def test_the_tables_tell_why_servers_failed_and_how_many_calls_it_took(demo: subprocess.CompletedProcess[str]) -> None:
    assert re.search(r"│ stop +│ +54 │ +0 │ +6 │ +0 │ +0 │ +\d+\.\d │", demo.stdout)
    assert re.search(r"│ stop +│ +6 │ BMS\.0006: The service could not", demo.stdout)
    assert re.search(r"│ servers\.stop +│ +1 │ +50 │ +1 │ +1 │ +0 │", demo.stdout)


def test_progress_without_a_terminal_is_plain_lines(demo: subprocess.CompletedProcess[str]) -> None:
    last = r"^stop: 60 of 60, .*; 60 asked, 54 succeeded, 6 failed, 0 calls wait for the limit$"
    assert re.search(last, demo.stdout, re.MULTILINE)
    assert "\x1b" not in demo.stdout
    assert "\r" not in demo.stdout


def test_ids_from_standard_input_count_once_and_an_unfit_one_is_skipped() -> None:
    one, other, *_ = ids_of_the_simulator()
    ended = fleet_power(*SMALL, "--file", "-", "stop", text=f"# tonight\n{one}\n\nno id [at] all\n {other}\n{one}\n")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "stop: succeeded 2 + unchanged 0 + failed 0 + unknown 0 + skipped 1 = 3" in ended.stdout
    assert "no id [at] all" in ended.stdout


def test_ids_come_from_a_file_or_one_by_one(tmp_path: Path) -> None:
    one, other, *_ = ids_of_the_simulator()
    listed = tmp_path / "ids.txt"
    listed.write_text(f"{one}\n{other}\n")
    assert "succeeded 2 " in fleet_power(*SMALL, "--file", str(listed), "stop").stdout
    assert "succeeded 1 " in fleet_power(*SMALL, "--id", one, "reboot").stdout


def test_a_tag_names_the_servers_that_carry_it() -> None:
    ended = fleet_power(*SMALL, "--tag", "rack-1", "reboot")
    assert "reboot: succeeded 20 + unchanged 0 + failed 0 + unknown 0 + skipped 0 = 20" in ended.stdout
    assert ended.returncode == 0


def test_strict_tells_by_its_code_that_a_server_is_not_as_asked() -> None:
    assert fleet_power(*SMALL, "--strict", "stop").returncode == 0
    assert fleet_power(*SMALL, "--strict", "--fail-share", "0.1", "stop").returncode == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_brings_the_report_so_far_and_ends_the_simulator(number: signal.Signals, code: int) -> None:
    flags = ["--servers", "60", "--job-seconds", "50", "60", "stop", "start"]
    with subprocess.Popen(
        [*COMMAND, *flags],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            simulator = simulator_of(process.stdout.readline())
            assert answers_at(simulator)
            assert " 60 asked" in next(line for line in process.stdout if " asked" in line and " 0 asked" not in line)
            process.send_signal(number)
            out, err = process.communicate(timeout=patience(60.0))
        finally:
            process.kill()
    assert process.returncode == code
    assert "stop: succeeded 0 + unchanged 0 + failed 0 + unknown 60 + skipped 0 = 60" in out
    assert "start: succeeded" not in out
    assert err == "fleet_power: interrupted; the jobs continue in the cloud\n"
    assert not answers_at(simulator)


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "told"),
    [
        (["fly"], {}, 2, "invalid choice: 'fly'"),
        ([], {}, 2, "required: actions"),
        (["--id", "a", "--tag", "b", "stop"], {}, 2, "not allowed with"),
        (["--file", "/no/such/file", "stop"], {}, 2, "/no/such/file"),
        (["--file", "-", "stop"], {}, 2, "no ids"),
        (["--servers", "many", "stop"], {}, 2, "invalid int value: 'many'"),
        (["--tag", "rack-99", *SMALL, "stop"], {}, 2, "'rack-99'"),
        (["stop"], NOBODY, 2, "no ids"),
        (["--id", "a", "stop"], {**NOBODY, "OS_TOKEN": ""}, 3, "OS_TOKEN"),
        (["--id", "a", "stop"], {**NOBODY, "BMS_ENDPOINT": "http://bms.example.com"}, 3, "https"),
        (["--id", "a", "stop"], NOBODY, 4, "nothing reached the cloud"),
        (["--tag", "a", "stop"], NOBODY, 4, "nothing reached the cloud"),
    ],
)
def test_what_is_wrong_is_told_on_one_line_and_by_the_code(
    arguments: list[str], settings: Mapping[str, str], code: int, told: str
) -> None:
    ended = fleet_power(*arguments, settings=settings)
    *usage, last = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (code, "")
    assert told in last
    assert last.startswith("fleet_power")
    assert not usage or usage[0].startswith("usage: ")


def test_more_than_one_server_needs_a_yes(real: Mapping[str, str]) -> None:
    ended = fleet_power("--tag", "rack-1", "stop", settings=real)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "fleet_power: this would stop 20 real servers; if so, add --yes\n"


def test_piped_ids_are_read_without_being_told(real: Mapping[str, str]) -> None:
    ids = "\n".join(ids_of_the_simulator()[:3])
    ended = fleet_power("--yes", "reboot", settings=real, text=ids)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "reboot: succeeded 3 + unchanged 0 + failed 0 + unknown 0 + skipped 0 = 3" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "calls refused by the cloud: 0"


def test_a_flag_of_the_simulator_keeps_off_the_real_cloud(real: Mapping[str, str]) -> None:
    ended = fleet_power(*SMALL, "reboot", settings=real)
    assert ended.returncode == 0
    assert simulator_of(ended.stdout) != real["BMS_ENDPOINT"]


def test_wrong_credentials_show_before_anything_is_asked_for(real: Mapping[str, str]) -> None:
    for wrong in ({"OS_TOKEN": "wrong"}, {"OS_PROJECT_ID": "another"}):
        ended = fleet_power("--id", "a", "stop", settings={**real, **wrong})
        assert (ended.returncode, ended.stdout) == (3, "")
        assert ended.stderr.startswith("fleet_power: servers.get: ")
        assert len(ended.stderr.splitlines()) == 1


def test_it_goes_on_when_the_cloud_is_killed_and_comes_back() -> None:
    with simulator("--servers", "60", "--seed", "7", "--job-seconds", "50", "60") as cloud:
        command = (str(ROOT / "examples" / "fleet_power.py"), "--tag", "__type_baremetal", "--yes", "--strict", "stop")
        with running(*command, settings=cloud.settings | {"NO_PROXY": "127.0.0.1"}, times=100) as program:
            wait_until(lambda: cloud.ask("servers/work")["stop"] != {}, program)
            cloud.program.kill()
            cloud.begin("--job-seconds", "0.2", "0.4")
            assert cloud.states() == {"ACTIVE": 60}
            assert program.end() == 0
        assert cloud.states() == {"SHUTOFF": 60}
        (sum_,) = (line for line in program.lines if line.startswith("stop: succeeded"))
        assert sum_.endswith("= 60")
