"""The limits that commands share: with each other, with other programs, and by a store that the user names."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from msgspec.structs import replace

from bms_async import LimiterStatistics, SharedStatistics, TransportError
from bms_async import _addresses as addresses
from bms_async.cli.access import account_usage, project_ids
from bms_async.cli.following.display import describe_next_call
from bms_async.limits.shared.store import Store
from bms_async.simulator import CloudSettings
from tests.cli._cloud import NEVER, counted, plan_fault
from tests.cli._helpers import COMMAND, PATIENCE, Bms, simulator, wait_until
from tests.cli._limits import account_of, file_of, use_elsewhere

CLOSED = 135.0


@pytest.fixture(scope="module")
def exports() -> Iterator[dict[str, str]]:
    """A quick cloud of 20 servers that allows three reboots and three stops a minute, and counts them strictly."""
    arguments = ("--servers", "20", "--job-seconds", "0.05", "0.1", "--throttle", "sliding")
    with simulator(*arguments, "--limit", "servers.reboot=3", "--limit", "servers.stop=3") as found:
        yield found


@pytest.fixture
def bms(exports: dict[str, str], tmp_path: Path) -> Bms:
    """The command, with a file of limits of its own and a project of its own there."""
    return Bms({**exports, "BMS_LIMITS_ACCOUNT": "prod-eu"}, tmp_path)


def shown(bms: Bms, call: str) -> dict[str, object]:
    """Return what `bms limits` says of a call."""
    [line] = [line for line in bms("limits", call, "--json").json if line["type"] == "limit"]
    return line


def run_at_once(action: str, commands: list[Bms], until: Callable[[], bool]) -> tuple[int, int]:
    """Have commands that want three calls each run at once, and end them then; return what came and was refused."""
    ids = commands[0].ids("__type_baremetal")
    with ExitStack() as stack:
        running = [
            stack.enter_context(bms.in_a_pipe(action, *ids[3 * number : 3 * number + 3], "--yes", "--wave", "1"))
            for number, bms in enumerate(commands)
        ]
        wait_until(until)
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.communicate(timeout=PATIENCE)
    return counted(commands[0], f"servers.{action}")


def test_two_commands_at_once_keep_the_limit_together(bms: Bms) -> None:
    use_elsewhere(bms, "servers.stop", 47)

    def one_waits() -> bool:
        return counted(bms, "servers.stop")[0] >= 3 and shown(bms, "servers.stop")["waiting"] != 0

    assert run_at_once("stop", [bms, bms], one_waits) == (3, 0)


def test_two_commands_that_share_nothing_exceed_it(bms: Bms, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    commands = [bms, Bms(bms.exports, other)]
    for each in commands:
        use_elsewhere(each, "servers.reboot", 47)
    _, refused = run_at_once("reboot", commands, lambda: counted(bms, "servers.reboot")[1] > 0)
    assert refused > 0


def test_what_other_programs_use_is_shown_and_planned_with(bms: Bms) -> None:
    assert bms("limits", "servers.start").out == "servers.start\t50\t0\t50\tnow\t0\t0\n"
    use_elsewhere(bms, "servers.start", 40)
    assert bms("limits", "servers.start").out == "servers.start\t50\t40\t10\tnow\t0\t0\n"
    ids = "\n".join(f"00000000-0000-4000-8000-{number:012}" for number in range(11))
    plan, *_ = bms("start", "--dry-run", "--json", "--wave", "1", text=ids).json
    assert (plan["used"], plan["limit"], 50 < plan["least_seconds"] <= 60.1) == (40, 50, True)
    use_elsewhere(bms, "servers.start", 10)
    assert shown(bms, "servers.start")["left"] == 0
    assert 55 < float(str(shown(bms, "servers.start")["next_slot"])) <= 60.1
    with bms.in_a_pipe("start", bms.ids("rack-0")[0], "--yes") as process:
        assert process.stderr is not None
        assert "bms: project " in process.stderr.readline()
        # The progress knows it before the run has asked for a slot.
        assert "1 call to go, next in " in process.stderr.readline()


def test_what_is_shown_is_said_with_who_holds_and_waits(bms: Bms) -> None:
    plan_fault(bms, "servers.start", NEVER)
    with bms.in_a_pipe("start", bms.ids("rack-0")[0], "--yes") as process:
        wait_until(lambda: shown(bms, "servers.start")["holders"] == 1)
        account, limit, holder = bms("limits", "servers.start", "--json").json
        process.send_signal(signal.SIGKILL)
    assert account == {
        "type": "account", "account": "prod-eu", "store": str(file_of(bms)), "known": True, "closed_for": 0.0,
        "failure": None,
    }  # fmt: skip
    assert (limit["used"], limit["left"], limit["next_slot"], limit["shared"]) == (1, 49, None, True)
    assert (holder["type"], holder["call"], holder["held"]) == ("holder", "servers.start", 1)
    assert 0 < holder["lease_left"] <= 15
    with bms.on_a_terminal("limits", "servers.start", columns=120) as terminal:
        terminal.end()
        assert "CALL" in terminal.shown[0]
        assert "LEASE LEFT" in terminal.text
        assert holder["holder"] in terminal.text
        assert f"account prod-eu in {file_of(bms)}"[:100] in " ".join(terminal.text.split())


def test_the_tables_of_limits_have_room_on_eighty_columns(bms: Bms) -> None:
    use_elsewhere(bms, "servers.start", 1, leaving=False)
    with bms.on_a_terminal("limits", columns=80) as terminal:
        terminal.end()
    tables = terminal.text.partition("\naccount")[0]
    assert "servers.delete_windows_password" in tables
    assert "another" in tables
    assert max(map(len, tables.splitlines())) <= 80
    assert all(len(line.split()) >= 5 for line in tables.splitlines() if line)


def test_the_slots_of_a_killed_command_come_back_after_lease_timeout_and_window(
    bms: Bms, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_fault(bms, "servers.start", NEVER)
    arrived = counted(bms, "servers.start")[0]
    with bms.in_a_pipe("start", bms.ids("rack-0")[0], "--yes") as process:
        wait_until(lambda: counted(bms, "servers.start")[0] > arrived)
        process.send_signal(signal.SIGKILL)
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    for later, used in ((0, 1), (110, 1), (140, 0)):
        monkeypatch.setattr("bms_async.limits.shared.sqlite_reader.steady_time", lambda later=later: now + later)
        assert shown(bms, "servers.start")["used"] == used, later


def test_a_command_that_ends_hands_all_back(bms: Bms) -> None:
    assert bms("start", bms.ids("rack-0")[0], "-q") == (0, "", "")
    lines = bms("limits", "--json").json
    assert not [line for line in lines if line["type"] == "holder"]
    assert shown(bms, "servers.start")["used"] == 1


def test_limits_can_be_shown_before_there_is_a_file_and_none_is_made(bms: Bms) -> None:
    assert len(bms("limits").out.splitlines()) > 10
    assert list(bms.state.iterdir()) == []


def break_folder(bms: Bms) -> None:
    (bms.state / "bms").write_text("a file in the place of the folder")


def break_file(bms: Bms) -> None:
    file_of(bms).parent.mkdir()
    file_of(bms).write_text("no database" * 1000)


def take_its_place(bms: Bms) -> None:
    file_of(bms).mkdir(parents=True)


@pytest.mark.parametrize("spoil", [break_folder, break_file, take_its_place])
def test_a_file_of_the_machine_that_cannot_be_used_is_done_without_and_said(
    bms: Bms, spoil: Callable[[Bms], None]
) -> None:
    spoil(bms)
    server_id = bms.ids("rack-0")[0]
    ended = bms("start", server_id)
    assert ended.code == 0
    assert ended.err.count("limits cannot be shared with other commands and programs") == 1
    assert str(bms.state) in ended.err
    assert "WARNING" not in ended.err
    said = bms("limits", "servers.start", "--json")
    assert "commands cannot share the limits" in said.err
    assert [line["shared"] for line in said.json if line["type"] == "limit"] == [False]


@pytest.mark.parametrize("address", ["machine", "sqlite://{}/bms/x/limits.db"])
def test_a_file_that_was_named_and_cannot_be_made_is_not_shown_as_one_that_is_new(bms: Bms, address: str) -> None:
    break_folder(bms)
    said = bms("limits", "servers.start", changes={"BMS_LIMITS": address.format(bms.state)})
    assert (said.code, said.out) == (4, "")
    assert f"the store of the limits cannot be made: {bms.state}" in said.err


def test_an_address_that_is_none_is_said_by_the_name_of_its_setting(bms: Bms) -> None:
    for arguments in (["quota"], ["limits"], ["limits", "open", "--yes"]):
        ended = bms(*arguments, changes={"BMS_LIMITS": "mysql://h"})
        assert (ended.code, ended.out) == (3, "")
        assert ended.err.startswith("bms: BMS_LIMITS, or bms_limits in clouds.yaml: store='***': expected the address")
    assert bms("limits", "open", "--store", "mysql://h").err.startswith("bms: --store='mysql://h': expected")


def test_a_user_without_a_home_folder_is_told_that_the_limits_are_not_shared(
    bms: Bms, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", find_none)
    nowhere: dict[str, str | None] = {"XDG_STATE_HOME": None}
    ended = bms("quota", changes=nowhere)
    assert (ended.code, "there is no home folder; set XDG_STATE_HOME" in ended.err) == (0, True)
    assert "there is no home folder" in bms("limits", "jobs.get", changes=nowhere).err


def test_a_full_disk_is_no_reason_to_wait(bms: Bms) -> None:
    server_id = bms.ids("rack-0")[0]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *COMMAND, "start", server_id],
        env=bms.environment, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=bms.state,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr.count("limits cannot be shared with other commands and programs") == 1


def named(bms: Bms) -> dict[str, str | None]:
    return {"BMS_LIMITS": f"sqlite://{bms.state}/named.db"}


def test_a_new_store_that_the_user_named_is_waited_for_and_opened_by_an_operator(bms: Bms) -> None:
    server_id = bms.ids("rack-0")[0]
    there = Bms({**bms.exports, "BMS_LIMITS": f"sqlite://{bms.state}/named.db"}, bms.state)
    with there.in_a_pipe("start", server_id, "--yes") as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        while "calls wait for 2:1" not in line:
            assert line
            line = process.stderr.readline()
        assert "bms limits open --account prod-eu" in line
        assert CLOSED - 20 < float(str(shown(there, "servers.start")["next_slot"])) <= CLOSED + 0.1
        assert "the account prod-eu is still closed for 2:1" in there("limits").err
        refused = there("limits", "open")
        assert (refused.code, "confirm with --yes\n" in refused.err) == (2, True)
        assert f"open the limits of account prod-eu in {bms.state}/named.db at once?" in refused.err
        opened = there("limits", "open", "--account", "prod-eu", "--yes")
        assert (opened.code, "are open; the account was closed for 2:1" in opened.out) == (0, True)
        assert process.wait(timeout=PATIENCE) == 0
    [again] = there("limits", "open", "--yes", "--json").json
    assert again["was_closed_for"] == 0
    assert again["account"] == "prod-eu"


def test_a_store_that_loses_all_in_a_run_is_waited_for_and_no_opening_is_advised(bms: Bms) -> None:
    there = Bms({**bms.exports, "BMS_LIMITS": f"sqlite://{bms.state}/named.db"}, bms.state)
    there("limits", "open", "--yes")
    arrived = counted(bms, "servers.start")[0]
    # One after the other, so that the store is asked many times yet.
    with there.in_a_pipe("start", *bms.ids("rack-0"), "--yes", "--wave", "1") as process:
        assert process.stderr is not None
        wait_until(lambda: counted(bms, "servers.start")[0] > arrived)
        (bms.state / "named.db").unlink()
        line = process.stderr.readline()
        while "calls wait for 2:1" not in line:
            assert line
            line = process.stderr.readline()
        process.send_signal(signal.SIGKILL)
    assert "are closed again, since the store may have lost calls that still count" in line
    assert "limits open" not in line


def test_a_run_does_not_promise_slots_of_an_account_that_is_closed() -> None:
    shared = SharedStatistics(
        account="a", store="s", unreachable_for=None, error=None, is_alone=False, closed_for=130.0, holders=1,
        waiting_elsewhere=0, questions=1,
    )  # fmt: skip
    free = LimiterStatistics(
        capacity=50, limit=50, used=1, free=49, waiting_interactive=0, waiting_bulk=0, next_slot=None, calls=1,
        refused=0, shared=shared,
    )  # fmt: skip
    assert describe_next_call(free, [30.0]) == "next in 2:10"
    for opened in (replace(free, shared=replace(shared, closed_for=0.0)), replace(free, shared=None)):
        assert describe_next_call(opened, [30.0]) == "49 slots free"
    away = replace(free, shared=replace(shared, unreachable_for=1.0))
    assert describe_next_call(away, [30.0]) == "waiting for the store of the limits"


@pytest.fixture
def by_name(exports: dict[str, str], tmp_path: Path) -> Bms:
    """The command with a user's password and the project's name, and without its id."""
    user = CloudSettings()
    known = {name: value for name, value in exports.items() if name not in {"OS_TOKEN", "OS_PROJECT_ID"}}
    password = {"OS_USERNAME": user.username, "OS_PASSWORD": user.password, "OS_PROJECT_NAME": user.project_name}
    domain = {"OS_AUTH_URL": f"{exports['BMS_ENDPOINT']}/v3", "OS_USER_DOMAIN_NAME": user.user_domain_name}
    return Bms({**known, **password, **domain}, tmp_path)


@pytest.fixture
def no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that only reads the limits reaches the cloud."""

    async def fail(*_: object) -> str:
        raise TransportError("no route to host", maybe_delivered=False)

    monkeypatch.setattr(project_ids, "_ask", fail)


