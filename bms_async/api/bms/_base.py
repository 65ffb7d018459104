"""The base class of the calls to servers."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from bms_async.errors import DecodeError
from bms_async.jobs import JobHandle, Watcher
from bms_async.models import JobAccepted
from bms_async.redaction import mask
from bms_async.session import Session
from bms_async.validation.common import read_id
from bms_async.wire import Operation

SERVERS = "/v1/{project_id}/baremetalservers"
SERVER = SERVERS + "/{server_id}"


class ServerResource:
    """The base of the classes that ``bms.servers`` combines."""

    def __init__(self, session: Session, watcher: Watcher, *, check: bool) -> None:
        self._session = session
        self._watcher = watcher
        self._check = check

    def _checked(self, server_id: str) -> str:
        return read_id("server_id", server_id, check=self._check)

    def _watch(
        self,
        accepted: JobAccepted,
        operation: Operation[JobAccepted],
        servers: tuple[str, ...] = (),
        secrets: Sequence[str | None] = (),
    ) -> JobHandle:
        return watch_job(self._watcher, accepted, operation, servers, secrets)


def watch_job(
    watcher: Watcher,
    accepted: JobAccepted,
    operation: Operation[JobAccepted],
    servers: tuple[str, ...] = (),
    secrets: Sequence[str | None] = (),
) -> JobHandle:
    """Return the handle of the job that a call has started.

    Args:
        watcher: The watcher that polls the job.
        accepted: The response of the call.
        operation: The call.
        servers: The servers of the job, as far as they are known.
        secrets: Values to mask in everything that the job's responses say.

    Raises:
        DecodeError: The response has no job id.
    """
    if not accepted.job_id:
        raise DecodeError("expected the id of a job, got none", status=200, operation=operation.name)
    known = [secret for secret in secrets if isinstance(secret, str)]
    redact = functools.partial(_mask, known) if known else None
    return watcher.watch(accepted.job_id, servers=servers, action=operation.name, redact=redact)


def _mask(secrets: list[str], text: str) -> str:
    return mask(text, *secrets)
