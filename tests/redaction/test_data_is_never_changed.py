"""A result is what the cloud sent, whatever secrets it contains; it is masked only where it is shown."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import msgspec
import pytest

from bms_async import (
    BadRequestError,
    BmsClient,
    ConflictError,
    HttpRequest,
    HttpResponse,
    JobFailedError,
    OutcomeState,
    RateLimitedError,
    StaticToken,
    SubJobFailedError,
)
from bms_async.redaction import MaskedStr, mask
from bms_async.testing import CloudSettings, SimulatedCloud
from tests.support.mocked import virtually

SERVER = "53206ed0-56de-4d6b-b7ee-ffc62ca26f43"
JOB = "ff808082739334d80173941ec8b42f1a"
PASSWORD = "Secret-of-mine-4"
TOKEN = "token-of-the-test"
REASON = f"the system said: bad password {PASSWORD}, for {TOKEN}"


# Words of the answers: keys, a status, what ids and names begin with, and single characters.
@pytest.mark.parametrize("password", ["server", "servers", "job", "id", "ACTIVE", "bms", "-", "0", '"', "SUCC"])
@virtually
async def test_a_password_that_occurs_in_answers_changes_nothing(password: str) -> None:
    cloud = SimulatedCloud(CloudSettings(servers=3, password=password))
    async with cloud.client(auth=cloud.password_auth()) as bms:
        shown = [server async for server in bms.servers.list()]
        one = await bms.servers.get(cloud.ids[0])
        report = await bms.fleet.reboot(cloud.ids)

    assert [server.id for server in shown] == list(cloud.ids)
    assert (one.id, str(one.status)) == (cloud.ids[0], "ACTIVE")
    assert report.by_state[OutcomeState.SUCCEEDED] == 3


class Echo:
    """A cloud whose job fails and says why in the words of who asked."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        said = {"fail_reason": REASON, "error_code": "BMS.0006", "message": REASON}
        sub = {"job_id": "s", "status": "FAIL", "entities": {"server_id": SERVER}, **said}
        job = {"job_id": JOB, "status": "FAIL", "entities": {"sub_jobs_total": 1, "sub_jobs": [sub]}, **said}
        body: Any = {"job_id": JOB} if request.method == "POST" else job
        return HttpResponse(status=200, body=json.dumps(body).encode())


def client(transport: Any = None, **arguments: Any) -> BmsClient:
    given = {"auth": StaticToken(TOKEN), "transport": transport or Echo(), **arguments}
    return BmsClient(endpoint="https://bms.example.com", project_id="p", **given)


@virtually
async def test_a_reason_is_the_clouds_word_for_word_and_masked_where_it_is_told() -> None:
    async with client() as bms:
        handle = await bms.servers.reinstall_os(SERVER, admin_password=PASSWORD)
        sub = await handle.sub_job(SERVER)
        with pytest.raises(JobFailedError) as caught:
            await handle
    job = caught.value.job

    for read in (sub, job, job.sub_jobs[0]):
        assert read.fail_reason == read.message == REASON
        assert read.fail_reason.encode() == REASON.encode()
        assert f"{read.fail_reason}" == "the system said: bad password ***, for ***"
    for shown in (
        repr(job),
        repr(sub),
        str(caught.value),
        repr(caught.value),
        pickle.dumps(caught.value).decode("latin-1"),
    ):
        assert PASSWORD not in shown
        assert TOKEN not in shown


@virtually
async def test_a_job_that_is_read_by_its_id_shows_no_credentials_and_keeps_its_words() -> None:
    async with client() as bms:
        job = await bms.jobs.get(JOB)

    assert job.fail_reason == REASON
    assert TOKEN not in repr(job)


@virtually
async def test_a_report_tells_a_reason_without_what_is_secret_in_it() -> None:
    async with client() as bms:
        report = await bms.fleet.stop([SERVER])
    error = report.outcomes[0].error

    assert isinstance(error, SubJobFailedError)
    assert error.reason == REASON
    assert TOKEN not in str(error)
    assert TOKEN.encode() not in report.to_json()


class Refuses:
    """A cloud that refuses everything with one answer."""

    def __init__(self, status: int, body: Any, **headers: str) -> None:
        self._answer = status, json.dumps(body).encode(), tuple(headers.items())

    async def send(self, request: HttpRequest) -> HttpResponse:
        status, body, headers = self._answer
        return HttpResponse(status=status, body=body, headers=headers)


class Words:
    """Credentials that are words of the cloud's."""

    def __init__(self, *words: str) -> None:
        self._words = words

    async def headers(self, request: HttpRequest) -> dict[str, str]:
        return {"X-Auth-Token": self._words[0]}

    def redact(self, text: str) -> str:
        return mask(text, *self._words)