@pytest.mark.parametrize("credentials", ["password", "token"])
def test_a_command_that_has_the_projects_name_counts_with_those_that_have_its_id(
    exports: dict[str, str], by_name: Bms, credentials: str
) -> None:
    if credentials == "token":
        name = {"OS_PROJECT_NAME": by_name.exports["OS_PROJECT_NAME"]}
        by_name = Bms({key: value for key, value in exports.items() if key != "OS_PROJECT_ID"} | name, by_name.state)
    by_id = Bms(exports, by_name.state)
    use_elsewhere(by_id, "servers.start", 40)
    account, limit = by_name("limits", "servers.start", "--json").json
    assert (account["account"], limit["used"]) == (account_of(by_id), 40)
    assert shown(by_id, "quotas.get")["used"] == 0
    assert by_name("quota").code == 0
    assert shown(by_id, "quotas.get")["used"] == shown(by_name, "quotas.get")["used"] == 1
    plan, *_ = by_name("start", "--dry-run", "--json", by_id.ids("rack-0")[0]).json
    assert (plan["used"], plan["project"]) == (40, exports["OS_PROJECT_ID"])
    [opened] = by_name("limits", "open", "--yes", "--json").json
    assert (opened["account"], opened["was_known"]) == (account_of(by_id), True)


