"""R7: no unknown field, status or code and no absent value breaks a read.

Laws over the reference's own answers: whatever subset of fields is taken away, nulled or emptied, and whatever is
added, the answer is still read and its identifiers survive.
"""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bms_async.models import Job, JobStatus, PowerState, Server, ServerFlavor, ServerStatus, base, decode
from tests.models._responses import SHOWN_JOB, WHOLE_JOB, WHOLE_SERVER, read_job, read_page, read_server

Path: TypeAlias = tuple[str | int, ...]

# Identifiers are what the other calls take; all else may be null, missing or "".
IDENTIFIERS = frozenset({"id", "job_id"})
GONE = object()
EMPTINESS = st.sampled_from([None, "", GONE])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def fields_of(document: Any, before: Path = ()) -> Iterator[Path]:
    """Walk to every field of every object that is not an identifier."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name not in IDENTIFIERS:
                yield (*before, name)
            yield from fields_of(value, (*before, name))
    elif isinstance(document, list):
        for position, value in enumerate(document):
            yield from fields_of(value, (*before, position))


def change(document: Any, path: Path, value: object) -> None:
    """Set a field, or remove it; one whose surroundings are gone already is left alone."""
    for step in path[:-1]:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            return
    if not isinstance(document, dict):
        return
    if value is GONE:
        document.pop(path[-1], None)
    else:
        document[path[-1]] = value


def changed(document: Any, changes: dict[Path, object]) -> Any:
    document = copy.deepcopy(document)
    for path, value in changes.items():
        change(document, path, value)
    return document


SERVER_FIELDS = list(fields_of(WHOLE_SERVER))
JOB_FIELDS = list(fields_of(WHOLE_JOB))
OBJECTS_IN_A_SERVER: list[Path] = [(), ("image",), ("flavor",), ("fault",), ("image", "links", 0), ("sys_tags", 0)]
OBJECTS_IN_A_JOB: list[Path] = [(), ("entities",), ("entities", "sub_jobs", 0), ("entities", "sub_jobs", 0, "entities")]


@given(changes=st.dictionaries(st.sampled_from(SERVER_FIELDS), EMPTINESS, max_size=len(SERVER_FIELDS)))
@settings(deadline=None)
def test_a_server_survives_the_loss_of_any_of_its_fields(changes: dict[Path, object]) -> None:
    server = read_server(changed(WHOLE_SERVER, changes))

    assert server.id == WHOLE_SERVER["id"]
    assert read_page({"servers": [changed(WHOLE_SERVER, changes)]}) == [server]


@pytest.mark.parametrize("value", [None, "", GONE], ids=["null", "empty", "missing"])
@pytest.mark.parametrize("path", SERVER_FIELDS, ids=lambda path: "/".join(map(str, path)))
def test_a_server_survives_the_loss_of_one_field(path: Path, value: object) -> None:
    assert read_server(changed(WHOLE_SERVER, {path: value})).id == WHOLE_SERVER["id"]


@given(changes=st.dictionaries(st.sampled_from(JOB_FIELDS), EMPTINESS, max_size=len(JOB_FIELDS)))
@settings(deadline=None)
def test_a_job_survives_the_loss_of_any_of_its_fields(changes: dict[Path, object]) -> None:
    document = changed(WHOLE_JOB, changes)
    job = read_job(document)

    assert job.job_id == WHOLE_JOB["job_id"]
    assert job.sub_jobs_total >= len(job.sub_jobs)
    entities = document.get("entities") or {}
    assert [sub.job_id for sub in job.sub_jobs] == [sub["job_id"] for sub in entities.get("sub_jobs") or ()]


@pytest.mark.parametrize("value", [None, "", GONE], ids=["null", "empty", "missing"])
@pytest.mark.parametrize("path", JOB_FIELDS, ids=lambda path: "/".join(map(str, path)))
def test_a_job_survives_the_loss_of_one_field(path: Path, value: object) -> None:
    assert read_job(changed(WHOLE_JOB, {path: value})).job_id == WHOLE_JOB["job_id"]


@given(place=st.sampled_from(OBJECTS_IN_A_SERVER), name=st.text(max_size=12).map("x-new:".__add__), value=JSON)
@settings(deadline=None)
def test_a_field_that_nobody_documented_changes_nothing_about_a_server(place: Path, name: str, value: object) -> None:
    assert read_server(changed(WHOLE_SERVER, {(*place, name): value})) == read_server(WHOLE_SERVER)


@given(place=st.sampled_from(OBJECTS_IN_A_JOB), name=st.text(max_size=12).map("x-new:".__add__), value=JSON)
@settings(deadline=None)
def test_a_field_that_nobody_documented_changes_nothing_about_a_job(place: Path, name: str, value: object) -> None:
    assert read_job(changed(WHOLE_JOB, {(*place, name): value})) == read_job(WHOLE_JOB)


# msgspec reads the word "null" as nothing where there may be nothing.
@given(word=st.text(min_size=1, max_size=20).filter(lambda word: word.lower() != "null"))
def test_an_unknown_status_of_a_server_survives_as_itself(word: str) -> None:
    status = read_server({"id": "a", "status": word}).status

    assert isinstance(status, ServerStatus)
    assert status == word
    assert status.value == word
    assert {status: 1}[ServerStatus(word)] == 1


@given(word=st.text(max_size=20).filter(lambda word: word not in {"SUCCESS", "FAIL"}))
def test_an_unknown_status_of_a_job_is_no_end(word: str) -> None:
    job = read_job({**SHOWN_JOB, "status": word})

    assert isinstance(job.status, JobStatus)
    assert job.status == word
    assert not job.is_final


@given(number=st.integers(-(2**31), 2**31))
def test_an_unknown_power_state_survives_as_itself(number: int) -> None:
    for document in (number, str(number)):
        state = read_server({"id": "a", "OS-EXT-STS:power_state": document}).power_state

        assert isinstance(state, PowerState)
        assert state == number
        assert repr(number) in repr(state)


def test_a_status_compares_as_the_string_it_is() -> None:
    assert read_server({"id": "a", "status": "SHUTOFF"}).status == "SHUTOFF"
    assert read_job({**SHOWN_JOB, "status": "FAIL"}).status == "FAIL"
    assert f"{ServerStatus.ACTIVE}" == "ACTIVE"
    assert {"ACTIVE": 1}[ServerStatus.ACTIVE] == 1
    assert int(PowerState.SHUTDOWN) == 4


def test_only_success_and_fail_are_ends_and_only_in_capitals() -> None:
    ends = {word: JobStatus(word).is_final for word in ("INIT", "RUNNING", "SUCCESS", "FAIL", "success", "FAILED", "")}

    assert [word for word, final in ends.items() if final] == ["SUCCESS", "FAIL"]


@pytest.mark.parametrize("status", [None, 5, True, ["SUCCESS"], {"is": "SUCCESS"}])
def test_a_status_that_is_no_word_is_no_end_and_breaks_nothing(status: object) -> None:
    job = read_job({**SHOWN_JOB, "status": status})

    assert not job.is_final
    assert read_server({"id": "a", "status": status}).status is None


@given(vcpus=st.integers(0, 10**9), disk=st.integers(0, 10**9), ram=st.integers(0, 10**9))
def test_a_number_reads_the_same_as_its_string(vcpus: int, disk: int, ram: int) -> None:
    as_numbers = {"id": "f", "vcpus": vcpus, "disk": disk, "ram": ram}
    as_strings = {"id": "f", "vcpus": str(vcpus), "disk": str(disk), "ram": str(ram)}

    for flavor in (as_numbers, as_strings):
        assert read_server({"id": "a", "flavor": flavor}).flavor == ServerFlavor(
            id="f", vcpus=vcpus, disk=disk, ram=ram
        )


@given(number=st.integers(0, 10**12))
def test_a_text_reads_the_same_from_a_number(number: int) -> None:
    for sent in (number, str(number)):
        assert read_server({"id": "a", "name": sent, "config_drive": sent}).name == str(number)
        assert read_job({**SHOWN_JOB, "code": sent, "error_code": sent}).code == str(number)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        *[(sent, True) for sent in ("true", "True", True, 1, "1")],
        *[(sent, False) for sent in ("false", "False", False, 0, "0")],
        *[(sent, None) for sent in ("", None, "perhaps", 7, ["true"])],
    ],
)
def test_a_flag_reads_the_same_from_its_spelling(sent: object, read: bool | None) -> None:
    volume = {"id": "v", "delete_on_termination": sent}
    server = read_server({"id": "a", "locked": sent, "os-extended-volumes:volumes_attached": [volume]})

    assert server.locked is read
    assert server.volumes_attached[0].delete_on_termination is read


@pytest.mark.parametrize("sent", ["twelve", "1.5", True, [], {}, 10**18, -1])
def test_what_is_no_number_is_none_and_what_is_one_is_kept(sent: object) -> None:
    read = read_server({"id": "a", "progress": sent}).progress

    assert read == (sent if isinstance(sent, int) and not isinstance(sent, bool) else None)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("2018-09-18T02:43:26Z", datetime(2018, 9, 18, 2, 43, 26, tzinfo=UTC)),
        ("2018-09-18T02:43:26+08:00", datetime(2018, 9, 17, 18, 43, 26, tzinfo=UTC)),
        ("2018-09-18 02:43:26", datetime(2018, 9, 18, 2, 43, 26, tzinfo=UTC)),
        ("2018-09-18T02:46:07.954587", datetime(2018, 9, 18, 2, 46, 7, 954587, tzinfo=UTC)),
        ("yesterday", None),
        ("2018-13-41T99:99:99Z", None),
    ],
)
def test_a_time_is_aware_or_none(sent: object, read: datetime | None) -> None:
    assert read_server({"id": "a", "created": sent}).created == read


@given(moment=st.datetimes(timezones=st.just(UTC)))
def test_any_moment_is_read_back(moment: datetime) -> None:
    for sent in (
        moment.isoformat(),
        moment.isoformat().replace("+00:00", "Z"),
        moment.replace(tzinfo=None).isoformat(),
    ):
        assert read_server({"id": "a", "created": sent}).created == moment


def test_a_list_around_the_addresses_is_taken_off() -> None:
    addresses = WHOLE_SERVER["addresses"]

    assert read_server({"id": "a", "addresses": [addresses]}) == read_server({"id": "a", "addresses": addresses})
    assert read_server({"id": "a", "addresses": []}).addresses == {}
    assert set(read_server({"id": "a", "addresses": [{"v1": []}, None, {"v2": None}]}).addresses) == {"v1", "v2"}


def test_an_address_may_lack_everything_and_keeps_its_place() -> None:
    (address,) = read_server({"id": "a", "addresses": {"v": [{"addr": None, "version": 6}]}}).addresses["v"]

    assert address.address is None
    assert address.version == 6


def test_one_of_a_kind_may_come_without_its_list() -> None:
    server = read_server({"id": "a", "security_groups": {"name": "default"}, "tags": "one"})

    assert [group.name for group in server.security_groups] == ["default"]
    assert server.tags == ("one",)


def test_metadata_keeps_what_has_a_value_as_text() -> None:
    metadata = read_server({"id": "a", "metadata": {"n": 64, "none": None, "blank": "", "word": "Linux"}}).metadata

    assert metadata == {"n": "64", "blank": "", "word": "Linux"}


def test_tags_keep_what_is_a_text_or_can_be_one() -> None:
    assert read_server({"id": "a", "tags": ["one", None, "", 3]}).tags == ("one", "", "3")


def test_a_server_and_a_job_survive_pickling_copying_and_json() -> None:
    """People send them to worker processes, and write them down."""
    server = read_server({**WHOLE_SERVER, "status": "NEW", "OS-EXT-STS:power_state": 7})
    job = read_job({**WHOLE_JOB, "status": "NEW"})

    for sent in (server, job):
        assert pickle.loads(pickle.dumps(sent)) == sent
        assert copy.deepcopy(sent) == sent
    assert decode(msgspec.json.encode(server), Server) == server
    assert decode(msgspec.json.encode(job), Job) == job


def test_fields_of_walks_into_lists_and_spares_identifiers() -> None:
    document = json.loads('{"id": 1, "a": [{"b": 2, "id": 3}]}')

    assert list(fields_of(document)) == [("a",), ("a", 0, "b")]


def test_an_unknown_status_is_one_object_however_often_it_is_read_and_only_so_many_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: dict[Any, Any] = {}
    monkeypatch.setattr(base, "_UNKNOWN", kept)
    assert JobStatus("PAUSED-ONCE") is JobStatus("PAUSED-ONCE")
    assert PowerState(4711) is PowerState(4711)
    for number in range(1000):
        assert JobStatus(f"ODD-{number}") == f"ODD-{number}"
    assert len(kept) <= 256
    # One that is not kept is equal all the same.
    assert JobStatus("ODD-999") == JobStatus("ODD-999")


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ({"fail_reason": "x", "entities": {"errorcode_message": "y"}, "message": "z"}, "x"),
        ({"fail_reason": "", "entities": {"errorcode_message": "y"}, "message": "z"}, "y"),
        ({"fail_reason": None, "entities": [{"server_id": "s"}, {"errorcode_message": "y"}]}, "y"),
        ({"entities": {"errorcode_message": None}, "message": "z"}, "z"),
        ({"entities": {"errorcode_message": 7}}, "7"),
        ({"entities": None}, None),
    ],
)
def test_the_reason_of_a_failure_is_found_wherever_the_cloud_puts_it(sent: dict[str, Any], reason: str | None) -> None:
    body = msgspec.json.encode({"job_id": "j", "status": "FAIL", "entities": {"sub_jobs": [sent]}})

    assert decode(body, Job).sub_jobs[0].reason == reason


def test_the_reason_of_a_job_is_found_in_its_entities_too() -> None:
    body = b'{"job_id":"j","status":"FAIL","entities":{"server_id":"s","errorcode_message":"rack 7 is dark"}}'

    assert decode(body, Job).reason == "rack 7 is dark"


@pytest.mark.parametrize("about", [{"server_id": "a"}, [{"server_id": "a"}, {"server_id": "b", "nic_id": "n"}], [], {}])
def test_what_is_as_documented_reads_the_same_whatever_beside_it_is_repaired(about: object) -> None:
    sub = {"status": "RUNNING", "entities": about}
    as_documented = read_job({**SHOWN_JOB, "entities": {"sub_jobs": [sub]}})
    repaired = read_job({**SHOWN_JOB, "code": 7, "entities": {"sub_jobs": [{**sub, "code": 7}, {"status": 5}]}})

    assert repaired.sub_jobs[0].about == as_documented.sub_jobs[0].about
