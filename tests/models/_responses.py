"""The reference's answers, read by the operations that bring them; and one server with every documented field."""

from __future__ import annotations

import json
from typing import Any

from bms_async.api.bms import jobs, servers
from bms_async.models import Job, Server, decode
from bms_async.wire import HttpResponse, read_response
from tests.reference.examples import JOB_ANSWER, SERVER_LIST, SERVER_SHOW, Example, repair


def document_of(example: Example) -> Any:
    return json.loads(repair(example))


def answer_of(document: object) -> HttpResponse:
    return HttpResponse(status=200, body=json.dumps(document).encode())


def read_server(document: object) -> Server:
    return read_response(servers.GET, answer_of({"server": document})).server


def read_page(document: object) -> list[Server]:
    """Read a page as the list does: the servers are decoded one by one, when the reader comes to them."""
    page = read_response(servers.LIST, answer_of(document))
    return [decode(raw, Server) for raw in page.servers or ()]


def read_job(document: object) -> Job:
    return read_response(jobs.GET, answer_of(document))


SHOWN_SERVER: dict[str, Any] = document_of(SERVER_SHOW)["server"]
LISTED_SERVERS: list[dict[str, Any]] = document_of(SERVER_LIST)["servers"]
SHOWN_JOB: dict[str, Any] = document_of(JOB_ANSWER)

# What tables 4-7 to 4-17 document and the example does not show.
WHOLE_SERVER: dict[str, Any] = {
    **SHOWN_SERVER,
    "key_name": "KeyPair-dec-jx",
    "OS-EXT-STS:task_state": "powering-off",
    "OS-SRV-USG:terminated_at": "2019-05-22T04:23:59.000000",
    "image": {
        "id": "8589958c-6bc7-40c6-b81b-3fe4cd2e3d85",
        "name": "redhat_7_2",
        "__os_type": "Linux",
        "links": [{"rel": "bookmark", "href": "https://ims.example.com/images/8589958c"}],
    },
    "security_groups": [{"name": "default", "id": "04ed6cc6-89f5-4a6f-b4c2-1a3ef3bdd8d8"}],
    "fault": {"message": "no valid host", "code": 500, "details": "a trace", "created": "2018-09-18T02:46:07Z"},
    "os-extended-volumes:volumes_attached": [
        {
            "id": "e7f2a3f1-9d6c-4dbf-9d0e-4d4d8a7c2f10",
            "delete_on_termination": "true",
            "bootIndex": "0",
            "device": "/dev/sda",
        },
        {
            "id": "0b0f2d36-61b1-4b0a-8a4b-6a61f1f4d0c9",
            "delete_on_termination": False,
            "bootIndex": -1,
            "device": "/dev/sdb",
        },
    ],
    "os:scheduler_hints": {"dec_baremetal": ["share"]},
}

# A parent of three, one of which succeeded: table 4-82 to 4-84, both ways of showing what a sub-job is about.
WHOLE_JOB: dict[str, Any] = {
    "job_id": "ff80801748b760c01748b7f80370003",
    "job_type": "baremetalBatchOperate",
    "status": "FAIL",
    "begin_time": "2019-04-25T20:04:34.604Z",
    "end_time": "2019-04-25T20:08:41.593Z",
    "error_code": "BMS.3004",
    "fail_reason": "one server failed",
    "message": "one server failed",
    "code": "BMS.3004",
    "entities": {
        "sub_jobs_total": 3,
        "sub_jobs": [
            {
                "job_id": "sub-a",
                "job_type": "baremetalSingleOperate",
                "status": "SUCCESS",
                "entities": {"server_id": "server-a"},
                "begin_time": "2019-04-25T20:04:47.591Z",
                "end_time": "2019-04-25T20:08:21.328Z",
                "error_code": None,
                "fail_reason": None,
            },
            {
                "job_id": "sub-b",
                "job_type": "baremetalSingleOperate",
                "status": "FAIL",
                "entities": [{"server_id": "server-b", "nic_id": "nic-b"}],
                "error_code": "BMS.0036",
                "fail_reason": "stopping",
                "message": "stopping",
                "code": "BMS.0036",
            },
            {"job_id": "sub-c", "status": "RUNNING", "entities": {"server_id": "server-c"}},
        ],
    },
}