def test_the_limits_of_a_project_whose_id_a_command_has_found_are_shown_without_the_cloud(
    exports: dict[str, str], by_name: Bms, no_login: None
) -> None:
    assert by_name("quota").code == 0
    for ended in (by_name("limits", "--json"), by_name("limits", "open", "--yes", "--json")):
        assert ended.json[0]["account"] == account_of(Bms(exports, by_name.state))
    [kept] = (by_name.state / "bms" / "projects").iterdir()
    assert kept.read_text() == exports["OS_PROJECT_ID"]
    kept.write_text("\x1b[31m")
    assert by_name("limits").code == 4


def test_where_nobody_has_found_the_id_and_the_cloud_is_away_the_command_says_how_to_go_on(
    exports: dict[str, str], by_name: Bms, no_login: None
) -> None:
    for arguments in (["limits"], ["limits", "open", "--yes"]):
        ended = by_name(*arguments)
        assert (ended.code, ended.out) == (4, "")
        said = " ".join(ended.err.split())
        assert "the limits of project simulated are kept by its id, which no command on this machine has found" in said
        assert "Set OS_PROJECT_ID, or the account's name, BMS_LIMITS_ACCOUNT" in said
    assert by_name("limits", changes={"OS_PROJECT_ID": exports["OS_PROJECT_ID"]}).code == 0
    assert by_name("limits", changes={"BMS_LIMITS_ACCOUNT": "prod-eu"}).code == 0


