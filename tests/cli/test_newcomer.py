"""A newcomer's first night: from the clouds.yaml of the openstack client to the report in the mail."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli._helpers import PATIENCE, Bms, simulator

CLOUDS = """
clouds:
  mycloud:
    auth:
      auth_url: {address}/v3
      username: operator
      password: simulated-password
      project_name: simulated
      project_domain_name: simulated-account
      user_domain_name: simulated-account
    region_name: eu-1
    identity_api_version: 3
"""
MAIL = """#!/bin/sh
{ echo "To: $3"; echo "Subject: $2"; echo; cat; } > "$OUTBOX"
"""
WISH = {
    "imageRef": "1a6635d8-afea-4f2b-abb6-27a202bad319",
    "flavorRef": "physical.o2.medium",
    "availability_zone": "az-sim-2",
    "vpcid": "0dae26c9-9a70-4392-93f3-87d53115d171",
    "key_name": "KeyPair-simulated",
    "server_tags": [{"key": "rack-7"}],
}
RACK = {f"web-{nth}": f"127.0.7.{nth}" for nth in (1, 2, 3, 4)}
CANARY, SECOND, THIRD, FOURTH = RACK


class Services:
    """What listens at the addresses of the rack's servers, all at one port, once it is said to be up."""

    def __init__(self, stack: ExitStack) -> None:
        self._held = {name: stack.enter_context(socket.socket()) for name in RACK}
        self.port = 0
        for name, address in RACK.items():
            self._held[name].bind((address, self.port))
            self.port = self._held[name].getsockname()[1]

    def come_up(self, *names: str) -> None:
        for name in names:
            self._held[name].listen()


@pytest.fixture
def services() -> Iterator[Services]:
    with ExitStack() as stack:
        yield Services(stack)


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Bms]:
    """The command beside a clouds.yaml, in a cloud of one rack whose servers have addresses of this machine."""
    with simulator("--servers", "0", "--job-seconds", "0.1", "0.2") as exports:
        bms = Bms({"OS_CLOUD": "mycloud"}, tmp_path)
        (tmp_path / "openstack").mkdir()
        (tmp_path / "openstack" / "clouds.yaml").write_text(CLOUDS.format(address=exports["BMS_ENDPOINT"]))
        bms.environment["ADDRESS"] = exports["BMS_ENDPOINT"]
        owner, jobs = Bms(exports, tmp_path), list[str]()
        for name, address in RACK.items():
            wish = {**WISH, "name": name, "nics": [{"subnet_id": "7", "ip_address": address}]}
            made = owner("api", "POST", "/v1/{project_id}/baremetalservers", "-y", "-d", json.dumps({"server": wish}))
            jobs.append(json.loads(made.out)["job_id"])
        assert owner("jobs", "watch", *jobs).code == 0
        yield bms


def test_from_the_clouds_yaml_of_openstack_to_the_mailed_report_of_a_rack(newcomer: Bms, services: Services) -> None:
    # The file is as it was for the openstack client, and what it lacks is named with a remedy that works.
    lacking = newcomer("login")
    assert lacking.code == 3
    assert "not set in cloud 'mycloud'" in lacking.err
    assert "export BMS_ENDPOINT" in lacking.err
    newcomer.environment["BMS_ENDPOINT"] = newcomer.environment["ADDRESS"]
    login = newcomer("login")
    assert (login.code, "operator" in login.out) == (0, True)
    listed = newcomer("servers", "list", "--tag", "rack-7", "--columns", "name", "--sort", "name")
    assert listed.out.split() == list(RACK)

    rules = ["--tag", "rack-7", "--canary", "1", "--max-unavailable", "1", "--order-by", "name"]
    rules += ["--ready", f"tcp:{services.port}"]
    plan = newcomer("reboot", *rules, "--plan")
    assert plan.code == 0
    assert "would reboot 4 servers of cloud mycloud" in plan.out
    assert plan.out.endswith("nothing was changed\n")
    assert newcomer.runs == []

    # The canary comes back, the second does not yet, and so nothing else is asked for.
    services.come_up(CANARY)
    with newcomer.on_a_terminal("reboot", *rules, columns=160, lines=50) as terminal:
        terminal.wait_for_text("[y/N]")
        assert "cloud mycloud" in terminal.text
        terminal.send("y\n")
        seen = ("1/4", "2 asked", "1 server is not ready yet")
        terminal.wait_for(lambda: all(text in terminal.text for text in seen))
        terminal.send("\x03")
        terminal.wait_for_text("no further server is asked for")
        services.come_up(SECOND)
        assert terminal.end() == 130
        assert "bms reboot --resume" in terminal.text
    [run] = newcomer.runs
    assert (run["status"], run["submitted"], run["done"], run["servers"]) == ("paused", 2, 2, 4)

    # On the next day the rest is asked for, by the same rules.
    services.come_up(THIRD, FOURTH)
    resumed = newcomer("reboot", "--resume", "last", "-y", "--report", "night.txt")
    assert (resumed.code, "4 servers of cloud mycloud" in resumed.out, "4 succeeded" in resumed.out) == (0, True, True)
    [run] = newcomer.runs
    assert (run["status"], run["submitted"]) == ("ended", 4)

    mailed = mail(newcomer, "night.txt")
    assert mailed.startswith("To: ops@example.com\nSubject: rack 7\n\n")
    for word in ("mycloud", "simulated", "operator", "All 4 servers are as asked", "bms reboot --resume last"):
        assert word in mailed
    assert max(len(line) for line in mailed.splitlines()) <= 80
    assert "password" not in mailed


def mail(bms: Bms, report: str) -> str:
    """Pipe a report into what stands in for `mail`, as an operator does, and return what it sends."""
    folder, outbox = bms.state / "bin", bms.state / "outbox"
    folder.mkdir()
    (folder / "mail").write_text(MAIL)
    (folder / "mail").chmod(0o755)
    subprocess.run(
        ["sh", "-c", f"cat {report} | mail -s 'rack 7' ops@example.com"],
        env={"PATH": f"{folder}:/usr/bin:/bin", "OUTBOX": str(outbox)},
        cwd=bms.state,
        timeout=PATIENCE,
        check=True,
    )
    return outbox.read_text()
