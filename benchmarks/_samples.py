"""What the benchmarks send and receive, as long and as odd as the real thing.

A figure is as true as its texts are. A token that is too short is not masked; a secret key of two letters is found all
over a response; and a job whose sub-jobs have all ended lacks the empty ``end_time`` of each that has not.
"""

from __future__ import annotations

import json
import random
import string
from typing import Any

import msgspec

from tests.reference.examples import JOB_ANSWER, repair

PROJECT = "bbf1946d374b44a0a2a95533562ba954"
JOB_ID = "ff808081ad0b6a5e0190f4c37f5b00a1"
JOB_PATH = f"/v1/{PROJECT}/jobs/{JOB_ID}"
TOKEN = "MII" + "".join(random.Random(1).choices(string.ascii_letters + string.digits + "+-", k=1997))
"""A token of 2,000 characters, as the identity service signs them. It opens nothing, and neither do the keys."""
ACCESS_KEY, SECRET_KEY = "HPUAEXAMPLEACCESSKEY", "Zm9yIGJlbmNobWFya3Mgb25seSwgbm8ga2V5IQ=="
REQUEST_HEADERS = {"X-Auth-Token": TOKEN, "Accept": "application/json"}

RESPONSE_HEADERS = (
    ("Date", "Tue, 24 Nov 2026 10:00:05 GMT"),
    ("Content-Type", "application/json;charset=UTF-8"),
    ("Connection", "keep-alive"),
    ("Server", "api-gateway"),
    ("X-Request-Id", "5f0c2a7e61b8b0d5a4c93e77f2d18b06"),
    ("Strict-Transport-Security", "max-age=31536000; includeSubdomains;"),
)
"""What a gateway adds to each response; the seventh is the length."""

SUB_JOBS = 1000
_BEGIN, _END = "2026-11-24T10:00:00.000Z", "2026-11-24T10:05:21.328Z"


def job_document(sub_jobs: int = SUB_JOBS, *, running: bool) -> bytes:
    """Return a job as the reference prints one (4.11.1), without blanks.

    Args:
        sub_jobs: How many sub-jobs it has, each with a server of its own.
        running: Whether none of them has ended; else all have succeeded.
    """
    job: dict[str, Any] = json.loads(repair(JOB_ANSWER))
    state = {
        "status": "RUNNING" if running else "SUCCESS",
        "begin_time": _BEGIN,
        "end_time": "" if running else _END,
    }
    shown = job["entities"]["sub_jobs"][0] | state | {"job_type": "baremetalSingleStop"}
    parts = [
        shown
        | {
            "entities": {"server_id": f"bae51750-0089-41a1-9b18-{number:012x}"},
            "job_id": f"2c9eb2c5544cbf6101544f{number:010x}",
        }
        for number in range(sub_jobs)
    ]
    entities = {"sub_jobs_total": sub_jobs, "sub_jobs": parts}
    return msgspec.json.encode(job | state | {"job_id": JOB_ID, "job_type": "baremetalBatchStop", "entities": entities})


def http_response(body: bytes) -> bytes:
    """Return the bytes of a whole response, with the headers of a gateway."""
    head = "".join(f"{name}: {value}\r\n" for name, value in (*RESPONSE_HEADERS, ("Content-Length", len(body))))
    return f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + body