def test_the_id_that_a_command_has_found_is_another_users_and_another_projects_not(
    by_name: Bms, no_login: None
) -> None:
    assert by_name("quota").code == 0
    for other in ("OS_USERNAME", "OS_PROJECT_NAME", "OS_USER_DOMAIN_NAME", "OS_AUTH_URL"):
        value = f"{by_name.exports['BMS_ENDPOINT']}/identity/v3" if other == "OS_AUTH_URL" else "another"
        assert by_name("limits", changes={other: value}).code == 4, other


def test_an_operator_needs_no_cloud_to_open_an_account(nowhere: Bms) -> None:
    store = f"sqlite://{nowhere.state}/named.db"
    opened = nowhere("limits", "open", "--account", "a", "--store", store, "--yes")
    assert (opened.code, "was not known there" in opened.out) == (0, True)
    assert nowhere("limits", "open", "--account", "a", "--yes").code == 3
    assert nowhere("limits", "open", "--account", "", "--store", store, "--yes").code == 3


@pytest.mark.parametrize(
    "address", ["redis://me:secret-word@127.0.0.1:1/0", "postgresql://me:secret-word@127.0.0.1:1/x"]
)
def test_a_store_that_does_not_answer_is_waited_for_and_named_without_its_password(bms: Bms, address: str) -> None:
    there = Bms({**bms.exports, "BMS_LIMITS": address}, bms.state)
    with there.in_a_pipe("quota") as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=PATIENCE) == 130
    assert "127.0.0.1:1" in line
    assert "does not answer" in line
    assert "calls wait until it does" in line
    for ended in (there("limits"), there("limits", "open", "--yes")):
        assert (ended.code, "does not answer" in ended.err) == (4, True)
        rest += ended.out + ended.err
    assert "secret-word" not in line + rest


