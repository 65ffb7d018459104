"""What an answer holds is what the cloud sent, whatever secrets stand in it; only what is told of it is masked."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import msgspec
import pytest

from bms_async import (
    BmsClient,
    HttpRequest,
    HttpResponse,
    JobFailedError,
    OutcomeState,
    StaticToken,
    SubJobFailedError,
)
from bms_async.redaction import MaskedStr
from bms_async.testing import CloudSettings, SimulatedCloud
from tests.calls.mocked import virtually

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


def client() -> BmsClient:
    return BmsClient(endpoint="https://bms.example.com", project_id="p", auth=StaticToken(TOKEN), transport=Echo())


@virtually
async def test_a_reason_is_the_clouds_word_for_word_and_masked_where_it_is_told() -> None:
    async with client() as bms:
        handle = await bms.servers.reinstall_os(SERVER, admin_password=PASSWORD)
        sub = await handle.sub_job(SERVER)
        with pytest.raises(JobFailedError) as caught:
            await handle
    job = caught.value.job

    for told in (sub, job, job.sub_jobs[0]):
        assert told.fail_reason == told.message == REASON
        assert told.fail_reason.encode() == REASON.encode()
        assert f"{told.fail_reason}" == "the system said: bad password ***, for ***"
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
