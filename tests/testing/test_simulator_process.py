"""The simulator as another process, for tests of other processes."""

from __future__ import annotations

import asyncio
import http.client
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bms_async.testing import CloudSettings, CutAfter, SimulatorProcess, run_virtually
from tests.support.machine import patience
from tests.support.programs import run_program

PROGRAM = """
import asyncio
from bms_async import BmsClient

async def main():
    async with BmsClient.from_env() as bms:
        print(*[server.id async for server in bms.servers.list()])

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def cloud() -> Iterator[SimulatorProcess]:
    settings = CloudSettings(
        servers=3, seed=-5, administrator=False, retry_after=True, limits={"quotas.get": 7}, stopped_share=0.34
    )
    with SimulatorProcess(settings) as process:
        yield process


def run(environment: dict[str, str]) -> list[str]:
    return run_program(PROGRAM, environment, without=("BMS_", "OS_", "HUAWEI")).split()


@pytest.mark.parametrize("credentials", ["token", "password", "aksk"])
def test_another_program_finds_it_by_its_environment(credentials: Any, cloud: SimulatorProcess) -> None:
    before = cloud.arrived("servers.list")
    assert run(cloud.environment(credentials)) == cloud.ids()
    assert cloud.arrived("servers.list") == before + 1
    assert cloud.refused() == cloud.refused("servers.list") == 0


def test_it_tells_its_servers_by_their_state(cloud: SimulatorProcess) -> None:
    assert cloud.statuses() == {"ACTIVE": 2, "SHUTOFF": 1, "HARD_REBOOT": 0}
    assert len(cloud.ids()) == 3
    assert len(cloud.ids(status="SHUTOFF")) == 1
    assert cloud.ids(name="bms-000001", tags="rack-0") == cloud.ids()[1:2]


def test_its_servers_drift_by_a_plan(cloud: SimulatorProcess) -> None:
    (off,) = cloud.ids(status="SHUTOFF")
    cloud.drift([(0.0, off, "ERROR"), (3600.0, off, "ACTIVE")])
    assert cloud.statuses() == {"ACTIVE": 2, "SHUTOFF": 0, "HARD_REBOOT": 0, "ERROR": 1}
    cloud.drift([(0.0, off, "SHUTOFF")])
    assert cloud.ids(status="SHUTOFF") == [off]
    with pytest.raises(ValueError, match="this cloud has no such server"):
        cloud.drift([(0.0, "strange")])


def test_a_fault_is_for_a_call_counted_from_now(cloud: SimulatorProcess) -> None:
    run(cloud.environment())
    before = cloud.arrived("servers.list")
    cloud.add_fault("servers.list", CutAfter())
    # The second try gets through.
    assert run(cloud.environment()) == cloud.ids()
    assert cloud.arrived("servers.list") == before + 2


def test_what_could_never_happen_is_refused(cloud: SimulatorProcess) -> None:
    with pytest.raises(ValueError, match=r"did you mean servers\.stop"):
        cloud.add_fault("server.stop", CutAfter())
    with pytest.raises(ValueError, match="nth=0"):
        cloud.add_fault("servers.stop", CutAfter(), nth=0)
    with pytest.raises(ValueError, match="times=None"):
        cloud.add_fault("servers.stop", CutAfter(), times=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"did you mean servers\.stop"):
        cloud.arrived("server.stop")


def test_issued_tokens_can_be_revoked(cloud: SimulatorProcess) -> None:
    cloud.revoke_tokens()
    run(cloud.environment("password"))
    assert cloud.revoke_tokens() == 1


def test_after_a_crash_it_is_started_again_at_its_address_as_it_was_first() -> None:
    with SimulatorProcess(CloudSettings(servers=2)) as process:
        address, ids, pid = process.address, process.ids(), process.pid
        process.add_fault("servers.list", CutAfter())
        process.kill()
        assert not process.is_running
        with pytest.raises(RuntimeError, match=r"was stopped; start\(\) starts it again"):
            process.ids()
        process.start()
        assert (process.address, process.ids()) == (address, ids)
        assert process.pid != pid
        with pytest.raises(RuntimeError, match=r"runs already, at http://127\.0\.0\.1:"):
            process.start()
        # The port is taken, and who starts another one there is told so.
        with (
            pytest.raises(RuntimeError, match=r"ended with exit code 2: .*cannot listen on 127\.0\.0\.1"),
            SimulatorProcess(port=int(address.rpartition(":")[2])),
        ):
            pytest.fail("both run")
    assert not process.is_running


async def test_in_a_coroutine_it_starts_and_ends_without_holding_the_loop() -> None:
    async with SimulatorProcess(CloudSettings(servers=1)) as process:
        assert process.is_running
    assert repr(process) == "<SimulatorProcess not running, servers=1>"


async def test_who_is_cancelled_while_it_starts_leaves_no_process() -> None:
    process = SimulatorProcess(CloudSettings(servers=1))

    async def use() -> None:
        async with process:
            pytest.fail("it was cancelled before")

    task = asyncio.create_task(use())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # It had come so far as to have an address.
    assert process.address
    assert not process.is_running


def test_on_a_virtual_clock_it_is_refused() -> None:
    async def main() -> None:
        async with SimulatorProcess():
            pytest.fail("it started")

    with pytest.raises(RuntimeError, match="needs a real clock; on a virtual one, use a SimulatedCloud"):
        run_virtually(main)


def test_before_it_was_started_it_has_no_address() -> None:
    process = SimulatorProcess()
    for use in (process.environment, process.ids, lambda: process.address, lambda: process.pid):
        with pytest.raises(RuntimeError, match="was not started: use `with`"):
            use()
    process.stop()


def test_a_setting_that_no_process_can_be_told_is_refused() -> None:
    with pytest.raises(ValueError, match=r"job_hidden_seconds=inf: expected a finite time"):
        SimulatorProcess(CloudSettings(job_hidden_seconds=math.inf))


def test_each_setting_reaches_the_process() -> None:
    other: dict[str, Any] = {
        "throttle": "fixed", "limits": {"quotas.get": 2}, "job_seconds": (1.0, 2.0),
        "boot_seconds": (1.0, 2.0), "latency": (0.1, 0.2),
        "drift_error_seconds": (1.0, 2.0), "drift_task_seconds": (1.0, 2.0),
        "other_projects": {"a": "b"}, "list_count": "page", "reason_place": "entities",
        "epoch": CloudSettings().epoch.replace(year=2030), "job_kept_seconds": 5.0,
    }  # fmt: skip
    for name in CloudSettings.__struct_fields__:
        default = getattr(CloudSettings(), name)
        match default:
            case _ if name in other:
                value = other[name]
            case bool():
                value = not default
            case str():
                value = "x"
            case _:
                value = default + 0.5 if isinstance(default, float) and math.isfinite(default) else 7
        settings = CloudSettings(**{name: value})
        assert value != default
        assert msgspec.json.decode(SimulatorProcess(settings)._settings_line, type=CloudSettings) == settings


def test_a_setting_without_a_flag_is_obeyed_and_no_job_id_comes_again_in_another_life() -> None:
    def stop_all(process: SimulatorProcess) -> str:
        body = {"os-stop": {"servers": [{"id": each} for each in process.ids()], "type": "HARD"}}
        connection = http.client.HTTPConnection(process.address.removeprefix("http://"), timeout=patience(60.0))
        headers = {"X-Auth-Token": process.token, "Content-Type": "application/json"}

        def call(method: str, path: str, content: bytes | None = None) -> tuple[int, Any]:
            connection.request(method, f"/v1/{process.project_id}{path}", content, headers)
            answer = connection.getresponse()
            return answer.status, msgspec.json.decode(answer.read())

        try:
            status, told = call("POST", "/baremetalservers/action", msgspec.json.encode(body))
            assert status == 200, told
            # It is hidden, which is what the setting is for.
            assert call("GET", f"/jobs/{told['job_id']}")[0] == 404
        finally:
            connection.close()
        return str(told["job_id"])

    with SimulatorProcess(CloudSettings(servers=2, job_hidden_seconds=600.0)) as process:
        first = stop_all(process)
        process.kill()
        process.start()
        assert stop_all(process) != first


def test_it_ends_when_its_parent_is_killed() -> None:
    program = """
import os, signal
from bms_async.testing import CloudSettings, SimulatorProcess
process = SimulatorProcess(CloudSettings(servers=1))
process.start()
print(process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    told, _ = parent.communicate(timeout=patience(60.0))
    deadline = time.monotonic() + patience(60.0)
    while _lives(int(told)):
        assert time.monotonic() < deadline


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_file_with_settings_is_read_flags_win_and_a_wrong_name_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bms_async.simulator.__main__ import main

    file = tmp_path / "settings.json"
    for text, said in (
        ('{"serverz": 3}', "unknown setting: serverz"),
        ('{"servers": -1}', "servers must not be negative"),
        ('{"servers": "x"}', "Expected `int`"),
        ("{", "truncated"),
    ):
        file.write_text(text)
        with pytest.raises(SystemExit):
            main(["--settings", str(file)])
        assert said in capsys.readouterr().err
    file.write_text('{"servers": 3}')
    with pytest.raises(SystemExit):
        main(["--settings", str(file), "--servers", "-4"])
    assert "servers must not be negative: -4" in capsys.readouterr().err
