"""A simulator in a process of its own, and the vendor's client for it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from huaweicloudsdkbms import v1 as vendor
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.http.http_config import HttpConfig

from tests.support.machine import patience

SWIFT = ["--port", "0", "--limit", "jobs.get=1000000", "--job-seconds", "0.02", "0.05"]


class Simulator(NamedTuple):
    address: str
    project_id: str
    access_key: str
    secret_key: str

    def client(self, access_key: str | None = None) -> Any:
        credentials = BasicCredentials(access_key or self.access_key, self.secret_key, self.project_id)
        return (
            vendor.BmsClient.new_builder()
            .with_http_config(HttpConfig(timeout=patience(60.0)))
            .with_credentials(credentials)
            .with_endpoint(self.address)
            .build()
        )


@contextmanager
def serving(*flags: str) -> Iterator[Simulator]:
    """Run a simulator whose jobs take some hundredths of a second; it must end cleanly."""
    command = [sys.executable, "-m", "bms_async.simulator", *SWIFT, *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = json.loads(process.stdout.readline())
            yield Simulator(line["address"], line["project_id"], line["access_key"], line["secret_key"])
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=patience(60.0)) == ("", "")
            assert process.returncode == 0
        finally:
            if process.poll() is None:
                process.kill()


def finish(bms: Any, job_id: str) -> Any:
    """Poll a job to its end: it takes some hundredths of a second, and each poll a thousandth or two."""
    for _ in range(5000):
        job = bms.show_job_infos(vendor.ShowJobInfosRequest(job_id=job_id))
        if job.status not in ("INIT", "RUNNING"):
            return job
    raise AssertionError(f"job {job_id} does not end")
