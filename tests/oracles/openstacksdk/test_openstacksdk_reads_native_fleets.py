"""After a native fleet run, OpenStack's own SDK reads of each server what the run's outcome says."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from bms_async import BmsClient, FleetReport, Limits, OutcomeState, StaticToken
from tests.support.machine import patience

pytest.importorskip("openstack")

import openstack
from keystoneauth1 import session, token_endpoint

pytestmark = [
    # The package warns of what its own next versions will take out of its own insides.
    pytest.mark.filterwarnings("ignore:The _compute_attributes method is deprecated"),
    pytest.mark.filterwarnings("ignore:The 'service_type' parameter is unnecesary"),
]

S = OutcomeState
SERVERS = 40
FLAGS = [
    *("--servers", str(SERVERS), "--virtual-machines", "3", "--seed", "5", "--job-seconds", "3", "4"),
    *("--stopped-share", "0.2", "--fail-share", "0.2"),
]


class Place(NamedTuple):
    address: str
    project_id: str
    token: str

    def client(self) -> BmsClient:
        return BmsClient(
            endpoint=self.address,
            compute_endpoint=self.address,
            project_id=self.project_id,
            auth=StaticToken(self.token),
            limits=Limits.unlimited(),
        )

    def states(self) -> dict[str, Any]:
        """The status and the task of each server that OpenStack's SDK finds."""
        endpoint = f"{self.address}/v2.1/{self.project_id}"
        given = session.Session(auth=token_endpoint.Token(endpoint, self.token))
        with openstack.connection.Connection(session=given, compute_endpoint_override=endpoint) as connection:
            return {each.id: each for each in connection.compute.servers()}


@pytest.fixture
def place() -> Iterator[Place]:
    command = [sys.executable, "-m", "bms_async.simulator", "--port", "0", *FLAGS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = json.loads(process.stdout.readline())
            yield Place(line["address"], line["project_id"], line["token"])
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=patience(60.0)) == ("", "")
        finally:
            if process.poll() is None:
                process.kill()


def test_it_reads_the_states_that_the_outcomes_say(place: Place) -> None:
    async def run() -> FleetReport:
        async with place.client() as bms:
            run = bms.nova.fleet.reboot(bms.nova.servers.list_details())
            return await asyncio.wait_for(run, patience(60.0))

    report = asyncio.run(run())
    assert len(report.outcomes) == SERVERS
    found = place.states()
    assert len(found) == SERVERS + 3
    for outcome in report.outcomes:
        server = found[outcome.server_id]
        if outcome.state.is_success:
            assert (server.status, server.task_state) == ("ACTIVE", None)
        else:
            assert (outcome.state, server.status) == (S.FAILED, "SHUTOFF")
            assert server.fault["message"] in str(outcome.error)
    assert {outcome.state for outcome in report.outcomes} == {S.SUCCEEDED, S.FAILED}