def client_with(password: str, transport: Any) -> BmsClient:
    return client(transport, auth=Words(password), retry=None)


@pytest.mark.parametrize("password", ["BMS", "BMS.0038", "0038", ".", "8"])
@virtually
async def test_a_password_that_occurs_in_a_code_changes_nothing_that_is_concluded_from_it(password: str) -> None:
    sub = {"job_id": "s", "status": "FAIL", "entities": {"server_id": SERVER}, "error_code": "BMS.0038"}
    job = {"job_id": JOB, "status": "FAIL", "entities": {"sub_jobs_total": 1, "sub_jobs": [sub]}}
    async with client_with(password, Refuses(200, job)) as bms:
        ended = (await bms.fleet.start([SERVER])).outcomes[0]
    async with client_with(password, Refuses(409, {"error": {"code": "BMS.0038", "message": "no"}})) as bms:
        with pytest.raises(ConflictError) as caught:
            await bms.servers.start([SERVER])

    # It was running already.
    assert ended.state is OutcomeState.UNCHANGED
    assert caught.value.code == "BMS.0038"
    assert caught.value.measure


@virtually
async def test_a_code_and_a_request_id_are_the_clouds_and_masked_where_they_are_told() -> None:
    said = {"error": {"code": f"X.{TOKEN}", "message": "no"}}
    events: list[object] = []
    cloud = Refuses(409, said, **{"X-Request-Id": f"req-{TOKEN}"})
    async with BmsClient(
        endpoint="https://bms.example.com",
        project_id="p",
        auth=StaticToken(TOKEN),
        transport=cloud,
        hooks=[events.append],
    ) as bms:
        with pytest.raises(ConflictError) as caught:
            await bms.servers.start([SERVER])
        report = await bms.fleet.start([SERVER])
    error = caught.value

    assert (error.code, error.request_id) == (f"X.{TOKEN}", f"req-{TOKEN}")
    assert report.outcomes[0].code == f"X.{TOKEN}"
    for shown in (str(error), repr(vars(error)), repr(events), pickle.dumps(error).decode("latin-1")):
        assert TOKEN not in shown
    assert msgspec.json.encode(events)
    assert TOKEN.encode() not in report.to_json()


@pytest.mark.parametrize("password", ["limit", "ratelimit", "7", "minute", "quota exceeded"])
@virtually
async def test_a_password_that_occurs_in_a_refusal_teaches_the_limits_all_the_same(password: str) -> None:
    text = "policy user over ratelimit,limit:7,time:1 minute"
    async with client_with(password, Refuses(429, {"error_code": "APIGW.0308", "error_msg": text})) as bms:
        with pytest.raises(RateLimitedError) as caught:
            await bms.servers.get(SERVER)

    assert caught.value.quota == (7, 60.0)


@pytest.mark.parametrize("password", ["tag", "no", "found"])
@virtually
async def test_a_password_that_occurs_in_a_404_does_not_make_a_missing_tag_an_error(password: str) -> None:
    text = f"Server {SERVER} has no tag 'x'"
    async with client_with(password, Refuses(404, {"itemNotFound": {"code": 404, "message": text}})) as bms:
        assert await bms.nova.tags.has(SERVER, "x") is False


@virtually
async def test_what_an_unknown_call_sends_is_masked_in_what_its_error_tells() -> None:
    secret = 'p"ass-of-the-body'
    text = f"{secret} and header-of-mine are no good for {SERVER}"
    async with client_with(TOKEN, Refuses(400, {"error": {"code": "X", "message": text}})) as bms:
        with pytest.raises(BadRequestError) as caught:
            await bms.request(
                "POST",
                "/v1/{project_id}/anything",
                body={"a": [{"b": secret}], "id": SERVER},
                headers={"X-Own": "header-of-mine"},
            )

    assert caught.value.message == f"*** and *** are no good for {SERVER}"


def test_a_masked_text_is_its_text_and_tells_its_mask() -> None:
    text = MaskedStr("no token-1 here", "no *** here")

    assert text == "no token-1 here"
    assert hash(text) == hash("no token-1 here")
    assert text[3:8] == "token"
    assert json.loads(json.dumps(text)) == "no token-1 here"
    assert {str(text), f"{text}", " ".join(map(str, [text]))} == {"no *** here"}
    assert repr([text]) == "['no *** here']"
    assert copy.deepcopy(text) is text
    assert pickle.loads(pickle.dumps(text)) == "no *** here"
    assert msgspec.json.encode(text, enc_hook=str) == b'"no *** here"'
