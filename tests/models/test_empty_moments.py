"""A moment that has not come is printed as "": reading such an answer must not cost more than others do."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async import models
from bms_async.models import Job, Model, Server, reading
from bms_async.models.reading import EMPTY_DATETIME, decode

RUNNING = {
    "job_id": "j",
    "job_type": "baremetalBatchStop",
    "status": "RUNNING",
    "begin_time": "2019-04-25T20:08:21.328Z",
    "end_time": "",
    "entities": {"sub_jobs_total": 1, "sub_jobs": [{"job_id": "k", "status": "RUNNING", "end_time": ""}]},
}


STARTING = {"id": "s", "created": "2019-04-25T20:08:21Z", "updated": "", "status": "BUILD"}


def of_moments(kind: type[Model]) -> set[str]:
    fields = msgspec.structs.fields(kind)
    return {field.encode_name for field in fields if datetime in _parts(field.type)}


def _parts(kind: Any) -> set[Any]:
    return {kind}.union(*(_parts(part) for part in get_args(kind) if not isinstance(part, msgspec.Meta)))


def test_every_field_that_holds_a_moment_is_known() -> None:
    kinds = [kind for kind in vars(models).values() if isinstance(kind, type) and issubclass(kind, Model)]
    names = set().union(*map(of_moments, kinds))

    assert names
    for name in sorted(names - {"OS-SRV-USG:launched_at", "OS-SRV-USG:terminated_at"}):
        assert EMPTY_DATETIME.search(f'{{"{name}": ""}}'.encode()), name


def test_an_empty_moment_is_read_without_taking_the_answer_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("taken apart")

    monkeypatch.setattr(reading, "convert", never)
    job = decode(json.dumps(RUNNING).encode(), Job)

    assert job.begin_time is not None
    assert (job.end_time, job.sub_jobs[0].end_time) == (None, None)

    server = decode(json.dumps(STARTING).encode(), Server)

    assert server.created is not None
    assert server.updated is None


@pytest.mark.parametrize(
    ("sent", "moment"),
    [
        ("2019-04-25T20:08:21.328Z", datetime(2019, 4, 25, 20, 8, 21, 328000, UTC)),
        ("2019-04-25t20:08:21.328123456z", datetime(2019, 4, 25, 20, 8, 21, 328123, UTC)),
        ("2019-04-25 22:08:21+02:00", datetime(2019, 4, 25, 20, 8, 21, 0, UTC)),
        ("2019-04-25T20:08:21", datetime(2019, 4, 25, 20, 8, 21, 0, UTC)),
        (1556222901, datetime(2019, 4, 25, 20, 8, 21, 0, UTC)),
        (1556222901.5, datetime(2019, 4, 25, 20, 8, 21, 500000, UTC)),
        ("1556222901", datetime(2019, 4, 25, 20, 8, 21, 0, UTC)),
        ("", None),
        (None, None),
        ("soon", None),
        ("nan", None),
        (10**400, None),
        ([], None),
        ({"at": 1}, None),
    ],
)
def test_the_times_of_a_job_are_read_in_every_shape_that_clouds_send(sent: object, moment: datetime | None) -> None:
    job = decode(json.dumps({**RUNNING, "begin_time": sent, "end_time": sent}).encode(), Job)

    assert job.begin_time == job.end_time == moment
    assert job.status == "RUNNING"


@given(st.text())
def test_no_text_is_changed_however_much_it_looks_like_one(text: str) -> None:
    document = {**STARTING, "description": f'"updated": "" , {text}"created":""'}
    server = decode(json.dumps(document).encode(), Server)

    assert server.updated is None
    assert server.description == document["description"]
