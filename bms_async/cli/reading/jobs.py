"""``bms jobs``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import anyio
from rich.text import Text

from bms_async import (
    BmsClient,
    BmsError,
    ClientClosedError,
    Job,
    JobFailedError,
    JobHandle,
    JobLostError,
    NotFoundError,
    SubJob,
)
from bms_async.cli.access.cloud import open_client
from bms_async.cli.access.settings import read_settings
from bms_async.cli.following.display import PollHealth
from bms_async.cli.following.failures import Failures
from bms_async.cli.following.results import failure_line, reason_line, reason_lines
from bms_async.cli.runs.saved import read_saved, restore_jobs
from bms_async.cli.runs.saved_texts import print_unasked
from bms_async.cli.terminal.again import print_command
from bms_async.cli.terminal.exit import Code, UsageError, print_error
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.output import write
from bms_async.cli.terminal.progress import Screen, draw_bar
from bms_async.cli.terminal.row_stream import RowStream
from bms_async.cli.terminal.rows import RowWriter
from bms_async.cli.terminal.signals import SignalHandler, run_interruptibly
from bms_async.cli.terminal.texts import duration, pluralize, strip_control_chars
from bms_async.cli.terminal.words import message_of_error, quote
from bms_async.models import JobStatus

from .job_rows import JOBS, SUB_JOBS, EndedSubJob, describe_job

__all__ = ["show_jobs", "watch_jobs"]

_TICK = 0.25


def show_jobs(ids: Sequence[str], *, cloud: str | None, output: OutputOptions) -> int:
    """Print the progress of jobs; returns 1 if one of them does not exist or has failed.

    Args:
        ids: The jobs.
        cloud: A cloud of ``clouds.yaml``.
        output: The form of the rows; the usual one is text for people.
    """
    rows = None if output.is_default else RowWriter(JOBS, output)
    settings = read_settings(cloud)

    async def main(_stop: SignalHandler) -> int:
        code: int = Code.OK
        async with open_client(settings) as opened:
            for job_id in dict.fromkeys(ids):
                try:
                    job = await opened.bms.jobs.get(job_id)
                except NotFoundError as error:
                    _print_missing(job_id, error, opened.place.brief)
                    code = Code.FAILED
                    continue
                if rows is None:
                    write(describe_job(job))
                else:
                    rows.add(job)
                if job.status is JobStatus.FAIL:
                    code = Code.FAILED
        if rows is not None:
            rows.finish()
        return code

    return run_interruptibly(main)


def watch_jobs(ids: Sequence[str], *, file: str | None, cloud: str | None, output: OutputOptions, quiet: bool) -> int:
    """Watch jobs until they end; returns 1 if a sub-job failed.

    Args:
        ids: The jobs.
        file: A file of saved jobs, instead of ids.
        cloud: A cloud of ``clouds.yaml``.
        output: The form of the rows; usually there are none, and the results are text for people.
        quiet: Whether to print failures only.
    """
    RowWriter(SUB_JOBS, output)
    if bool(ids) == bool(file):
        raise UsageError("expected job ids, or --from with a file of saved jobs")
    saved = read_saved(file) if file else None
    settings = read_settings(cloud)
    if file and saved is not None:
        saved.check_cloud(file, settings.endpoint, settings.project_id)

    async def main(stop: SignalHandler) -> int:
        async with open_client(settings) as opened:
            if file and saved is not None:
                handles = restore_jobs(opened.bms, file, saved)
            else:
                handles = await _find(opened.bms, list(dict.fromkeys(ids)), opened.place.brief)
            with Screen(quiet=quiet) as screen:
                stream = RowStream(SUB_JOBS, output, screen)
                code = await _Watch(opened.bms, handles, screen, stream).follow(stop) if handles else Code.OK
            if stream.rows is not None and not handles:
                stream.rows.finish()
                stream.write_now()
            if len(handles) < len(set(ids)):
                code = code or Code.FAILED
        if stop.number:
            again = f"--from {shlex.quote(os.fspath(Path(file)))}" if file else " ".join(map(shlex.quote, ids[:5]))
            print_error("the jobs go on in the cloud. To watch them again:")
            print_command(f"bms jobs watch {again}")
        elif saved is not None and saved.head is not None:
            print_unasked(file or "", saved.head.action, saved)
        return code

    return run_interruptibly(main)


async def _find(bms: BmsClient, ids: Sequence[str], where: str) -> list[JobHandle]:
    """Return handles of the jobs that exist; without the check, a wrong id would be polled for a minute."""
    handles = []
    for job_id in ids:
        try:
            await bms.jobs.get(job_id)
        except NotFoundError as error:
            _print_missing(job_id, error, where)
        else:
            handles.append(bms.jobs.watch(job_id))
    return handles


class _Watch:
    """Watches some jobs.

    Args:
        bms: The client.
        handles: The jobs.
        screen: Where the progress is shown.
        stream: The rows of the sub-jobs that end.
    """

    def __init__(
        self, bms: BmsClient, handles: Sequence[JobHandle], screen: Screen, stream: RowStream[EndedSubJob]
    ) -> None:
        self._polls = PollHealth(bms)
        self._handles = handles
        self._screen = screen
        self._stream = stream
        self._rows = stream.rows
        self._failures = Failures()
        self._known: dict[str, Job | None] = {}
        self._done = self._ended = self._lost = 0
        self._failed_jobs = 0
        self._began = anyio.current_time()

    async def follow(self, stop: SignalHandler) -> int:
        """Watch them until all have ended, or a signal comes."""
        with anyio.CancelScope() as scope:
            stop.on_first_signal = scope.cancel
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._show, scope)
                    async with anyio.create_task_group() as watching:
                        for handle in self._handles:
                            watching.start_soon(self._watch, handle)
                    tasks.cancel_scope.cancel()
            finally:
                with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                    await self._stream.write()
                    if not self._screen.quiet:
                        await self._draw()
                    await self._screen.close()
                    await self._stream.write(is_last=True)
        await self._stream.write_in_order()
        if self._stream.error is not None:
            raise self._stream.error
        self._conclude()
        return Code.FAILED if self._failures or self._failed_jobs or self._lost else Code.OK

    async def _watch(self, handle: JobHandle) -> None:
        try:
            async for sub in handle.sub_jobs():
                self._on_sub_job(handle, sub)
            job = await handle.result()
        except JobFailedError as error:
            self._failed_jobs += 1
            self._on_end(handle, error.job, error)
        except ClientClosedError:
            raise
        except JobLostError as error:
            self._lost += 1
            self._on_end(handle, error.job, error)
        else:
            self._on_end(handle, job, None)

    def _on_sub_job(self, handle: JobHandle, sub: SubJob) -> None:
        self._done += 1
        ended = EndedSubJob(handle.id, sub)
        if self._rows is not None:
            self._rows.add(ended)
        if ended.has_failed:
            server, code = sub.server_id or "an unnamed server", ended.code
            first = self._failures.add_reason(code or "no code", ended.meaning, server, ended.message)
            if first is not None:
                self._screen.print_above(failure_line(server, code or "", first))

    def _on_end(self, handle: JobHandle, job: Job | None, error: BmsError | None) -> None:
        self._ended += 1
        self._known[handle.id] = job
        message = message_of_error(error) if error is not None else None
        if isinstance(error, JobLostError):
            self._screen.print_above(strip_control_chars(str(error)))
        elif message is not None:
            # A message about the job as a whole may be the only one.
            self._screen.print_above(f"job {strip_control_chars(handle.id)} failed: {message.text}")
        if self._rows is not None:
            status = "LOST" if isinstance(error, JobLostError) or job is None else job.status.value
            fields: dict[str, object] = {"type": "job", "job_id": handle.id, "status": status}
            fields["servers"] = len(handle.servers) or (job.sub_jobs_total if job else 0)
            if error is not None:
                fields |= {"error": str(error), "reason": message and message.text}
            self._rows.add_object(fields)

    async def _show(self, scope: anyio.CancelScope) -> None:
        while True:
            await self._stream.write()
            self._polls.sample()
            if self._stream.error is not None:
                scope.cancel()
            if self._screen.is_live or self._screen.is_due():
                await self._draw()
            else:
                await self._screen.log()
            await anyio.sleep(_TICK)

    async def _draw(self) -> None:
        total, so_far = self._total(), duration(anyio.current_time() - self._began)
        jobs = f"{self._ended}/{pluralize(len(self._handles), 'job')}"
        figures = f"{self._done:,}/{total:,}  {jobs}  {so_far}"
        failed = ", ".join(f"{count:,} {strip_control_chars(code)}" for code, count in self._failures.counts().items())
        failing = self._polls.message()
        if not self._screen.is_live:
            await self._screen.log("; ".join(part for part in (f"jobs: {figures}", failed, failing) if part))
            return
        bar = draw_bar(self._done, total, max(5, self._screen.width - len(figures) - 8), plain=self._screen.is_plain)
        block = [Text.assemble(("jobs", "bold"), "  ", bar, "  ", figures)]
        block += [reason_line(reason) for reason in self._failures.reasons()[:5]]
        if failing:
            block.append(Text(f"  {failing}", style="dim"))
        await self._screen.draw(block)

    def _total(self) -> int:
        total = 0
        for handle in self._handles:
            known = self._known.get(handle.id) or (None if handle.servers else handle.job)
            total += len(handle.servers) or (known.sub_jobs_total if known else 0)
        return max(total, self._done)

    def _conclude(self) -> None:
        failed = sum(self._failures.counts().values())
        if self._rows is not None:
            summary = {"type": "summary", "jobs": len(self._handles), "ended": self._ended, "lost": self._lost}
            self._rows.add_object({**summary, "servers": self._done, "failed": failed})
            self._rows.finish()
            self._stream.write_now()
            if self._rows.has_objects:
                return
        if self._screen.quiet:
            return
        lines = [f"{self._ended} of {pluralize(len(self._handles), 'job')} ended: {pluralize(self._done, 'server')}, "
                 f"{failed:,} failed" + (f", {pluralize(self._lost, 'job')} lost" if self._lost else "")]  # fmt: skip
        lines += reason_lines(self._failures)
        if self._rows is None:
            write("\n".join(lines) + "\n")
        else:
            # Standard output is a table.
            print_error("\n".join(lines), first="")


def _print_missing(job_id: str, error: NotFoundError, where: str) -> None:
    print_error(
        f"there is no job {strip_control_chars(job_id)} in {where}: check the id; a new job may take some seconds "
        f"to appear, and an old one is deleted after a while{quote(error)}"
    )
