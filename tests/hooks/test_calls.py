"""The hook events of a call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import anyio
import msgspec
import pytest

from bms_async import (
    AkSkAuth,
    AttemptEnded,
    BmsError,
    CallEnded,
    CallStarted,
    CredentialsRenewalEnded,
    HookEvent,
    HttpRequest,
    InvalidRequestError,
    JobLostError,
    JobPolled,
    Limits,
    NotFoundError,
    PasswordAuth,
    RateLimited,
    RequestSent,
    RetryPolicy,
    RetryScheduled,
    WaitTooLongError,
)
from bms_async.auth._observers import Observers
from bms_async.simulator import Answer, CutBefore, Delay, Throttled, Unauthorized
from tests.hooks._helpers import Ear, first, hooked, password_auth
from tests.support.virtual_clock import run_virtually

MISSING = "616fb98f-46ca-475e-917e-2563e5a8cd19"


def test_a_good_call_is_told_from_its_beginning_to_its_end() -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=1, latency=(0.5, 0.5)) as sim:
            (server_id,) = sim.ids
            await sim.bms.servers.get(server_id)
        started, sent, tried, ended = ear.events
        assert started == CallStarted(
            call=started.call,  # type: ignore[union-attr]
            operation="servers.get",
            method="GET",
            template="/v1/{project_id}/baremetalservers/{server_id}",
            parameters={"server_id": server_id},
            project_id=sim.cloud.settings.project_id,
            host="localhost",
            port=80,
            lane="interactive",
            is_poll=False,
            run=None,
        )
        assert isinstance(sent, RequestSent)
        assert (sent.call, sent.attempt, sent.used, sent.limit) == (started.call, 1, 1, 1000)
        assert sent.url == f"http://localhost/v1/{sim.cloud.settings.project_id}/baremetalservers/{server_id}"
        assert isinstance(tried, AttemptEnded)
        assert isinstance(ended, CallEnded)
        assert tried.request_id
        assert tried.request_id == ended.request_id
        assert tried.seconds == pytest.approx(0.5, abs=0.01)
        assert ended.seconds == pytest.approx(0.5, abs=0.01)
        assert (ended.status, ended.attempts, ended.error, ended.job_id) == (200, 1, None, None)

    run_virtually(main)


def test_the_end_of_a_call_that_starts_a_job_tells_the_job() -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=2) as sim:
            job = await sim.bms.servers.stop(sim.ids)
            (ended,) = ear.heard(CallEnded, operation="servers.stop")
            assert ended.job_id == job.id

    run_virtually(main)


def test_neither_a_query_nor_a_body_is_told() -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=1) as sim:
            await sim.bms.request("GET", "/v1/{project_id}/baremetalservers/detail", query={"name": "needle"})
            await sim.bms.servers.update_metadata(sim.ids[0], {"needle": "needle"})
            assert "needle" not in repr(ear.events)
            # A path that was given may hold anything, and would make a name of its own for each server.
            by_path, known = ear.heard(CallStarted)
            assert (by_path.operation, by_path.template) == ("servers.list", None)
            assert known.template is not None

    run_virtually(main)


def test_credentials_in_a_path_that_was_given_are_not_told() -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=1) as sim:
            token = sim.cloud.settings.token
            with pytest.raises(NotFoundError):
                await sim.bms.request("GET", f"/v3/auth/tokens/{token}", service="identity")
        (sent,) = ear.heard(RequestSent)
        assert sent.url == "http://localhost/v3/auth/tokens/***"
        assert token not in repr(ear.events)

    run_virtually(main)


def test_a_call_that_is_tried_again_tells_each_try_and_the_delay_between_them() -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=1) as sim:
            sim.cloud.faults.append(first("servers.get", Answer(status=503), CutBefore()))
            await sim.bms.servers.get(sim.ids[0])
        assert ear.names == [
            "CallStarted",
            *("RequestSent", "AttemptEnded", "RetryScheduled") * 2,
            "RequestSent",
            "AttemptEnded",
            "CallEnded",
        ]
        assert [(event.attempt, event.status, event.error) for event in ear.heard(AttemptEnded)] == [
            (1, 503, "ServerError"),
            (2, None, "TransportError"),
            (3, 200, None),
        ]
        first_retry, second_retry = ear.heard(RetryScheduled)
        assert (first_retry.attempt, second_retry.attempt) == (1, 2)
        assert 0 < first_retry.delay <= 0.5
        assert second_retry.delay <= 1.0
        (ended,) = ear.heard(CallEnded)
        assert (ended.attempts, ended.status, ended.error) == (3, 200, None)

    run_virtually(main)


def test_a_429_is_told_with_what_it_does_to_the_limit() -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=1) as sim:
            sim.cloud.faults.append(first("servers.get", Throttled(retry_after=7)))
            await sim.bms.servers.get(sim.ids[0])
        (limited,) = ear.heard(RateLimited)
        assert (limited.retry_after, limited.wait, limited.capacity, limited.limit) == (7.0, 7.0, 800, 1000)
        assert ear.names.index("AttemptEnded") < ear.names.index("RateLimited") < ear.names.index("RetryScheduled")
        second = ear.heard(RequestSent)[1]
        assert (second.attempt, second.limit) == (2, 800)
        assert second.waited == pytest.approx(7.0, abs=0.1)

    run_virtually(main)


def test_a_call_that_waits_for_its_slot_tells_how_long_it_waited() -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=1, limits=Limits({"servers.get": 1})) as sim:
            await sim.bms.servers.get(sim.ids[0])
            await sim.bms.servers.get(sim.ids[0])
        assert [round(event.waited) for event in ear.heard(RequestSent)] == [0, 60]
        assert [(event.used, event.limit) for event in ear.heard(RequestSent)] == [(1, 1), (1, 1)]

    run_virtually(main)


def test_a_call_that_is_never_sent_is_told_of_as_such() -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=1, limits=Limits({"servers.get": 1}), max_wait=1.0) as sim:
            await sim.bms.servers.get(sim.ids[0])
            with pytest.raises(WaitTooLongError):
                await sim.bms.servers.get(sim.ids[0])
            with pytest.raises(InvalidRequestError):
                await sim.bms.request("GET", "/v1/anything", query={"name": "\ud800"})
        too_long, unfit = ear.heard(CallEnded)[1:]
        assert (too_long.error, too_long.attempts, too_long.status) == ("WaitTooLongError", 0, None)
        assert (unfit.error, unfit.attempts) == ("InvalidRequestError", 0)
        assert len(ear.heard(RequestSent)) == 1

    run_virtually(main)


def test_an_error_is_told_by_its_class_status_and_code() -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=1) as sim:
            with pytest.raises(NotFoundError) as caught:
                await sim.bms.servers.get(MISSING)
            assert caught.value.code
            (tried,), (ended,) = ear.heard(AttemptEnded), ear.heard(CallEnded)
            expected = ("NotFoundError", 404, caught.value.code, caught.value.request_id)
            assert (tried.error, tried.status, tried.code, tried.request_id) == expected
            assert (ended.error, ended.status, ended.code, ended.request_id) == expected

    run_virtually(main)


@pytest.mark.parametrize("leaving", ["cancelled", "deadline", "closed"])
@pytest.mark.parametrize("where", ["in the queue", "on the wire", "between tries"])
def test_a_call_that_is_left_tells_the_end_of_all_that_it_began(leaving: str, where: str) -> None:
    expected = {"cancelled": "CancelledError", "deadline": "CallTimeoutError", "closed": "ClientClosedError"}

    async def main() -> None:
        ear = Ear()
        limits = Limits({"servers.get": 1}) if where == "in the queue" else None
        patience = RetryPolicy(initial_delay=100.0)
        async with hooked(ear, servers=1, limits=limits, retry=patience) as sim:
            sim.cloud.faults.append(
                first("servers.get", Answer(status=503) if where == "between tries" else Delay(seconds=50.0))
            )
            if limits is not None:
                limits["servers.get"].acquire_nowait()
            seconds = 20.0 if leaving == "deadline" else None
            # So that the delay is a long one.
            sim.bms._core.random.random = lambda: 0.5  # type: ignore[method-assign]
            bms = sim.bms.with_options(total_timeout=seconds)
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:

                    async def call() -> None:
                        with pytest.raises(BmsError):
                            await bms.servers.get(sim.ids[0])

                    group.start_soon(call)
                    await anyio.sleep(1.0)
                    if leaving == "cancelled":
                        scope.cancel()
                    elif leaving == "closed":
                        await sim.bms.aclose()
        (ended,) = ear.heard(CallEnded)
        if (leaving, where) == ("deadline", "in the queue"):
            # The limiter knows at once that no slot comes in time.
            assert ended.error == "WaitTooLongError"
        elif (leaving, where) == ("deadline", "between tries"):
            # Nor would the next try come in time, and so its error is the call's.
            assert ended.error == "ServerError"
        else:
            assert ended.error == expected[leaving]
        assert ended.seconds <= 20.1
        assert len(ear.heard(CallStarted)) == 1
        assert len(ear.heard(RequestSent)) == len(ear.heard(AttemptEnded)) == ended.attempts
        if where == "on the wire":
            assert [event.error for event in ear.heard(AttemptEnded)] == ["CancelledError"]

    run_virtually(main)


def test_the_hooks_of_a_call_are_called_in_the_task_and_context_of_its_caller() -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")

    async def main() -> None:
        seen: dict[str, set[tuple[str, Any]]] = {}

        def hook(event: HookEvent) -> None:
            seen.setdefault(type(event).__name__, set()).add((who.get(), asyncio.current_task()))

        async with hooked(hook, servers=3) as sim, anyio.create_task_group() as group:
            tasks = set()

            async def caller(server_id: str) -> None:
                who.set(server_id)
                tasks.add((server_id, asyncio.current_task()))
                await sim.bms.servers.get(server_id)

            for server_id in sim.ids:
                group.start_soon(caller, server_id)
        assert set(seen) == {"CallStarted", "RequestSent", "AttemptEnded", "CallEnded"}
        assert all(where == tasks for where in seen.values())

    run_virtually(main)


def test_the_events_of_many_calls_at_once_are_told_apart_by_their_numbers() -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=100, latency=(0.0, 2.0)) as sim, anyio.create_task_group() as group:
            for server_id in sim.ids:
                group.start_soon(sim.bms.servers.get, server_id)
        numbers = [event.call for event in ear.heard(CallStarted)]
        assert len(set(numbers)) == 100
        for number in numbers:
            assert [
                type(event).__name__ for event in ear.events if getattr(event, "call", None) == number
            ] == ["CallStarted", "RequestSent", "AttemptEnded", "CallEnded"]  # fmt: skip

    run_virtually(main)


def test_a_call_that_needs_a_new_token_tells_the_renewal_and_the_call_for_it() -> None:
    async def main() -> None:
        ear = Ear()
        auth = password_auth()
        async with hooked(ear, servers=1, auth=auth) as sim:
            sim.cloud.faults.append(first("servers.get", Unauthorized()))
            await sim.bms.servers.get(sim.ids[0])
        assert [(event.credentials, event.error) for event in ear.heard(CredentialsRenewalEnded)] == [
            ("PasswordAuth", None)
        ] * 2
        assert all(0 < event.lifetime <= 86400 for event in ear.heard(CredentialsRenewalEnded) if event.lifetime)
        asked = ear.heard(CallStarted, operation="identity.create_token")
        assert [(event.template, event.method, event.host) for event in asked] == [
            ("/v3/auth/tokens", "POST", "localhost")
        ] * 2
        assert [event.error for event in ear.heard(CallEnded, operation="identity.create_token")] == [None, None]
        (ended,) = ear.heard(CallEnded, operation="servers.get")
        assert (ended.attempts, ended.error) == (2, None)
        assert [(event.attempt, event.error, event.delay) for event in ear.heard(RetryScheduled)] == [
            (1, "AuthenticationError", 0.0)
        ]
        assert "simulated-password" not in repr(ear.events)

    run_virtually(main)


def test_a_token_that_is_refused_is_told_of_once_to_every_client_that_shares_the_credentials() -> None:
    async def main() -> None:
        one, other = Ear(), Ear()
        auth = PasswordAuth(
            auth_url="http://localhost/v3",
            username="operator",
            password="wrong-password",
            user_domain_name="simulated-account",
            project_name="simulated",
        )
        async with hooked(one, servers=1, auth=auth) as sim, hooked(other, servers=1, auth=auth):
            with pytest.raises(BmsError):
                await sim.bms.servers.get(sim.ids[0])
        for ear in (one, other):
            assert [(event.lifetime, event.error) for event in ear.heard(CredentialsRenewalEnded)] == [
                (None, "AuthenticationError")
            ]
        (refused,) = one.heard(CallEnded, operation="identity.create_token")
        assert (refused.status, refused.error) == (401, "AuthenticationError")
        (ended,) = one.heard(CallEnded, operation="servers.get")
        assert (ended.error, ended.attempts) == ("AuthenticationError", 0)
        async with hooked(one, servers=1, auth=auth):
            pass
        assert auth._tokens.observers._registered == []

    run_virtually(main)


def test_a_call_for_a_token_that_the_transport_refuses_is_told_to_end() -> None:
    async def main() -> None:
        ear = Ear()
        auth = password_auth()
        async with hooked(ear, servers=1, auth=auth) as sim:
            # Somebody closes it who has not opened it.
            await sim.bms._core.transport.aclose()
            with pytest.raises(BmsError):
                await sim.bms.servers.get(sim.ids[0])
        assert ear.names == ["CallStarted", "CallStarted", "CallEnded", "CallEnded"]
        assert {(event.error, event.attempts) for event in ear.heard(CallEnded)} == {("ClientClosedError", 0)}

    run_virtually(main)


def test_a_client_that_was_never_closed_is_told_of_no_token_once_its_loop_is_gone() -> None:
    ear = Ear()
    observers = Observers("PasswordAuth")

    async def join() -> None:
        observers.add(ear)

    async def hear() -> None:
        observers.add(ear)
        observers.notify(1.0)

    run_virtually(join)
    run_virtually(hear)
    assert ear.names == ["CredentialsRenewalEnded"]


def test_of_an_error_that_is_not_ours_only_its_name_is_told() -> None:
    class OddError(Exception):
        status, code, request_id = "teapot", 418, object()

    class OddAuth:
        async def headers(self, request: HttpRequest) -> Mapping[str, str]:
            raise OddError

        def redact(self, text: str) -> str:
            return text

    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=1, auth=OddAuth()) as sim:
            with pytest.raises(OddError):
                await sim.bms.servers.get(sim.ids[0])
            with pytest.raises(JobLostError):
                await sim.bms.jobs.watch("ff808081ad0b6a5e0190f4c37f5b00a1")
        assert {event.error for event in ear.heard(CallEnded)} == {"OddError"}
        assert {(event.error, event.code) for event in ear.heard(JobPolled)} == {("OddError", None)}
        for event in ear.events:
            assert msgspec.json.decode(msgspec.json.encode(event), type=HookEvent) == event
        ended, *_ = ear.heard(CallEnded)
        assert (ended.status, ended.code, ended.request_id) == (None, None, None)

    run_virtually(main)


def test_every_event_can_be_written_as_json_and_read_back() -> None:
    async def main() -> None:
        ear = Ear()
        async with hooked(ear, servers=20, fail_share=0.2) as sim:
            sim.cloud.faults.append(first("servers.stop", Throttled(retry_after=1)))
            await sim.bms.fleet.stop(sim.ids)
        read = [msgspec.json.decode(msgspec.json.encode(event), type=HookEvent) for event in ear.events]
        assert read == ear.events
        assert {"CallStarted", "RateLimited", "JobPolled", "JobFinished", "OutcomeRecorded", "RunEnded"} <= set(
            ear.names
        )

    run_virtually(main)


def test_keys_that_a_provider_gives_or_cannot_give_are_told_of() -> None:
    async def main() -> None:
        ear = Ear()
        fails = True

        async def provide() -> tuple[str, str, str | None]:
            await anyio.sleep(3.0)
            if fails:
                raise LookupError("no keys today")
            return "SIMULATEDACCESSKEY", "simulated-secret-key", None

        auth = AkSkAuth(provider=provide)
        async with hooked(ear, servers=1, auth=auth, retry=None) as sim:
            with pytest.raises(BmsError):
                await sim.bms.servers.get(sim.ids[0])
            fails = False
            await sim.bms.servers.get(sim.ids[0])
            await sim.bms.servers.get(sim.ids[0])
        assert [
            (event.credentials, event.error, round(event.seconds)) for event in ear.heard(CredentialsRenewalEnded)
        ] == [
            ("AkSkAuth", "LookupError", 3),
            ("AkSkAuth", None, 3),
        ]
        assert "simulated-secret-key" not in repr(ear.events)
        assert auth._observers._registered == []

    run_virtually(main)
