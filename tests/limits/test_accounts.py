"""By default all clients of one account in a process keep its limits together."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from bms_async import BmsClient, ConfigurationError, Limits, PasswordAuth, StaticToken
from bms_async.limits import accounts
from bms_async.wire import HttpRequest, HttpResponse
from tests.limits.test_loop_binding import loop_in_a_thread
from tests.limits.test_window import worst_window
from tests.support.machine import patience
from tests.support.virtual_clock import run_virtually

ADDRESS = "https://bms.accounts.example"


class Gateway:
    """A transport that answers at once and notes when."""

    projects = b'{"projects": [{"id": "by-name", "name": "north"}]}'

    def __init__(self) -> None:
        self.stops: list[float] = []

    async def send(self, request: HttpRequest) -> HttpResponse:
        if request.operation == "servers.stop":
            self.stops.append(anyio.current_time())
            return HttpResponse(status=200, headers=(), body=b'{"job_id": "job-1"}')
        if request.operation == "identity.projects":
            return HttpResponse(status=200, headers=(), body=self.projects)
        if request.operation == "versions.list":
            return HttpResponse(status=200, headers=(), body=b'{"versions": []}')
        return HttpResponse(status=200, headers=(), body=b'{"server": {"id": "s-1"}}')

    async def open(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


def client_of(
    gateway: Gateway, project: str = "p-1", *, limits: Limits | None = None, endpoint: str = ADDRESS
) -> BmsClient:
    return BmsClient(endpoint=endpoint, project_id=project, auth=StaticToken("t"), transport=gateway, limits=limits)


async def stop_by_a_hundred_clients(gateway: Gateway, limits: type[Limits] | None) -> None:
    for number in range(100):
        async with client_of(gateway, limits=None if limits is None else limits()) as bms:
            await bms.servers.stop(["s-1"])
        await anyio.sleep(0.3)
        if number % 10 == 0:
            gc.collect()


def test_r1_a_hundred_clients_one_after_the_other_keep_the_limit_together() -> None:
    gateway = Gateway()
    run_virtually(lambda: stop_by_a_hundred_clients(gateway, None))

    assert len(gateway.stops) == 100
    assert worst_window(gateway.stops) == 50


def test_r1_with_limits_of_their_own_they_break_it() -> None:
    gateway = Gateway()
    run_virtually(lambda: stop_by_a_hundred_clients(gateway, Limits))

    assert worst_window(gateway.stops) == 100


def test_clients_of_one_project_share_however_it_is_written_and_others_do_not() -> None:
    project = "FD73A4A1-BCE7-4B9E-8F0C-3C2B4D5E6F70"

    async def main() -> None:
        gateway = Gateway()
        one = client_of(gateway, project)
        same = client_of(gateway, project.lower(), endpoint=f"{ADDRESS.upper().replace('HTTPS', 'https')}:443/v1")
        by_password = BmsClient(
            endpoint=ADDRESS,
            auth=PasswordAuth(
                auth_url=ADDRESS, username="u", password="p-w-1", user_domain_name="d", project_id=project
            ),
        )
        with_compute = BmsClient(
            endpoint=f"{ADDRESS}.",
            compute_endpoint="https://ecs.accounts.example",
            project_id=project,
            auth=StaticToken("t"),
        )
        undashed = client_of(gateway, project.replace("-", ""))
        assert one.limits is same.limits is by_password.limits is with_compute.limits is undashed.limits
        assert one.limits is not client_of(gateway, "p-2").limits
        assert one.limits is not client_of(gateway, project, endpoint="https://bms.elsewhere.example").limits
        own = Limits()
        assert client_of(gateway, project, limits=own).limits is own

    run_virtually(main)


def test_a_project_that_is_given_by_name_shares_before_its_first_limited_call() -> None:
    async def main() -> None:
        gateway = Gateway()
        by_name = BmsClient(endpoint=ADDRESS, project_name="north", auth=StaticToken("t"), transport=gateway)
        async with by_name, client_of(gateway, "by-name") as by_id:
            await by_id.servers.stop(["s-1"])
            await by_name.servers.stop(["s-1"])
            assert by_name.limits is by_id.limits
            assert by_id.limits["servers.stop"].statistics().used == 2

    run_virtually(main)


def test_the_first_one_by_name_keeps_its_limits_and_later_ones_share_them() -> None:
    async def main() -> None:
        gateway = Gateway()
        async with BmsClient(endpoint=ADDRESS, project_name="north", auth=StaticToken("t"), transport=gateway) as first:
            limits = first.limits
            await first.servers.stop(["s-1"])
            assert first.limits is limits is client_of(gateway, "by-name").limits

    run_virtually(main)


def test_they_are_forgotten_when_no_client_is_left_and_nothing_of_them_is_used() -> None:
    async def main() -> None:
        gateway = Gateway()
        async with client_of(gateway) as bms:
            await bms.servers.stop(["s-1"])
            limits = weakref.ref(bms.limits)
        del bms
        gc.collect()
        assert client_of(gateway).limits["servers.stop"].statistics().used == 1
        await anyio.sleep(61)
        client_of(gateway, "p-2")
        gc.collect()
        assert limits() is None

    run_virtually(main)


def test_what_refusals_taught_outlives_the_client_that_was_refused() -> None:
    async def main() -> None:
        gateway = Gateway()
        async with client_of(gateway) as bms:
            bms.limits["servers.stop"].on_rate_limited(1000, quota=(10, 60.0))
        del bms
        for _ in range(20):
            await anyio.sleep(61)
            client_of(gateway, "p-2")
            gc.collect()
        assert client_of(gateway).limits["servers.stop"].statistics().learned == (10, 60.0)

    run_virtually(main)


def test_minutes_of_a_clock_that_jumps_are_nobody_elses() -> None:
    async def use_up() -> Limits:
        async with client_of(Gateway()) as bms:
            for _ in range(50):
                await bms.servers.stop(["s-1"])
            return bms.limits

    async def free() -> int | None:
        async with client_of(Gateway()) as bms:
            return bms.limits["servers.stop"].statistics().free

    run_virtually(use_up)
    made_before = client_of(Gateway())

    async def open_it() -> int | None:
        async with made_before:
            return made_before.limits["servers.stop"].statistics().free

    assert run_virtually(free) == 50
    assert run_virtually(open_it) == 50


def test_programs_that_run_a_loop_for_each_task_keep_the_limit_over_all_of_them() -> None:
    async def stop() -> int:
        async with client_of(Gateway(), "a-loop-each") as bms:
            await bms.servers.stop(["s-1"])
            return bms.limits["servers.stop"].statistics().used

    assert [asyncio.run(stop()) for _ in range(3)] == [1, 2, 3]


@asynccontextmanager
async def opened(project: str, limits: Limits | None = None) -> AsyncIterator[BmsClient]:
    async with client_of(Gateway(), project, limits=limits) as bms:
        await bms.servers.stop(["s-1"])
        yield bms


async def open_and_close(project: str, limits: Limits | None = None) -> int:
    async with opened(project, limits) as bms:
        return bms.limits["servers.stop"].statistics().used


def test_a_second_loop_is_refused_when_it_opens_a_client_and_may_have_limits_of_its_own() -> None:
    closing = threading.Event()

    async def stay_open(is_open: threading.Event) -> None:
        async with opened("two-loops"):
            is_open.set()
            await anyio.to_thread.run_sync(closing.wait)

    with loop_in_a_thread() as on_the_first:
        is_open = threading.Event()
        holder = threading.Thread(target=lambda: on_the_first(stay_open(is_open)))
        holder.start()
        assert is_open.wait(patience(30.0))
        try:
            with pytest.raises(ConfigurationError, match=r"limits=Limits\(\{\.\.\.\}\)"):
                asyncio.run(open_and_close("two-loops"))
            assert asyncio.run(open_and_close("another-project")) == 1
            assert asyncio.run(open_and_close("two-loops", Limits({"servers.stop": 5}))) == 1
        finally:
            closing.set()
            holder.join()
        # The loop still runs, and no client is open on it.
        assert asyncio.run(open_and_close("two-loops")) == 2


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if "different Limits" in each.getMessage()]


def test_two_open_clients_with_different_limits_are_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        gateway = Gateway()
        for _ in range(3):
            async with client_of(gateway, "differ"), client_of(gateway, "differ", limits=Limits()):
                pass

    with caplog.at_level(logging.WARNING, "bms_async"):
        run_virtually(main)
    (warning,) = warnings_of(caplog)
    assert "project differ at https://bms.accounts.example" in warning


def test_clients_that_share_follow_one_another_or_limit_nothing_are_not_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        gateway, limits = Gateway(), Limits()
        async with client_of(gateway, "alike", limits=limits), client_of(gateway, "alike", limits=limits):
            pass
        async with client_of(gateway, "alike"), client_of(gateway, "alike"):
            pass
        async with client_of(gateway, "alike", limits=Limits()), client_of(gateway, "other"):
            pass
        async with client_of(gateway, "alike"), client_of(gateway, "alike", limits=Limits.unlimited()):
            pass

    with caplog.at_level(logging.WARNING, "bms_async"):
        run_virtually(main)
    assert warnings_of(caplog) == []


def test_nothing_is_kept_of_loops_that_are_closed() -> None:
    async def main() -> None:
        async with client_of(Gateway()):
            pass

    for _ in range(5):
        run_virtually(main)
    asyncio.run(open_and_close("prune"))
    assert [loop for loop in accounts._accounts._cache_by_loop if not loop.is_closed()] == []
    assert len(accounts._accounts._cache_by_loop) <= 1


def test_tokens_keep_to_a_limit_that_they_were_given() -> None:
    async def main() -> None:
        async with client_of(Gateway(), "tokens", limits=Limits({"identity.create_token": 1})) as bms:
            token = HttpRequest(
                operation="identity.create_token", method="POST", url=ADDRESS, headers={}, body=b"", timeout=30.0
            )
            await bms._core.send(token)
            await bms._core.send(token)
            assert anyio.current_time() == pytest.approx(60, abs=0.1)

    run_virtually(main)
