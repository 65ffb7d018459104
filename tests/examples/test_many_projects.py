"""`examples/many_projects.py`, run as a user would."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import pytest

from bms_async import Clouds, ConfigurationError, StaticToken
from bms_async.testing import CloudSettings, SimulatedCloud, run_virtually
from tests.examples.first_screen import traced
from tests.examples.processes import ENDLESS, ROOT, Program, running, simulator, wait_until

PROGRAM = str(ROOT / "examples" / "many_projects.py")
PROGRESS = re.compile(r"many_projects: [\d,]+ servers have ended; at work: ")


@pytest.fixture(scope="module")
def addresses() -> Iterator[list[str]]:
    with running(str(ROOT / "tests" / "examples" / "ten_clouds.py")) as clouds:
        yield json.loads(clouds.line_with("http://"))


@pytest.fixture
def file(addresses: list[str], tmp_path: Path) -> Path:
    return write(tmp_path, dict(enumerate(addresses)))


def write(folder: Path, addresses: Mapping[int, str], **tokens: str) -> Path:
    clouds = {
        f"p{number}": {
            "bms_endpoint_override": address,
            "auth": {"project_id": f"project-{number}", "token": tokens.get(f"p{number}", f"token-{number}")},
        }
        for number, address in addresses.items()
    }
    path = folder / "clouds.json"
    path.write_text(json.dumps({"clouds": clouds}))
    return path


def settings(file: Path) -> dict[str, str]:
    return {"OS_CLIENT_CONFIG_FILE": str(file)}


def run(file: Path, *arguments: str) -> tuple[int, str, str]:
    with running(PROGRAM, *arguments, settings=settings(file)) as program:
        code = program.end()
    # How often it says how far it is depends on how long it takes.
    told = [line for line in program.errors if not PROGRESS.match(line)]
    return code, "\n".join(program.lines), "\n".join(told)


def row(shown: str, name: str) -> list[str]:
    """The cells of a row of the table."""
    line = next(line for line in shown.splitlines() if re.search(rf"[│|] *{name} ", line))
    return [cell.strip() for cell in re.split(r"[│|]", line)[1:-1]]


def test_ten_projects_are_listed_in_one_report(file: Path) -> None:
    code, shown, told = run(file, "list")
    assert (code, told) == (0, "")
    assert [row(shown, f"p{number}")[:2] for number in range(10)] == [[f"p{number}", "20"] for number in range(10)]
    assert row(shown, "all")[:2] == ["all", "200"]


def test_a_cloud_may_have_any_name(addresses: list[str], tmp_path: Path) -> None:
    file = write(tmp_path, dict(enumerate(addresses[:2])))
    clouds = json.loads(file.read_text())["clouds"]
    file.write_text(json.dumps({"clouds": {"all": clouds["p0"], "[bold]x": clouds["p1"]}}))
    code, shown, _ = run(file, "list")
    assert (code, row(shown, "all")[1], row(shown, re.escape("[bold]x"))[1]) == (0, "20", "20")
    assert re.search(r"all *[│|] 40 ", shown)


def test_an_action_is_done_in_all_of_them_and_why_it_failed_somewhere_is_told(file: Path) -> None:
    code, shown, told = run(file, "reboot", "--yes")
    failed = int(row(shown, "p7")[4])
    assert (code, told, failed > 0) == (1, "", True)
    assert row(shown, "p3") == ["p3", "20", "20", "0", "0", "0", "0"]
    assert row(shown, "all") == ["all", "200", str(200 - failed), "0", str(failed), "0", "0"]
    assert f"p7: {failed} servers: BMS.3037 " in shown


def test_a_cloud_that_fails_does_not_spoil_the_others(addresses: list[str], tmp_path: Path) -> None:
    # Nobody listens on port 9.
    file = write(tmp_path, dict(enumerate(addresses)) | {1: "http://127.0.0.1:9"}, p2="wrong")
    code, shown, _ = run(file, "reboot", "--yes", "--tag", "rack-0")
    assert code == 4
    assert [row(shown, f"p{number}")[2] for number in (0, 3, 9)] == ["20"] * 3
    assert [row(shown, f"p{number}")[1] for number in (1, 2)] == ["0", "0"]
    assert re.search(r"^p1: .*nothing reached the cloud", shown, re.MULTILINE)
    assert re.search(r"^p2: .*401", shown, re.MULTILINE)
    assert "wrong" not in shown
    refused = run(file, "list", "--cloud", "p2", "--cloud", "p3")
    assert (refused[0], row(refused[1], "p3")[1]) == (3, "20")


def test_without_a_yes_nothing_is_done(file: Path) -> None:
    code, shown, told = run(file, "stop", "--cloud", "p3", "--cloud", "p4")
    assert (code, told) == (2, "many_projects: this would stop 40 servers of 2 clouds; if so, add --yes")
    assert row(shown, "p3") == ["p3", "20", "20"]
    assert row(run(file, "list", "--cloud", "p3")[1], "p3")[1:] == ["20", "20"]


def test_a_cloud_that_is_killed_and_comes_back_is_accounted_for_with_the_others(tmp_path: Path) -> None:
    flags = ("--servers", "60", "--throttle", "none")
    one = (*flags, "--seed", "1", "--project-id", "project-1", "--token", "token-1", "--job-seconds", "0.2", "0.4")
    two = (*flags, "--seed", "2", "--project-id", "project-2", "--token", "token-2", *ENDLESS)
    with simulator(*one) as steady, simulator(*two) as killed:
        file = write(tmp_path, {1: steady.address, 2: killed.address})
        with running(PROGRAM, "stop", "--yes", settings=settings(file), times=100) as program:
            wait_until(lambda: killed.ask("servers/work")["stop"] != {}, program)
            killed.program.kill()
            killed.begin("--job-seconds", "0.2", "0.4")
            assert killed.states() == {"ACTIVE": 60}
            assert program.end() == 0
        shown = "\n".join(program.lines)
        assert row(shown, "p1")[1:3] == ["60", "60"]
        assert sum(map(int, row(shown, "p2")[2:4])) == 60
        assert steady.states() == killed.states() == {"SHUTOFF": 60}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_brings_the_report_so_far(tmp_path: Path, number: signal.Signals) -> None:
    flags = ("--servers", "30", "--project-id", "project-1", "--token", "token-1", *ENDLESS)
    with simulator(*flags) as cloud:
        file = write(tmp_path, {1: cloud.address})
        with running(PROGRAM, "stop", "--yes", settings=settings(file)) as program:
            wait_until(lambda: cloud.ask("servers/work")["stop"] != {}, program)
            assert program.kill(number) == 130
        assert row("\n".join(program.lines), "p1") == ["p1", "30", "0", "0", "0", "30", "0"]
        assert program.errors[-1] == "many_projects: interrupted; the jobs continue in the clouds"


def check(program: Program, told: list[str]) -> None:
    assert (program.end(), program.lines) == (2, [])
    shown = "\n".join(program.errors)
    assert [text for text in told if text not in shown] == []
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("clouds", "arguments", "told"),
    [
        ({}, ["list"], ["expected a cloud in clouds.yaml"]),
        ({"a": {"auth": {"token": "sekrit", "project_id": "p"}}}, ["list"], ["cloud 'a'", "endpoint"]),
        (
            {"a": {"auth": {"token": "sekrit"}}, "b": {"bms_endpoint_override": "http://127.0.0.1:9"}},
            ["list"],
            ["cloud 'a'", "cloud 'b'"],
        ),
        ({"a": {}}, ["list", "--cloud", "b"], ["no cloud 'b'", "there is 'a'"]),
        ({"a": {}}, ["fly"], ["invalid choice: 'fly'"]),
        ({"a": {}}, ["stop", "--yes", "--tag", ""], ["expected a tag; leave --tag out for all servers"]),
    ],
)
def test_what_cannot_be_meant_is_told_before_anything_is_sent(
    tmp_path: Path, clouds: dict[str, object], arguments: list[str], told: list[str]
) -> None:
    file = tmp_path / "clouds.json"
    file.write_text(json.dumps({"clouds": clouds}))
    with running(PROGRAM, *arguments, settings=settings(file)) as program:
        check(program, told)
    assert "sekrit" not in "\n".join(program.errors)


def test_a_file_that_is_not_there_and_a_tag_that_nobody_carries_are_told(file: Path) -> None:
    with running(PROGRAM, "list", settings=settings(Path("/no/such/file"))) as program:
        check(program, ["/no/such/file"])
    code, _, told = run(file, "stop", "--tag", "rack-99")
    assert (code, told) == (2, "many_projects: there are no servers with the tag 'rack-99'")


def test_its_help_says_how_to_run_it_and_how_it_ends() -> None:
    with running(PROGRAM, "--help") as program:
        assert (program.end(), program.errors) == (0, [])
    shown = " ".join(program.lines)
    assert "python -m bms_async.simulator" in shown
    assert "Exit codes: 0" in shown


def test_every_line_of_it_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run_here(module: ModuleType, *arguments: str, ctrl_c: bool = False) -> int:
        """Run it on the virtual clock, before a cloud that is well, one with a broken server and one that is locked."""
        well, broken, locked = (
            SimulatedCloud(CloudSettings(servers=2, project_id=name, seed=seed, job_seconds=(7, 9)))
            for seed, name in enumerate(("well", "broken", "locked"))
        )
        broken.break_down(broken.ids[0])

        def from_clouds(*names: str) -> Clouds:
            if ctrl_c:
                asyncio.get_running_loop().call_later(5, signal.raise_signal, signal.SIGINT)
            everywhere = {
                "well": well.client(), "broken": broken.client(), "locked": locked.client(auth=StaticToken("wrong")),
            }  # fmt: skip
            return Clouds({name: everywhere[name] for name in names})

        def run(coroutine: Coroutine[Any, Any, int]) -> int:
            return run_virtually(lambda: coroutine)

        clouds = [word for name in ("well", "broken") for word in ("--cloud", name)]
        monkeypatch.setattr(sys, "argv", ["many_projects", *clouds, *arguments])
        monkeypatch.setattr(module.Clouds, "from_clouds", from_clouds)
        monkeypatch.setattr(asyncio, "run", run)
        code: int = module.main()
        return code

    with traced("many_projects") as (module, lines):
        assert run_here(module, "list") == 0
        assert run_here(module, "stop") == 2
        assert run_here(module, "stop", "--tag", "rack-99") == 2
        assert run_here(module, "stop", "--yes") == 1
        assert run_here(module, "reboot", "--yes", "--cloud", "locked") == 3
        assert run_here(module, "reboot", "--yes", ctrl_c=True) == 130
        with pytest.raises(SystemExit):
            run_here(module, "stop", "--tag", " ")
        monkeypatch.setattr(sys, "argv", ["many_projects", "list"])
        for error, code in ((ConfigurationError("it says why"), 2), (KeyboardInterrupt(), 130)):
            monkeypatch.setattr(module, "operate", Mock(side_effect=error))
            assert module.main() == code
    shown, told = capsys.readouterr()
    assert "many_projects: 0 servers have ended; at work: well, broken" in told
    assert "broken: 1 servers: BMS.0006 " in shown
    # The last line is for the tests that run it as a program.
    assert lines.never_ran == [max(lines.all)]


def test_it_is_read_at_one_sitting() -> None:
    assert len(Path(PROGRAM).read_text().splitlines()) <= 120
