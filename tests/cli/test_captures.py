"""What operators have in front of them, kept in captures/ and looked at by people: `make captures` takes it anew.

Each capture is the whole command on a virtual clock, in a simulated cloud, on a terminal of some width or in a pipe.
Bold and coloured texts have marks around them where that is what the capture is about.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Final, NamedTuple

import pytest

from bms_async.simulator import CloudSettings
from bms_async.testing import SimulatedCloud
from tests.cli._looks import Look, Looks

CAPTURES: Final = Path(__file__).parent / "captures"
WIDE: Final = 200
PIPE: Final = 0
SERVERS: Final = 240
JOB_SECONDS: Final = (5.0, 15.0)
# A width of its own for each character of a path would have lines end elsewhere on another machine.
TEMPORARY: Final = Path("/tmp")
# The command itself is run without any variable of its own.
IS_KEPT: Final = os.environ.get("BMS_CAPTURES") == "write"


class Scene(NamedTuple):
    """A command on a terminal.

    Attributes:
        typed: What was typed before it, each to its end, and the command, which is what is kept.
        look: On what.
        presses: When Ctrl-C is pressed.
        needs_cloud: Whether its variables are set.
    """

    typed: tuple[str, ...]
    look: Look = Look()
    presses: tuple[float, ...] = ()
    needs_cloud: bool = True
    fail_share: float = 0.0


def scene(
    *typed: str, presses: tuple[float, ...] = (), needs_cloud: bool = True, fails: float = 0.0, **look: object
) -> Scene:
    return Scene(typed, Look(**look), presses, needs_cloud, fails)  # type: ignore[arg-type]


_LIST = "servers list --limit 6"
_ROLLOUT = "reboot --tag rack-2 --canary 2 --group-by az --max-unavailable 4 --settle 60s --verify --no-journal --yes"
_WAVES = "stop --tag rack-1 --wave 12 --verify --no-journal --yes"
_ABORT = "reboot --tag rack-3 --wave 5 --abort-above 10% --key kernel-42 --yes"
_FAILED = "reboot --tag rack-3 --key kernel-42 --yes"

SCENES: Final[Mapping[str, Scene]] = {
    "servers-list-80": scene(_LIST),
    "servers-list-200": scene(_LIST, columns=WIDE),
    "servers-list-pipe": scene(_LIST, columns=PIPE),
    "servers-list-watch": scene(f"{_LIST} -o table", columns=PIPE, exports={"COLUMNS": "100"}),
    "servers-list-no-color": scene(_LIST, has_marks=True, exports={"NO_COLOR": "1"}),
    "servers-show-80": scene("servers show db-east-1"),
    "stop-plan-80": scene("stop --tag rack-1 --wave 10 --plan"),
    "stop-plan-200": scene("stop --tag rack-1 --wave 10 --plan", columns=WIDE),
    "stop-plan-rollout-80": scene(f"{_ROLLOUT.removesuffix(' --yes')} --plan"),
    "stop-plan-cron": scene("stop --tag rack-1 --plan", columns=PIPE),
    "waves-80": scene(_WAVES, at=20.0, has_marks=True),
    "waves-200": scene(_WAVES, at=20.0, columns=WIDE),
    "waves-no-color": scene(_WAVES, at=20.0, has_marks=True, exports={"NO_COLOR": "1"}),
    "waves-dumb": scene(_WAVES, exports={"TERM": "dumb"}),
    "waves-pipe": scene(_WAVES, columns=PIPE),
    "verify-80": scene("stop --tag rack-1 --verify --no-journal --yes", at=12.0),
    "rollout-80": scene(_ROLLOUT, at=200.0, has_marks=True, fails=0.1),
    "rollout-200": scene(_ROLLOUT, at=200.0, columns=WIDE, fails=0.1),
    "rollout-end-80": scene(_ROLLOUT, fails=0.1),
    "interrupted-80": scene(_WAVES.replace("--no-journal", "--key kernel-42"), presses=(10.0,)),
    "let-go-80": scene(_WAVES.replace(" --wave 12", ""), presses=(10.0, 12.0)),
    "aborted-80": scene(_ABORT, fails=0.4),
    "aborted-200": scene(_ABORT, fails=0.4, columns=WIDE),
    "failed-80": scene(_FAILED, fails=0.2, has_marks=True),
    "failed-200": scene(_FAILED, fails=0.2, columns=WIDE),
    "failed-cron": scene(_FAILED, fails=0.2, columns=PIPE),
    "failed-table-80": scene(f"{_FAILED} -o table --wave 20", fails=0.2),
    "runs-list-80": scene(_FAILED, "stop --tag rack-1 --key night --yes", "runs list", fails=0.2),
    "runs-list-200": scene(_FAILED, "runs list", fails=0.2, columns=WIDE),
    "runs-show-80": scene(_FAILED, "runs show kernel-42", fails=0.2),
    "runs-show-failed-80": scene(_FAILED, "runs show kernel-42 --failed", fails=0.2),
    "runs-show-failed-200": scene(_FAILED, "runs show kernel-42 --failed", fails=0.2, columns=WIDE),
    "limits-80": scene("limits"),
    "limits-200": scene("limits", columns=WIDE),
    "login-80": scene("login"),
    "login-200": scene("login", columns=WIDE),
    "settings-missing-80": scene("servers list", needs_cloud=False),
    "settings-missing-cron": scene("servers list", needs_cloud=False, columns=PIPE),
    "help-80": scene("--help", has_marks=True),
    "help-200": scene("--help", columns=WIDE),
    "reboot-help-80": scene("reboot --help"),
    "reboot-help-200": scene("reboot --help", columns=WIDE),
}


@pytest.fixture
def state() -> Iterator[Path]:
    folder = Path(mkdtemp(prefix="bms-", dir=TEMPORARY))
    yield folder
    rmtree(folder)


@pytest.mark.parametrize("name", SCENES)
def test_it_looks_as_it_did_when_somebody_looked_at_it(name: str, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = take(SCENES[name], state, monkeypatch)
    kept = CAPTURES / f"{name}.txt"
    if IS_KEPT:
        kept.write_text(seen, encoding="utf-8")
    before = kept.read_text(encoding="utf-8")
    changes = difflib.unified_diff(before.splitlines(), seen.splitlines(), "as kept", "now", lineterm="")
    if seen != before:
        pytest.fail("\n".join([f"{name}: look at it; `make captures` keeps it", *changes]), pytrace=False)


def take(scene: Scene, state: Path, patch: pytest.MonkeyPatch) -> str:
    cloud = SimulatedCloud(CloudSettings(servers=SERVERS, fail_share=scene.fail_share, seed=7, job_seconds=JOB_SECONDS))
    for index, name in enumerate(("db-east-1", "数据库-东区-01", "web-7", "büro-drucker-3")):
        cloud.rename(cloud.ids[index], name)
    exports = {**(cloud.environment("password") if scene.needs_cloud else {}), **scene.look.exports}
    looks = Looks(cloud, state, patch)
    shown = ""
    for typed in scene.typed:
        shown = looks(scene.look._replace(exports=exports), *typed.split(), presses=scene.presses)
    return shown
