"""What a test sees of a simulated cloud, and what it does behind a program's back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from bms_async import (
    AuthenticationError,
    BmsClient,
    BmsError,
    CallEnded,
    CallTimeoutError,
    HookEvent,
    JobFailedError,
    Limits,
    NotFoundError,
    OutcomeState,
    ResponseTooLargeError,
    TransportError,
)
from bms_async.testing import (
    ArrivedCall,
    CloudSettings,
    CutAfter,
    CutBefore,
    Delay,
    SimulatedCloud,
    Throttled,
    advance,
    run_virtually,
)

pytestmark = pytest.mark.bms(virtual=True, servers=4)


async def test_it_shows_its_servers_and_what_becomes_of_them(
    bms_simulator: SimulatedCloud, bms_client: BmsClient
) -> None:
    ids = bms_simulator.ids
    assert len(ids) == 4
    assert (bms_simulator.on, bms_simulator.off) == (ids, [])
    await (await bms_client.servers.stop(ids[:1]))
    assert (bms_simulator.on, bms_simulator.off) == (ids[1:], ids[:1])
    assert bms_simulator.statuses() == {"ACTIVE": 3, "SHUTOFF": 1, "HARD_REBOOT": 0}
    assert bms_simulator.server(ids[0]).stops == 1


async def test_it_shows_its_jobs_also_one_whose_answer_was_lost(
    bms_simulator: SimulatedCloud, bms_client: BmsClient
) -> None:
    ids = bms_simulator.ids
    bms_simulator.faults.add("servers.reboot", CutAfter())
    with pytest.raises(TransportError) as lost:
        await bms_client.servers.reboot(ids[:2])
    assert lost.value.maybe_delivered
    (job,) = bms_simulator.jobs
    assert (job.action, job.server_ids, job.status, job.failed) == ("reboot", tuple(ids[:2]), "INIT", 0)
    await advance(120)
    assert [(each.id, each.status) for each in bms_simulator.jobs] == [(job.id, "SUCCESS")]


async def test_a_call_that_was_cut_before_it_acted_leaves_no_job(
    bms_simulator: SimulatedCloud, bms_client: BmsClient
) -> None:
    bms_simulator.faults.add("servers.reboot", CutBefore())
    with pytest.raises(TransportError):
        await bms_client.servers.reboot(bms_simulator.ids[:2])
    assert bms_simulator.jobs == []
    assert bms_simulator.arrived("servers.reboot") == 1


async def test_calls_are_counted_and_kept_in_their_order(bms_simulator: SimulatedCloud, bms_client: BmsClient) -> None:
    await bms_client.quotas.get()
    await advance(5)
    await bms_client.servers.get(bms_simulator.ids[0])
    await bms_client.servers.get(bms_simulator.ids[1])
    assert [(call.operation, call.nth, call.refused) for call in bms_simulator.calls] == [
        ("quotas.get", 1, False),
        ("servers.get", 1, False),
        ("servers.get", 2, False),
    ]
    assert bms_simulator.calls[1].at - bms_simulator.calls[0].at == pytest.approx(5, abs=1e-3)
    assert bms_simulator.arrived("servers.get") == 2
    assert bms_simulator.arrived("servers.stop") == 0


@pytest.mark.bms(limits={"quotas.get": 1})
async def test_what_its_limits_refuse_is_counted_apart(bms_simulator: SimulatedCloud) -> None:
    async with bms_simulator.client(limits=Limits({"quotas.get": 5})) as bms:
        await bms.quotas.get()
        await bms.quotas.get()
    assert bms_simulator.refused() == bms_simulator.refused("quotas.get") == 1
    assert bms_simulator.refused("servers.get") == 0
    assert [call.refused for call in bms_simulator.calls] == [False, True, False]


def test_an_operation_that_is_spelled_wrong_is_refused_and_not_counted_as_none(bms_simulator: SimulatedCloud) -> None:
    for count in (bms_simulator.arrived, bms_simulator.refused):
        with pytest.raises(ValueError, match=r"server\.get.*did you mean servers\.get"):
            count("server.get")


async def test_a_server_that_somebody_switched_off_shows_it_and_no_call_and_no_job(
    bms_simulator: SimulatedCloud, bms_client: BmsClient
) -> None:
    first, second, *_ = bms_simulator.ids
    bms_simulator.turn_off(first, second)
    bms_simulator.turn_on(second)
    assert [(await bms_client.servers.get(each)).status for each in (first, second)] == ["SHUTOFF", "ACTIVE"]
    assert (bms_simulator.jobs, bms_simulator.arrived("servers.stop")) == ([], 0)
    assert bms_simulator.server(first).stops == 0
    report = await bms_client.fleet.stop([first, second])
    assert {each.server_id: each.state for each in report.outcomes} == {
        first: OutcomeState.UNCHANGED,
        second: OutcomeState.SUCCEEDED,
    }


async def test_what_is_being_done_to_a_server_goes_on_and_has_the_last_word(
    bms_simulator: SimulatedCloud, bms_client: BmsClient
) -> None:
    server_id = bms_simulator.ids[0]
    job = await bms_client.servers.reboot([server_id])
    await advance(15)
    bms_simulator.turn_off(server_id)
    assert bms_simulator.off == [server_id]
    assert (await bms_client.servers.get(server_id)).task_state is not None
    await job
    assert bms_simulator.off == []


async def test_a_server_that_was_removed_is_gone_also_for_the_job_that_works_on_it(
    bms_simulator: SimulatedCloud, bms_client: BmsClient
) -> None:
    gone, *left = bms_simulator.ids
    job = await bms_client.servers.stop([gone])
    bms_simulator.remove(gone)
    assert bms_simulator.ids == left
    with pytest.raises(NotFoundError):
        await bms_client.servers.get(gone)
    assert [server.id async for server in bms_client.servers.list()] == left
    await job
    assert (bms_simulator.ids, bms_simulator.off) == (left, [])


async def test_locked_and_broken_servers_fail_until_they_are_mended(
    bms_simulator: SimulatedCloud, bms_client: BmsClient
) -> None:
    locked, broken, *_ = bms_simulator.ids
    bms_simulator.lock(locked)
    bms_simulator.break_down(broken)
    for server_id in (locked, broken):
        with pytest.raises(JobFailedError):
            await (await bms_client.servers.stop([server_id]))
    bms_simulator.unlock(locked)
    bms_simulator.repair(broken)
    await (await bms_client.servers.stop([locked, broken]))
    assert bms_simulator.off == [locked, broken]


async def test_a_renamed_server_is_found_by_its_new_name(bms_simulator: SimulatedCloud, bms_client: BmsClient) -> None:
    server_id = bms_simulator.ids[2]
    bms_simulator.rename(server_id, "renamed-by-hand")
    assert [each.id async for each in bms_client.servers.list(name="renamed-by-hand")] == [server_id]


@pytest.mark.parametrize(
    "change", ["turn_on", "turn_off", "remove", "lock", "unlock", "break_down", "repair", "server"]
)
def test_an_unknown_server_is_refused_before_any_other_is_changed(change: str, bms_simulator: SimulatedCloud) -> None:
    known = [] if change == "server" else [bms_simulator.ids[0]]
    before = bms_simulator.statuses()
    with pytest.raises(ValueError, match="server_id='nobody': this cloud has no such server"):
        getattr(bms_simulator, change)(*known, "nobody")
    assert bms_simulator.statuses() == before
    assert not bms_simulator.server(bms_simulator.ids[0]).locked


async def test_a_static_token_that_was_revoked_is_the_end(bms_simulator: SimulatedCloud, bms_client: BmsClient) -> None:
    assert bms_simulator.revoke_tokens() == 1
    with pytest.raises(AuthenticationError):
        await bms_client.quotas.get()
    bms_simulator.accept_token(bms_simulator.settings.token)
    await bms_client.quotas.get()


async def test_a_token_for_a_password_that_was_revoked_is_renewed(bms_simulator: SimulatedCloud) -> None:
    async with bms_simulator.client(auth=bms_simulator.password_auth()) as bms:
        await bms.quotas.get()
        assert bms_simulator.revoke_tokens() == 2
        await bms.quotas.get()
    assert bms_simulator.arrived("identity.create_token") == 2


async def test_signed_calls_are_taken_too(bms_simulator: SimulatedCloud) -> None:
    async with bms_simulator.client(auth=bms_simulator.access_key_auth()) as bms:
        await bms.quotas.get()
    assert bms_simulator.arrived("quotas.get") >= 1


@pytest.mark.parametrize("credentials", ["token", "password", "aksk"])
async def test_a_program_that_reads_its_environment_can_be_sent_here(
    credentials: Any, bms_simulator: SimulatedCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bms_simulator.environment(credentials).items():
        monkeypatch.setenv(name, value)
    async with BmsClient.from_env(transport=bms_simulator.transport()) as bms:
        assert [server.id async for server in bms.servers.list()] == bms_simulator.ids


async def test_two_clouds_in_one_test_know_nothing_of_each_other(
    bms_simulator: SimulatedCloud, bms_client: BmsClient
) -> None:
    other = SimulatedCloud(CloudSettings(servers=2, seed=9))
    async with other.client() as bms:
        await bms.fleet.stop(other.ids)
        assert bms_simulator.off == []
        await bms_client.fleet.stop(bms_simulator.ids[:1])
    assert (other.off, bms_simulator.off) == (other.ids, bms_simulator.ids[:1])


@pytest.mark.parametrize("second", [run_virtually, lambda main: asyncio.run(main())], ids=["virtual", "real"])
def test_its_time_goes_on_with_the_next_loop(second: Callable[[Any], object], bms_simulator: SimulatedCloud) -> None:
    async def wait_a_day() -> None:
        async with bms_simulator.client() as bms:
            await bms.servers.stop(bms_simulator.ids)
            await advance(86400)

    async def look() -> None:
        async with bms_simulator.client() as bms:
            assert {server.status async for server in bms.servers.list()} == {"SHUTOFF"}

    assert bms_simulator.now() == 0.0
    run_virtually(wait_a_day)
    # Nobody looked when the jobs were due, and after the loop has ended somebody does.
    assert bms_simulator.on == []
    assert 86400 < bms_simulator.now() < 86401
    second(look)
    assert bms_simulator.now() > 86400


async def test_a_planned_429_is_waited_out_and_is_not_the_clouds_own(
    bms_simulator: SimulatedCloud, bms_client: BmsClient
) -> None:
    bms_simulator.faults.add("quotas.get", Throttled(retry_after=7))
    before = anyio.current_time()
    await bms_client.quotas.get()
    assert anyio.current_time() - before >= 7
    assert (bms_simulator.arrived("quotas.get"), bms_simulator.refused()) == (2, 0)


async def test_an_answer_that_is_too_late_is_given_up_when_a_socket_would(
    bms_simulator: SimulatedCloud, bms_client: BmsClient
) -> None:
    bms_simulator.faults.add("quotas.get", Delay(seconds=500))
    before = anyio.current_time()
    with pytest.raises(CallTimeoutError):
        await bms_client.with_options(timeout=3, retry=None).quotas.get()
    assert anyio.current_time() - before == pytest.approx(3, abs=0.01)


def test_no_secret_is_in_its_repr(bms_simulator: SimulatedCloud) -> None:
    shown = repr(bms_simulator)
    assert shown == "<SimulatedCloud servers=4 calls=0>"
    assert "simulated-token" not in repr(bms_simulator.settings)


async def test_its_clients_take_what_any_client_takes_such_as_hooks(bms_simulator: SimulatedCloud) -> None:
    told: list[HookEvent] = []
    async with bms_simulator.client(hooks=told.append) as bms:
        await bms.quotas.get()
    assert [each.operation for each in told if isinstance(each, CallEnded)] == ["quotas.get"]


async def test_a_client_of_it_reads_no_more_of_an_answer_than_it_may(bms_simulator: SimulatedCloud) -> None:
    async with bms_simulator.client(max_response_bytes=10) as bms:
        with pytest.raises(BmsError, match="at most 10 bytes, got a larger response"):
            await bms.quotas.get()


def test_a_run_is_the_same_each_time_also_where_calls_are_tried_again() -> None:
    def run(seed: int) -> list[ArrivedCall]:
        cloud = SimulatedCloud(CloudSettings(servers=20, seed=seed, latency=(0.02, 0.3), fail_share=0.2))
        cloud.faults.add("servers.stop", CutAfter(), times=2)
        cloud.faults.add("identity.create_token", CutBefore())

        async def main() -> None:
            async with (
                cloud.client(auth=cloud.password_auth()) as first,
                cloud.client() as second,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(_stop, first, cloud.ids[:10])
                tasks.start_soon(_stop, second, cloud.ids[10:])

        run_virtually(main)
        return cloud.calls

    assert run(7) == run(7) != run(8)


async def _stop(bms: BmsClient, server_ids: list[str]) -> None:
    await bms.fleet.stop(server_ids)


@pytest.mark.bms(virtual=True, servers=4, job_seconds=(60.0, 60.0), boot_seconds=(30.0, 30.0))
async def test_it_checks_readiness_and_keeps_books_of_who_was_away(
    bms_simulator: SimulatedCloud, bms_client: BmsClient
) -> None:
    server = await bms_client.servers.get(bms_simulator.ids[0])
    assert await bms_simulator.reachable(server)
    await (await bms_client.servers.reboot([server.id]))
    assert not await bms_simulator.reachable(server)
    await anyio.sleep(30)
    assert await bms_simulator.reachable(server)
    (absence,) = bms_simulator.availability.absences()
    assert (absence.server_id, round(absence.back - absence.asked)) == (server.id, 90)
    assert bms_simulator.availability.most_away(lambda _: "all")["all"].servers == 1


async def test_a_server_hangs_until_it_is_recovered(bms_simulator: SimulatedCloud, bms_client: BmsClient) -> None:
    server = await bms_client.servers.get(bms_simulator.ids[0])
    bms_simulator.hang(server.id)
    assert await bms_simulator.reachable(server)
    await (await bms_client.servers.reboot([server.id]))
    assert bms_simulator.on == bms_simulator.ids
    await anyio.sleep(10_000)
    assert not await bms_simulator.reachable(server)
    bms_simulator.recover(server.id)
    assert await bms_simulator.reachable(server)
    await (await bms_client.servers.reboot([server.id]))
    await anyio.sleep(1)
    assert await bms_simulator.reachable(server)


async def test_a_server_that_did_not_come_up_is_back_when_it_is_turned_on_by_hand(
    bms_simulator: SimulatedCloud, bms_client: BmsClient
) -> None:
    first = bms_simulator.ids[0]
    bms_simulator.break_down(first)
    with pytest.raises(JobFailedError):
        await (await bms_client.servers.reboot([first]))
    server = await bms_client.servers.get(first)
    assert not await bms_simulator.reachable(server)
    bms_simulator.turn_on(first)
    assert await bms_simulator.reachable(server)
    assert bms_simulator.availability.absences()[-1].back <= bms_simulator.now()


@pytest.mark.bms(virtual=True, servers=8, rack_size=2)
async def test_servers_have_racks_and_can_be_labelled(bms_simulator: SimulatedCloud, bms_client: BmsClient) -> None:
    first = bms_simulator.ids[5]
    bms_simulator.label(first, tags=["blue"], metadata={"cluster": "c7"})
    server = await bms_client.servers.get(first)
    assert {"rack-2", "blue"} <= set(server.tags)
    assert server.metadata["cluster"] == "c7"
    assert [each.id async for each in bms_client.servers.list(tags="rack-2")] == bms_simulator.ids[4:6]
    assert [each.id async for each in bms_client.servers.list(tags="blue")] == [first]


async def test_a_response_larger_than_a_client_takes_is_refused(bms_simulator: SimulatedCloud) -> None:
    async with bms_simulator.client(max_response_bytes=100) as bms:
        with pytest.raises(ResponseTooLargeError):
            await bms.servers.get(bms_simulator.ids[0])
        assert await bms.request("HEAD", f"/v1/{{project_id}}/baremetalservers/{bms_simulator.ids[0]}") is None


async def test_what_an_address_encodes_arrives_as_it_was_given(
    bms_simulator: SimulatedCloud, bms_client: BmsClient
) -> None:
    first = bms_simulator.ids[0]
    await bms_client.nova.tags.add(first, "Gestell 50 % ü")
    assert "Gestell 50 % ü" in await bms_client.nova.tags.list(first)
    assert [each.id async for each in bms_client.servers.list(tags="Gestell 50 % ü")] == [first]


async def test_a_fault_of_the_application_s_is_the_error_of_the_call_and_quotes_no_secret(
    bms_simulator: SimulatedCloud, bms_client: BmsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = bms_simulator.settings.token

    def break_down(_: object) -> None:
        raise ValueError(f"X-Auth-Token: {token}")

    monkeypatch.setattr(bms_simulator.cloud, "grant_of", break_down)
    with pytest.raises(TransportError) as broken:
        await bms_client.servers.reboot(bms_simulator.ids)
    assert broken.value.maybe_delivered
    assert token not in repr(broken.value)
