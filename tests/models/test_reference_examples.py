"""Every answer that the reference prints is read into the right value of the right type, field by field."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bms_async.api.bms import jobs, power, servers
from bms_async.errors import DecodeError
from bms_async.models import (
    Address,
    JobAccepted,
    JobStatus,
    PowerState,
    ServerFlavor,
    ServerStatus,
    SystemTag,
    decode,
)
from bms_async.wire import HttpResponse, read_response
from tests.models._responses import (
    LISTED_SERVERS,
    SHOWN_JOB,
    SHOWN_SERVER,
    WHOLE_JOB,
    WHOLE_SERVER,
    answer_of,
    document_of,
    read_job,
    read_page,
    read_server,
)
from tests.reference.examples import ACTION_ANSWER, JOB_ANSWER, ORDER_ANSWER, SERVER_LIST, SERVER_SHOW, repair

VPC = "5849fdf1-9d79-4589-80c2-fe557990c417"


def test_the_shown_server_has_its_names_and_owners() -> None:
    server = read_server(SHOWN_SERVER)

    assert server.id == "53206ed0-56de-4d6b-b7ee-ffc62ca26f43"
    assert server.name == "bms-test"
    assert server.description == "bms-6e18"
    assert server.hostname == "bms-6e18"
    assert server.tenant_id == "bbf1946d374b44a0a2a95533562ba954"
    assert server.user_id == "3fc5ab2b0c544979abcaaf86edd80e6"
    assert server.enterprise_project_id == "2c7b6d77-9013-4d74-a221-2f612fc56372"
    assert server.sys_tags == (
        SystemTag(key="_sys_enterprise_project_id", value="2c7b6d77-9013-4d74-a221-2f612fc56372"),
    )


def test_the_shown_server_tells_its_state_finely() -> None:
    server = read_server(SHOWN_SERVER)

    assert server.status is ServerStatus.ACTIVE
    assert server.power_state is PowerState.RUNNING
    assert server.vm_state == "active"
    assert server.task_state is None
    assert server.locked is False
    assert server.progress == 0
    assert server.fault is None
    assert server.host_status == "UP"


def test_the_shown_servers_times_are_aware_also_the_one_without_a_zone() -> None:
    server = read_server(SHOWN_SERVER)

    assert server.created == datetime(2018, 9, 18, 2, 43, 26, tzinfo=UTC)
    assert server.updated == datetime(2018, 9, 18, 9, 29, 44, tzinfo=UTC)
    assert server.launched_at == datetime(2018, 9, 18, 2, 46, 7, 954587, tzinfo=UTC)
    assert server.terminated_at is None


def test_the_shown_servers_flavor_has_numbers_where_strings_are_printed() -> None:
    assert read_server(SHOWN_SERVER).flavor == ServerFlavor(
        id="physical.o2.medium", name="physical.o2.medium", disk=9309, vcpus=32, ram=193047
    )


def test_the_shown_server_has_a_private_and_an_elastic_address() -> None:
    nic = {"mac_address": "fa:16:3e:25:56:c3", "port_id": "9e62503b-094e-4c6e-bc95-f10bbfb455d5"}

    assert read_server(SHOWN_SERVER).addresses == {
        VPC: (
            Address(address="192.168.1.216", version=4, type="fixed", **nic),
            Address(address="10.154.72.77", version=4, type="floating", **nic),
        )
    }


def test_the_shown_server_tells_where_it_runs() -> None:
    server = read_server(SHOWN_SERVER)

    assert server.availability_zone == "az-dc-1"
    assert server.host == "bms.dc1"
    assert server.host_id == "cd243addb5d2c64e892180b7a3ed95abe6882e81c337cc563137df"
    assert server.instance_name == "instance-00154f94"
    assert server.hypervisor_hostname == "nova002@2"
    assert server.root_device_name == "/dev/sda"
    assert server.disk_config == "MANUAL"
    assert server.reservation_id == "r-08tuyo08v"
    assert server.launch_index == 0


def test_a_text_that_the_shown_server_prints_as_empty_is_empty() -> None:
    server = read_server(SHOWN_SERVER)

    assert (server.access_ipv4, server.access_ipv6) == ("", "")
    assert (server.kernel_id, server.ramdisk_id, server.config_drive) == ("", "", "")
    assert server.scheduler_hints is not None
    assert server.scheduler_hints.dec_baremetal == ()


def test_the_shown_servers_metadata_keeps_all_its_keys_as_text() -> None:
    metadata = read_server(SHOWN_SERVER).metadata

    assert len(metadata) == 12
    assert metadata["metering.resourcetype"] == "__type_baremetal"
    assert metadata["os_bit"] == "64"
    assert metadata["vpc_id"] == VPC


def test_the_shown_server_is_bare_metal_by_its_tag() -> None:
    server = read_server(SHOWN_SERVER)

    assert server.tags == ("__type_baremetal",)
    assert server.is_bare_metal


def test_user_data_is_read_and_never_shown() -> None:
    server = read_server(SHOWN_SERVER)

    assert server.user_data == "IyEvYmluL3NoCmVjaG8gcmVhZHkK"
    assert "IyEv" not in repr(server)
    assert "IyEv" not in str(server)
    assert "IyEv" not in repr(server.__rich_repr__())
    assert "user_data='***'" in repr(server)


def test_a_repr_leaves_out_what_is_absent() -> None:
    assert repr(read_server({"id": "a", "name": None, "tags": [], "metadata": {}})) == "Server(id='a')"


def test_the_documented_fields_that_no_example_shows_are_read_too() -> None:
    server = read_server(WHOLE_SERVER)

    assert server.key_name == "KeyPair-dec-jx"
    assert server.task_state == "powering-off"
    assert server.terminated_at == datetime(2019, 5, 22, 4, 23, 59, tzinfo=UTC)
    assert server.image is not None
    assert (server.image.name, server.image.os_type) == ("redhat_7_2", "Linux")
    assert [(link.rel, link.href) for link in server.image.links] == [
        ("bookmark", "https://ims.example.com/images/8589958c")
    ]
    assert [group.name for group in server.security_groups] == ["default"]
    assert server.fault is not None
    assert (server.fault.code, server.fault.message) == (500, "no valid host")
    assert server.fault.created == datetime(2018, 9, 18, 2, 46, 7, tzinfo=UTC)
    assert [(disk.boot_index, disk.delete_on_termination) for disk in server.volumes_attached] == [
        (0, True),
        (-1, False),
    ]
    assert server.scheduler_hints is not None
    assert server.scheduler_hints.dec_baremetal == ("share",)


def test_the_printed_page_has_two_servers_one_running_and_one_off() -> None:
    page = read_response(servers.LIST, HttpResponse(status=200, body=repair(SERVER_LIST).encode()))
    first, second = read_page(document_of(SERVER_LIST))

    assert page.count == 2
    assert (first.id, second.id) == ("b544be62-1b3b-4982-ad98-572b002ac23b", "a1541fcf-8ac3-43e9-a70d-b8d4b395b256")
    assert (first.name, second.name) == ("bms-test1", "bms_test2")
    assert (first.status, second.status) == (ServerStatus.ACTIVE, ServerStatus.SHUTOFF)
    assert (first.power_state, second.power_state) == (PowerState.RUNNING, PowerState.SHUTDOWN)
    assert (first.vm_state, second.vm_state) == ("active", "stopped")
    assert (first.key_name, second.key_name) == ("KeyPair-dec-jx", "KeyPair-hec-tzy")
    assert (first.progress, second.progress) == (0, None)
    assert first.launched_at == datetime(2018, 9, 6, 9, 30, 36, tzinfo=UTC)
    assert second.tags[2:] == ("key1=value1", "three=3", "two=2")
    assert first.is_bare_metal
    assert second.is_bare_metal


def test_a_server_of_a_page_reads_the_same_as_one_shown_alone() -> None:
    assert read_page({"servers": LISTED_SERVERS}) == [read_server(document) for document in LISTED_SERVERS]


def test_the_answer_to_a_power_call_is_the_id_of_its_job() -> None:
    for operation in (power.START, power.REBOOT, power.STOP):
        accepted = read_response(operation, HttpResponse(status=200, body=repair(ACTION_ANSWER).encode()))

        assert accepted == JobAccepted(job_id="70a599e0-31e7-49b7-b260-868f441e862b")


def test_the_answer_to_an_order_has_the_order_too() -> None:
    assert decode(repair(ORDER_ANSWER).encode(), JobAccepted) == JobAccepted(
        job_id="ff80801748b760c01748b7f80370003", order_id="CS2009141523OQSEQ"
    )


def test_the_printed_job_has_succeeded_for_its_one_server() -> None:
    job = read_response(jobs.GET, HttpResponse(status=200, body=repair(JOB_ANSWER).encode()))
    (sub,) = job.sub_jobs

    assert job.job_id == "2c9eb2c5544cbf6101544f0602af2b4f"
    assert job.job_type == "baremetalBatchCreate"
    assert job.status is JobStatus.SUCCESS
    assert job.is_final
    assert job.begin_time == datetime(2019, 4, 25, 20, 4, 34, 604000, tzinfo=UTC)
    assert job.end_time == datetime(2019, 4, 25, 20, 8, 41, 593000, tzinfo=UTC)
    assert (job.error_code, job.fail_reason, job.message, job.code) == (None, None, None, None)
    assert job.sub_jobs_total == 1
    assert sub.status is JobStatus.SUCCESS
    assert sub.is_final
    assert (sub.server_id, sub.nic_id) == ("bae51750-0089-41a1-9b18-5c777978ff6d", None)
    assert (sub.job_id, sub.job_type) == ("2c9eb2c5544cbf6101544f0635672b60", "baremetalSingleCreate")
    assert sub.begin_time == datetime(2019, 4, 25, 20, 4, 47, 591000, tzinfo=UTC)
    assert sub.end_time == datetime(2019, 4, 25, 20, 8, 21, 328000, tzinfo=UTC)
    assert (sub.error_code, sub.fail_reason) == (None, None)


def test_a_failed_parent_still_shows_what_succeeded_and_what_goes_on() -> None:
    job = read_job(WHOLE_JOB)

    assert job.status is JobStatus.FAIL
    assert job.error_code == "BMS.3004"
    assert [sub.server_id for sub in job.sub_jobs] == ["server-a", "server-b", "server-c"]
    assert [sub.is_final for sub in job.sub_jobs] == [True, True, False]
    assert job.sub_jobs[1].error_code == "BMS.0036"


@pytest.mark.parametrize(
    ("entities", "server_id", "nic_id"),
    [
        ({"server_id": "s"}, "s", None),
        ([{"server_id": "s"}], "s", None),
        ({"nic_id": "n"}, None, "n"),
        ([{"nic_id": "n"}, {"server_id": "s"}], "s", "n"),
        ([{"server_id": None}, {"server_id": ""}, {"server_id": "s"}], "s", None),
        ([None, {"server_id": "s"}], "s", None),
        ({"server_id": ""}, None, None),
        ({"server_id": None}, None, None),
        ({}, None, None),
        ([], None, None),
        (None, None, None),
        ("", None, None),
        ("none", None, None),
    ],
)
def test_a_sub_job_tells_its_server_as_documented_in_a_list_and_as_shown_in_an_object(
    entities: object, server_id: str | None, nic_id: str | None
) -> None:
    job = read_job({**SHOWN_JOB, "entities": {"sub_jobs": [{"status": "FAIL", "entities": entities}]}})

    assert (job.sub_jobs[0].server_id, job.sub_jobs[0].nic_id) == (server_id, nic_id)


def test_a_sub_job_that_names_no_entities_at_all_is_about_no_server() -> None:
    job = read_job({**SHOWN_JOB, "entities": {"sub_jobs": [{"status": "FAIL", "error_code": "BMS.3004"}]}})

    assert job.sub_jobs[0].server_id is None
    assert job.sub_jobs[0].error_code == "BMS.3004"


@pytest.mark.parametrize(
    ("entities", "shown", "total"),
    [
        (None, 0, 0),
        ("", 0, 0),
        ({}, 0, 0),
        ([], 0, 0),
        ({"sub_jobs_total": 5}, 0, 5),
        ({"sub_jobs_total": "5", "sub_jobs": None}, 0, 5),
        ({"sub_jobs_total": 5, "sub_jobs": ""}, 0, 5),
        ({"sub_jobs_total": 5, "sub_jobs": []}, 0, 5),
        ({"sub_jobs_total": 5, "sub_jobs": [{"status": "RUNNING"}, {}]}, 2, 5),
        ({"sub_jobs_total": 0, "sub_jobs": [{}]}, 1, 1),
        ({"sub_jobs": [{}, {}]}, 2, 2),
        ({"server_id": "s"}, 0, 0),
    ],
)
def test_a_young_job_shows_fewer_sub_jobs_than_it_has(entities: object, shown: int, total: int) -> None:
    job = read_job({**SHOWN_JOB, "status": "RUNNING", "entities": entities})

    assert len(job.sub_jobs) == shown
    assert job.sub_jobs_total == total


def test_a_page_with_no_servers_is_an_empty_page_and_one_without_the_field_is_none() -> None:
    empty: list[object] = [{"servers": None}, {"servers": ""}, {"servers": [], "count": 0}]
    for document in empty:
        assert read_page(document) == []
    unlisted: list[object] = [{}, {"count": None}, {"count": 5}]
    for document in unlisted:
        with pytest.raises(DecodeError, match="missing required field `servers`"):
            read_page(document)


def test_an_answer_is_read_from_bytes_that_begin_with_blanks() -> None:
    padded = HttpResponse(status=200, body=b"\r\n  " + answer_of(SHOWN_JOB).body + b"\n")

    assert read_response(jobs.GET, padded) == read_job(SHOWN_JOB)


def test_the_printed_server_reads_the_same_from_its_text() -> None:
    printed = HttpResponse(status=200, body=repair(SERVER_SHOW).encode())

    assert read_response(servers.GET, printed).server == read_server(SHOWN_SERVER)
