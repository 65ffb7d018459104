"""R5: what a cloud says of a job may echo what it was asked; no handle, outcome, report or saved text shows it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from bms_async import BmsClient, BmsError
from tests.secrets._search import Eye, watching
from tests.secrets.calls import CALLS, JOB, SERVER
from tests.secrets.canaries import METADATA, RESET, USER_DATA
from tests.secrets.clouds import CREDENTIALS, Cloud, client_of
from tests.secrets.failures import FAILURES, Behaviour, echo_of
from tests.support.virtual_clock import run_virtually

OTHER = "616fb98f-46ca-475e-917e-2563e5a8cd19"
SECRETS_OF = ("servers.reinstall_os", "servers.create", "servers.start")


def _job(status: str, text: str, *, sub: str = "") -> dict[str, Any]:
    said = {"fail_reason": text, "message": text, "error_code": text[:80], "code": text[:80]}
    about = {"server_id": SERVER}
    subs = [{"job_id": "s", "status": sub or status, "entities": about, **said}]
    return {
        "job_id": JOB,
        "status": status,
        "job_type": "t",
        "entities": {"sub_jobs_total": 1, "sub_jobs": subs},
        **said,
    }


class Jobs:
    """Accepts what starts a job, and says of the job whatever the request said."""

    def __init__(self, status: str, sub: str) -> None:
        self._status, self._sub = status, sub
        self._heard = ""
        self.polls = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self._heard += f"{echo_of(request)} {request.content.decode()}"
        if request.method == "POST":
            return httpx.Response(200, json={"job_id": JOB})
        self.polls += 1
        if self.polls == 1:
            return httpx.Response(200, json=_job("RUNNING", self._heard, sub="RUNNING"))
        return httpx.Response(200, json=_job(self._status, self._heard, sub=self._sub))


async def _wait(eye: Eye, bms: BmsClient, name: str) -> None:
    handle: Any = await CALLS[name].make(bms)
    eye.look("handle", handle)
    waits = [handle, handle.sub_job(SERVER)] if name != "servers.create" else [handle]
    for wait in waits:
        try:
            eye.look("job", await wait)
        except BmsError as error:
            eye.look_at_error("wait", error)
    handle = getattr(handle, "handle", handle)
    eye.look("the last job", getattr(handle, "job", None))
    eye.search("saved", handle.to_json())


@pytest.mark.parametrize(("status", "sub"), [("SUCCESS", "SUCCESS"), ("FAIL", "FAIL"), ("FAIL", "SUCCESS")])
@pytest.mark.parametrize("name", SECRETS_OF)
@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_r5_no_secret_that_a_job_echoes_shows(credentials: str, name: str, status: str, sub: str) -> None:
    async def use(eye: Eye) -> None:
        jobs = Jobs(status, sub)
        cloud = Cloud(eye, jobs)
        cloud.carries = CALLS[name].carries
        async with client_of(eye, cloud, CREDENTIALS[credentials]()) as bms:
            await _wait(eye, bms, name)
            assert jobs.polls > 1
            if name == "servers.start":
                # By its id alone nobody knows what the job's own call sent.
                eye.look("read", await bms.jobs.get(JOB))

    with watching() as eye:
        run_virtually(lambda: use(eye))
    assert eye.found == {}


@pytest.mark.parametrize(
    "failure",
    [
        "400 that echoes once read",
        "401 of the gateway",
        "429 of the service",
        "502 of HTML",
        "bad chunks that echo",
        "no answer in time",
        "200 that is no JSON",
        None,
    ],
)
@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_r5_no_secret_shows_in_what_became_of_a_fleet(credentials: str, failure: str | None) -> None:
    behaviour: Behaviour = FAILURES[failure] if failure else Jobs("FAIL", "FAIL")

    async def use(eye: Eye) -> None:
        async with client_of(eye, Cloud(eye, behaviour), CREDENTIALS[credentials]()) as bms:
            for action in (bms.fleet.stop, bms.fleet.start, bms.fleet.reboot):
                run = action([SERVER, OTHER, "no/id"])
                eye.look("run", run)
                report = await run
                for thing in (run, run.progress, report, *report.outcomes, report.by_code):
                    eye.look(type(thing).__name__, thing)
                for outcome in report.outcomes:
                    if outcome.error is not None:
                        eye.look_at_error("outcome", outcome.error)
                with pytest.raises(ExceptionGroup) as caught:
                    report.raise_for_failures()
                eye.look_at_error("all", caught.value)

    with watching() as eye:
        run_virtually(lambda: use(eye))
    assert eye.found == {}


@pytest.mark.parametrize(
    "failure",
    ["401 of the gateway", "404 of the service", "502 of HTML", "bad chunks that echo", "200 that is no JSON"],
)
@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_r5_no_secret_shows_when_a_job_is_lost(credentials: str, failure: str) -> None:
    async def use(eye: Eye) -> None:
        cloud = Cloud(eye, FAILURES[failure])
        async with client_of(eye, cloud, CREDENTIALS[credentials]()) as bms:
            handle = bms.jobs.watch(JOB)
            with pytest.raises(BmsError) as caught:
                await handle.result(10.0)
            eye.look_at_error("timeout", caught.value)
            with pytest.raises(BmsError) as caught:
                await handle
            eye.look_at_error("lost", caught.value)

    with watching() as eye:
        run_virtually(lambda: use(eye))
    assert eye.found == {}


def test_r5_no_secret_of_a_server_in_error_shows() -> None:
    server = {
        "id": SERVER,
        "status": "ERROR",
        "fault": {"code": 500, "message": "no host", "details": "nothing"},
        "metadata": {"admin_pass": METADATA},
        "OS-EXT-SRV-ATTR:user_data": USER_DATA,
    }

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"server": server})

    async def use(eye: Eye) -> None:
        async with client_of(eye, Cloud(eye, answer), CREDENTIALS["a token"]()) as bms:
            with pytest.raises(BmsError) as caught:
                await bms.nova.servers.wait_for(SERVER, "ACTIVE")
            error = caught.value
            for text in (str(error), repr(error), repr(vars(error))):
                eye.search("error", text)
            assert RESET not in str(error)

    with watching() as eye:
        run_virtually(lambda: use(eye))
    assert eye.found == {}