def test_a_store_that_accepts_and_says_nothing_is_said_to_be_waited_for(bms: Bms) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        there = Bms({**bms.exports, "BMS_LIMITS": f"redis://:secret-word@{address}/0"}, bms.state)
        with there.in_a_pipe("quota") as process:
            assert process.stderr is not None
            line = process.stderr.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=PATIENCE) == 130
    assert f"waiting for the store of the limits at redis://{address}/0, which has not answered yet" in line


def test_a_store_that_refuses_ends_the_command_as_other_settings_do(bms: Bms, monkeypatch: pytest.MonkeyPatch) -> None:
    (bms.state / "named.db").write_text("no database" * 1000)
    for arguments in (["quota"], ["limits"], ["limits", "open", "--yes"]):
        ended = bms(*arguments, changes=named(bms))
        assert (ended.code, ended.out) == (3, "")
        assert ended.err.count("expected a SQLite database") == 1
        assert "calls wait" not in ended.err
    monkeypatch.setattr(addresses, "is_installed", lambda _: False)
    ended = bms("quota", changes={"BMS_LIMITS": "redis://:secret-word@h/0"})
    assert (ended.code, "pip install 'bms-async[redis]'" in ended.err) == (3, True)
    assert "secret-word" not in ended.err


async def test_the_answer_of_a_store_that_cannot_be_closed_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        label = "broken"

        async def open(self) -> None:
            """Open at once."""

        async def aclose(self) -> None:
            raise asyncio.CancelledError

    monkeypatch.setattr(account_usage, "find_store", lambda *_: Broken)

    async def ask(store: Store) -> str:
        return store.label

    assert await account_usage.ask_store(None, ask) == "broken"


def test_a_projects_name_that_is_no_text_is_refused_in_a_line(by_name: Bms) -> None:
    keys = {name: value for name, value in by_name.exports.items() if not name.startswith(("OS_USER", "OS_PASS"))}
    with_keys = {**keys, "HUAWEICLOUD_SDK_AK": "a", "HUAWEICLOUD_SDK_SK": "b", "OS_PROJECT_NAME": "eu\udcff"}
    ended = Bms(with_keys, by_name.state)("limits")
    assert (ended.code, "expected text that can be encoded" in ended.err) == (2, True)
