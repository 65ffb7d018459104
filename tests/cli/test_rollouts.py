"""Rollouts from the command: what is typed, what is planned, what is shown and how it ends."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bms_async import (
    GroupBlockedError,
    HttpOk,
    Outcome,
    OutcomeState,
    Progress,
    Rollout,
    RolloutPhase,
    RolloutStanding,
    TcpOpen,
    Window,
    all_of,
    http_ok,
    tcp_open,
)
from bms_async.cli.access.known import KnownServers
from bms_async.cli.following.estimate import RolloutPace
from bms_async.cli.following.failures import Failures
from bms_async.cli.following.outcomes import outcome_table
from bms_async.cli.following.results import Results, print_results
from bms_async.cli.following.standing import describe_groups, describe_unavailable, describe_waiting
from bms_async.cli.rolling import Allowed, GroupName, Hours, HoursType, Probe, RolloutArguments, Seconds
from bms_async.cli.selection.rollouts import ListedServers, make_rollout
from bms_async.cli.selection.zones import machine_zone
from bms_async.cli.terminal import progress
from bms_async.cli.terminal.exit import UsageError
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.rows import RowWriter
from bms_async.models import Server
from tests.cli._helpers import NO_SERVER, Bms

NOTHING: RolloutArguments = {
    "canary": None,
    "group_by": None,
    "max_unavailable": None,
    "max_groups": None,
    "ready": (),
    "ready_address": None,
    "ready_timeout": None,
    "settle": None,
    "window": (),
    "window_zone": None,
    "order_by": None,
}


def typed(**options: Any) -> Rollout | None:
    arguments: Any = {**NOTHING, **options}
    return make_rollout(arguments)


def far_day() -> str:
    """A day of the week that is neither today nor tomorrow, wherever on earth."""
    return f"{datetime.now(UTC) + timedelta(days=3):%a}"


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Seconds(), "900", 900.0),
        (Seconds(), "15m", 900.0),
        (Seconds(), "1.5 h", 5400.0),
        (Allowed(), "3", 3),
        (Allowed(), "10%", 0.1),
        (Allowed(), "0.7%", 0.007),
        (Allowed(), "0.1", 0.1),
        (GroupName(), "az", "availability_zone"),
        (GroupName(), "tag:rack", "tag:rack"),
        (Probe(), "tcp:22", tcp_open(22)),
        (Probe(), "http:80/healthz?deep=1", http_ok(80, "/healthz?deep=1")),
        (Probe(), "http:/", http_ok(80)),
        (Probe(), "https:/up", http_ok(443, "/up", tls=True)),
        (Probe(), "https:8443", http_ok(8443, tls=True)),
        (HoursType(), "Sat 22:00-04:00", Hours("Sat 22:00-04:00", None)),
        (HoursType(), "Sat 22:00-04:00 Europe/Berlin", Hours("Sat 22:00-04:00", "Europe/Berlin")),
        (HoursType(), "22:00-23:00; Sun 01:00-02:00 UTC", Hours("22:00-23:00; Sun 01:00-02:00", "UTC")),
    ],
)
def test_what_is_typed_is_read(kind: Any, text: str, value: object) -> None:
    read = kind.convert(text, None, None)
    assert read == value
    assert type(read) is type(value)


WRONG = [
    (["--wave", "10%"], "'10%': expected a whole number, 1 or more"),
    (["--serve", "99999"], "expected a whole number, from 0 to 65535"),
    (["--canary", "0"], "expected a whole number, 1 or more"),
    (["--group-by", "rack"], "expected a field of the server (az or availability_zone, "),
    (["--group-by", "metadata:admin_pass"], "expected a key that holds no password"),
    (["--max-unavailable", "0"], "expected 1 or more servers"),
    (["--max-unavailable", "100%"], "above 0% and below 100%"),
    (["--max-unavailable", "nan"], "expected 1 or more servers"),
    (["--max-groups", "0"], "expected a whole number, 1 or more"),
    (["--ready", "tcp"], "expected tcp:22, http:80/path or https:443/path"),
    (["--ready", "tcp:22/path"], "expected tcp:22"),
    (["--ready", "https://example.org"], "expected tcp:22"),
    (["--ready", "tcp:99999"], "expected a port from 1 to 65535"),
    (["--ready", "tcp:22", "--ready-timeout", "0"], "expected at least 1 seconds"),
    (["--settle", "soon"], "expected seconds, or a time such as 30s, 15m or 2h"),
    (["--window", "Sat 22-04"], "expected hours as HH:MM-HH:MM"),
    (["--window", "Sat 22:00-04:00 Nowhere/City"], "expected the IANA name of a time zone"),
    (["--window", "Sat 22:00-04:00", "--window-zone", "Nowhere/City"], "expected the IANA name of a time zone"),
    (["--window", "22:00-04:00 UTC", "--window", "12:00-13:00 Asia/Tokyo"], "expected one time zone"),
    (["--group-by", "az"], "--group-by: expected --max-unavailable or --max-groups beside it"),
    (["--max-groups", "2"], "--max-groups: expected --group-by beside it"),
    (["--settle", "30"], "--settle: expected --canary or --max-unavailable beside it"),
    (["--ready-timeout", "15m"], "--ready-timeout: expected --ready beside it"),
    (["--ready-address", "floating"], "--ready-address: expected --ready beside it"),
    (["--window-zone", "UTC"], "--window-zone: expected --window beside it"),
    (["--canary", "1", "--resume", "night"], "--resume: the run keeps its rollout"),
    (["--abort-sample", "5"], "--abort-sample: expected --abort-above beside it"),
    (["--server-takes", "3m"], "--server-takes: expected --plan beside it"),
]


@pytest.mark.parametrize(("options", "rule"), WRONG)
def test_a_wrong_option_is_refused_with_its_rule_before_a_cloud_is_looked_for(
    nowhere: Bms, options: list[str], rule: str
) -> None:
    servers = [] if "--resume" in options else ["a", "b"]
    ended = nowhere("reboot", *servers, "-y", *options)
    assert (ended.code, ended.out) == (2, "")
    assert rule in " ".join(ended.err.split())


def test_a_stop_is_refused_a_readiness_that_no_stopped_server_can_have(nowhere: Bms) -> None:
    ended = nowhere("stop", "a", "b", "-y", "--ready", "tcp:22")
    assert (ended.code, "a server that was stopped answers nothing" in ended.err) == (2, True)


def test_without_an_option_of_one_there_is_no_rollout() -> None:
    assert typed() is None


def test_all_options_become_one_rollout() -> None:
    rollout = typed(
        canary=5,
        group_by="availability_zone",
        max_unavailable=1,
        max_groups=2,
        ready=(tcp_open(22), http_ok(80)),
        ready_address="floating",
        ready_timeout=60.0,
        settle=30.0,
        window=(Hours("Sat 22:00-04:00", None), Hours("Sun 22:00-23:00", "Europe/Berlin")),
        order_by="name",
    )
    assert rollout is not None
    order_by = rollout.order_by
    assert order_by is not None
    assert sorted([Server(id="1", name="b"), Server(id="2"), Server(id="3", name="a")], key=order_by)[1].id == "3"  # type: ignore[arg-type]  # names
    assert rollout == Rollout(
        canary=5,
        group_by="availability_zone",
        max_unavailable=1,
        max_groups=2,
        ready=all_of(TcpOpen(port=22, address="floating"), HttpOk(port=80, address="floating")),
        ready_timeout=60.0,
        settle=30.0,
        window=Window("Sat 22:00-04:00; Sun 22:00-23:00", zone="Europe/Berlin"),
        order_by=order_by,
    )


def test_the_zone_of_the_machine_is_that_of_its_environment_or_of_its_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value, zone in (
        ("Europe/Berlin", "Europe/Berlin"),
        (":Asia/Tokyo", "Asia/Tokyo"),
        ("", "UTC"),
        ("/usr/share/zoneinfo/America/New_York", "America/New_York"),
        ("/home/me/zone", None),
    ):
        monkeypatch.setenv("TZ", value)
        assert machine_zone(tmp_path / "none") == zone
    monkeypatch.delenv("TZ")
    local, file = tmp_path / "localtime", tmp_path / "usr/share/zoneinfo/Europe/Paris"
    assert machine_zone(local) is None
    local.write_bytes(b"TZif2")
    assert machine_zone(local) is None
    local.unlink()
    file.parent.mkdir(parents=True)
    file.touch()
    local.symlink_to(file)
    assert machine_zone(local) == "Europe/Paris"


def test_a_window_of_an_unknown_clock_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hours = (Hours("Sat 22:00-04:00", None),)
    monkeypatch.setenv("TZ", "CET-1CEST")
    with pytest.raises(UsageError, match=r"'CET-1CEST', which is not the name of any; name one with --window-zone"):
        typed(window=hours)
    monkeypatch.setenv("TZ", "/no/database")
    with pytest.raises(UsageError, match=r"cannot be found out; name one with --window-zone"):
        typed(window=hours)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    rollout = typed(window=hours)
    assert rollout is not None
    assert rollout.window == Window("Sat 22:00-04:00", zone="Europe/Berlin")
    assert "this machine's time zone, Europe/Berlin; --window-zone names another one" in capsys.readouterr().err


def test_listed_servers_are_kept_as_they_came() -> None:
    servers, one = ListedServers(), Server(id="1", name="ä", tags=("rack-1",), metadata={"cluster": "blue"})
    servers.append(one)
    servers.append(Server(id="2"))
    assert (len(servers), list(servers)) == (2, [one, Server(id="2")])


RULES = ["--canary", "5", "--group-by", "tag:rack", "--max-unavailable", "50%"]


def test_the_plan_has_the_waves_and_the_end_and_changes_nothing(healthy_cloud: Bms) -> None:
    window = ["--window", "00:00-24:00 Asia/Tokyo", "--settle", "30", "--ready", "tcp:22"]
    both = ["--tag-any", "rack-1", "--tag-any", "rack-2"]
    ended = healthy_cloud("reboot", *both, *RULES, *window, "--plan", "--server-takes", "10m")
    assert ended.code == 0
    head, *_, canaries, first, _, _, _ = ended.out.splitlines()
    assert head.startswith("would reboot 80 servers in 2 groups of project ")
    assert head.endswith(": 3 calls in 3 waves, if each server takes 10:00 until it is well (--server-takes)")
    assert re.fullmatch(r"  \w{3} \d{4}-\d\d-\d\d \d\d:\d\d JST +5 canaries of rack-1", canaries)
    assert re.fullmatch(r"  .* JST +40 servers of rack-[12], rack-[12]", first)
    assert re.search(r"\nthe end is expected at .* JST\nnothing was changed\n$", ended.out)
    ids = "\n".join([*healthy_cloud.ids("rack-1"), NO_SERVER])
    plan, *_ = healthy_cloud("reboot", *RULES, "--dry-run", "--json", text=ids).json
    assert (plan["servers"], plan["skipped"], plan["groups"], plan["waves"]) == (40, 1, 1, 3)
    assert [(wave["servers"], wave["canary"]) for wave in plan["first_waves"]] == [(5, True), (20, False), (15, False)]
    length = datetime.fromisoformat(plan["ends"]) - datetime.fromisoformat(plan["begins"])
    assert length == timedelta(minutes=15)
    assert healthy_cloud.runs == []


def test_a_plan_of_many_waves_is_cut_and_one_of_years_says_so(healthy_cloud: Bms) -> None:
    one = ["reboot", "--tag", "rack-1", "--max-unavailable", "1", "--plan"]
    assert "\n  and 20 waves more\n" in healthy_cloud(*one).out
    assert "the end is more than a year away" in healthy_cloud(*one, "--server-takes", "30d").out


def test_a_rollout_goes_in_its_waves_and_is_a_run_in_the_journal(healthy_cloud: Bms) -> None:
    ended = healthy_cloud("reboot", "--tag", "rack-1", *RULES, "-y", "--json", "--key", "night")
    summary = ended.json[-1]
    assert (ended.code, summary["by_state"]["SUCCEEDED"], summary["run"]) == (0, 40, "night")
    assert summary["calls"] == 3
    assert healthy_cloud.run("night")["status"] == "ended"


def test_a_run_that_is_resumed_keeps_its_rollout_and_one_that_is_tried_again_takes_it_over(healthy_cloud: Bms) -> None:
    window = ["--window", f"{far_day()} 10:00-11:00 Europe/Berlin"]
    begun = healthy_cloud("reboot", "--tag", "rack-6", *window, "--detach", "--key", "later", "-y")
    assert begun.code == 0
    refused = healthy_cloud("reboot", "--resume", "later", "--plan")
    assert (refused.code, "keeps the plan of its rollout" in refused.err) == (2, True)
    with healthy_cloud.on_a_terminal("reboot", "--resume", "later", "-y", columns=160) as terminal:
        terminal.wait_for_text("waits: outside of the window")
        assert "call to go" not in terminal.text
        shown = healthy_cloud.run("later")
        assert shown["rollout"]["waits_for"].startswith("outside of the window")
        assert (shown["rollout"]["waiting"], shown["submitted"]) == (40, 0)
        terminal.send("\x03")
        assert terminal.end() == 130
        assert "nothing more is sent: 40 servers left. To resume it:" in terminal.text
    text = healthy_cloud("runs", "show", "later").out
    assert "\n  waits: the run is paused\n" in text
    assert healthy_cloud("runs", "cancel", "later").code == 0
    assert "rollout" not in healthy_cloud.run("later")
    taken = f"as in the run later: begun only within {far_day()} 10:00-11:00 (Europe/Berlin)"
    planned = healthy_cloud("reboot", "--retry-failed", "later", "--plan", "--settle", "30s", "--canary", "1")
    assert (planned.code, taken in planned.out, "1 canary" in planned.out) == (0, True, True)
    [plan, *servers] = healthy_cloud("reboot", "--retry-failed", "later", "--plan", "--json").json
    assert (plan["servers"], plan["begins"][11:16], len(servers)) == (40, plan["first_waves"][0]["begins"][11:16], 40)
    waits = healthy_cloud("runs", "retry", "later", "--max-unavailable", "50%", "-y", "--detach", "--key", "waits")
    assert (waits.code, taken in waits.err) == (0, True)
    again = healthy_cloud("runs", "retry", "later", "--no-rollout", "--max-unavailable", "50%", "-y", "--json")
    assert (again.code, again.json[-1]["calls"], "as in the run" in again.err) == (0, 2, False)


def test_what_is_tried_again_may_go_at_once_if_that_is_said(healthy_cloud: Bms) -> None:
    healthy_cloud("reboot", "--tag", "rack-7", "--canary", "2", "--detach", "--key", "never", "-y")
    healthy_cloud("runs", "cancel", "never")
    again = healthy_cloud("runs", "retry", "never", "--no-rollout", "-y", "--json")
    assert (again.code, again.json[-1]["calls"]) == (0, 1)


def test_a_canary_that_is_not_well_ends_the_run_with_1_and_nothing_else_is_asked(healthy_cloud: Bms) -> None:
    ids = "\n".join([NO_SERVER, *healthy_cloud.ids("rack-2")])
    ended = healthy_cloud("reboot", "--canary", "1", "-y", "--no-journal", text=ids)
    assert ended.code == 1
    assert "1 failed, 40 skipped" in ended.out
    assert f"\naborted: canary {NO_SERVER} is FAILED\n" in ended.out


def test_a_run_with_a_blocked_group_says_how_its_rest_may_be_tried_again(cloud: Bms) -> None:
    found = cloud("stop", "--tag-any", "rack-1", "--tag-any", "rack-2", "-y", "--json").json
    failing = [line["server_id"] for line in found if line.get("state") == "FAILED"]
    ids = "\n".join([failing[0], *cloud.ids("rack-3")[:2]])
    ended = cloud("reboot", "--max-unavailable", "1", "-y", "-q", "--key", "stuck", text=ids)
    assert (ended.code, cloud.run("stuck")["by_state"]["SKIPPED"]) == (1, 2)
    assert ended.err.endswith("not as asked:\n  bms reboot --retry-failed stuck\n")


def test_the_progress_has_groups_and_what_is_unavailable(healthy_cloud: Bms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    both = ["--tag-any", "rack-3", "--tag-any", "rack-4"]
    ended = healthy_cloud("reboot", *both, *RULES, "-y", "--no-journal")
    assert ended.code == 0
    assert (
        "; 0 of 2 groups done, 1 touched; 5 unavailable: 5 under way; waits: the canaries are under way\n" in ended.err
    )
    assert re.search(r"; 0 of 2 groups done, 2 touched; 40 unavailable: 40 under way", ended.err)
    assert "call to go" not in ended.err


def test_outside_of_the_window_nothing_begins_and_the_progress_says_why(healthy_cloud: Bms) -> None:
    window = ["--window", f"{far_day()} 10:00-11:00", "--window-zone", "Europe/Berlin"]
    arguments = ["reboot", "--tag", "rack-5", *window, "-y", "--no-journal"]
    with healthy_cloud.on_a_terminal(*arguments, columns=160) as terminal:
        terminal.wait_for_text(f"waits: outside of the window {far_day()} 10:00-11:00 (Europe/Berlin), which opens at")
        assert "0 asked" in terminal.text
        terminal.send("\x03")
        assert terminal.end() == 130
        assert "no further server is asked for; none is under way" in terminal.text


def standing(**fields: Any) -> Progress:
    known: dict[str, Any] = {
        "phase": RolloutPhase.MAIN,
        "waiting": 0,
        "under_way": 0,
        "settling": 0,
        "lost": 0,
        "lost_servers": (),
        "groups": 1,
        "groups_touched": 0,
        "groups_done": 0,
        "groups_blocked": 0,
        "blocked_groups": (),
        "canary_failure": None,
        "reason": None,
    }
    done, waits_for = fields.pop("done", 0), fields.pop("waits_for", None)
    to_verify = fields.pop("to_verify", 0)
    rollout = RolloutStanding(**{**known, **fields})
    return Progress(
        total=10,
        submitted=0,
        done=done,
        by_state=dict.fromkeys(OutcomeState, 0),
        to_verify=to_verify,
        rollout=rollout,
        waits_for=waits_for,
    )


def test_groups_and_servers_are_named_and_not_too_many_of_them() -> None:
    some = standing(
        groups=50,
        groups_done=3,
        groups_touched=2,
        groups_blocked=4,
        blocked_groups=("rack-7", "", "rack\x1b[8", "rack-9"),
        under_way=2,
        settling=1,
        lost=2,
        lost_servers=("s-1", "s-2"),
        waits_for="3 servers are not ready yet\x1b",
    )
    assert describe_groups(some) == "3 of 50 groups done, 2 touched, 4 blocked (rack-7, (none), rack\ufffd[8, ...)"
    assert describe_unavailable(some) == "5 unavailable: 2 under way, 1 settling, 2 for good (s-1, s-2)"
    assert describe_waiting(some) == "waits: 3 servers are not ready yet\ufffd"


def test_what_is_not_the_case_is_not_shown() -> None:
    plain = Progress(total=1, submitted=0, done=0, by_state={})
    for nothing in (standing(), plain):
        assert (describe_groups(nothing), describe_unavailable(nothing), describe_waiting(nothing)) == ("", "", "")


def print_blocked(*groups: str, as_json: bool = False) -> None:
    failures = Failures()
    for number, group in enumerate(groups):
        error = GroupBlockedError(group=group, unavailable=("lost",), allowed=1)
        failures.add(Outcome(server_id=f"s-{number}", state=OutcomeState.SKIPPED, error=error))
    counts = {**dict.fromkeys(OutcomeState, 0), OutcomeState.SKIPPED: len(groups)}
    results = Results(
        verb="reboot",
        operation="servers.reboot",
        key=None,
        servers=len(groups),
        by_state=counts,
        is_interrupted=False,
        aborted=None,
        unverified=None,
        seconds=1.0,
        calls=(0, 0),
    )
    rows = RowWriter(outcome_table(KnownServers()), OutputOptions("jsonl")) if as_json else None
    print_results(results, failures, where="here", quiet=False, rows=rows, code=1)


def test_the_results_name_the_groups_that_are_blocked_the_largest_first(capsys: pytest.CaptureFixture[str]) -> None:
    print_blocked("rack-1", "rack-2", "rack-2", "")
    out = capsys.readouterr().out
    words = " ".join(out.split())
    assert "\ngroups that are blocked: rack-2 (2 servers), rack-1 (1 server), (none) (1 server)\n" in out
    assert re.search(r" 4 group blocked: not sent: .*'rack-1'", words)
    print_blocked(*map(str, range(9)))
    assert "4 (1 server) and 4 more\n" in capsys.readouterr().out
    print_blocked("rack-1", as_json=True)
    assert json.loads(capsys.readouterr().out)["blocked_groups"] == {"rack-1": 1}


def test_the_time_for_which_nothing_is_unavailable_is_no_pace() -> None:
    pace = RolloutPace()
    assert pace.seconds_left(10) is None
    pace.sample(standing(under_way=1), 0.0)
    assert pace.seconds_left(10) is None
    pace.sample(standing(settling=1, done=1), 100.0)
    pace.sample(standing(done=1), 110.0)
    pace.sample(standing(under_way=1, done=1), 9000.0)
    pace.sample(standing(done=2), 9090.0)
    assert pace.seconds_left(10) == (100 + 10 + 90) / 2 * 8


def test_servers_that_wait_for_their_states_to_be_read_back_are_gone_through() -> None:
    pace = RolloutPace()
    pace.sample(standing(under_way=2), 0.0)
    pace.sample(standing(under_way=2, done=1, to_verify=4), 100.0)
    assert pace.seconds_left(10) == pytest.approx(100)
