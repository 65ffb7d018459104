"""Keep the power of servers as a file has it: repair what differs, and lose no job however it ends.

    python -m bms_async.simulator --servers 100 --port 8800 --project-id demo --token demo --job-seconds 1 3
    export BMS_ENDPOINT=http://127.0.0.1:8800 OS_PROJECT_ID=demo OS_TOKEN=demo         # in another terminal
    curl -s $BMS_ENDPOINT/_admin/servers/ids | grep -oE '[0-9a-f-]{36}' | sed 's/$/ off/' > desired.txt
    python examples/controller.py desired.txt --jobs jobs.json --every 5

desired.txt has a server a line, `ID on` or `ID off`; # begins a comment. What it does not name is left alone, it may
be edited at any time, and nothing is ever rebooted. Decisions are printed on standard output, one JSON object a line.
Kill it in the middle and start it again: jobs.json has what the cloud is at, and no server is asked for twice.

Exit codes: 0 ended by a signal, 1 jobs cannot be saved, 2 wrong usage or files, 3 invalid credentials or settings,
4 the cloud does not respond, 130 interrupted before it began.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskGroup

import bms_async
from bms_async import (
    BmsClient,
    EventGap,
    FleetRun,
    JobEnded,
    JobEvents,
    JobHandle,
    JobLost,
    Lane,
    Outcome,
    OutcomeState,
    ServerStatus,
)

Action: TypeAlias = Literal["start", "stop"]

ACTIONS: Final[dict[str, Action]] = {"on": "start", "off": "stop"}
STATUSES: Final = {"start": ServerStatus.ACTIVE, "stop": ServerStatus.SHUTOFF}
AT_REST: Final = (ServerStatus.ACTIVE, ServerStatus.SHUTOFF, ServerStatus.ERROR)
VERSION: Final = 1
MAX_DELAY: Final = 3600.0
SHOWN: Final = 5


class FileError(Exception):
    """A file is not what it should be; the text says where and what to do."""


def say(decision: str, **details: object) -> None:
    """Tell a decision, on one line."""
    line = {"at": datetime.now(UTC), "decision": decision} | details
    print(msgspec.json.encode(line).decode(), flush=True)


def some(ids: Sequence[str]) -> dict[str, object]:
    """Return how a group of servers is logged: how many, and the first of them."""
    return {"servers": len(ids), "first": ids[:SHOWN]}


def read_desired(path: Path) -> dict[str, Action]:
    """Read what each server needs to be as it should.

    Raises:
        FileError: A line makes no sense. Then none counts: half a file is not what anybody wants.
    """
    desired: dict[str, Action] = {}
    lines: dict[str, int] = {}
    try:
        # Some editors begin a file with a byte order mark.
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise FileError(f"cannot read {path}: {error}; put it right") from error
    for number, line in enumerate(text.split("\n"), 1):
        match line.partition("#")[0].split():
            case []:
                continue
            case [server_id, "on" | "off" as power] if server_id not in desired:
                desired[server_id], lines[server_id] = ACTIONS[power], number
                continue
            case [server_id, "on" | "off"]:
                wrong = f"server {server_id} is on line {lines[server_id]} too; delete one"
            case [_, "reboot"]:
                wrong = "reboot is not a state; write on or off"
            case _:
                wrong = f"{line.strip()!r}; write the id of a server, a blank, and on or off"
        raise FileError(f"{path}, line {number}: {wrong}")
    return desired


class SavedJobs(msgspec.Struct):
    """What the file of jobs holds: `JobHandle.to_json` by the job's id."""

    version: int
    jobs: dict[str, str]


@contextmanager
def open_ledger(path: Path) -> Iterator[Ledger]:
    """Read the file of jobs, and keep every other controller off it.

    Raises:
        FileError: It cannot be read, or another controller has it.
    """
    with ExitStack() as stack:
        try:
            # However the process ends, this goes with it.
            lock = stack.enter_context(path.with_name(f"{path.name}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            saved = msgspec.json.decode(path.read_bytes(), type=SavedJobs) if path.exists() else None
        except BlockingIOError:
            raise FileError(f"another controller has {path}; end it first, or give another --jobs") from None
        except (OSError, ValueError, msgspec.DecodeError) as error:
            raise FileError(f"cannot read {path}: {error}; repair it, or give another --jobs") from error
        if saved is not None and saved.version != VERSION:
            why = f"{path} has version {saved.version}, and this program reads {VERSION}"
            raise FileError(f"{why}; use the program that wrote it, or give another --jobs")
        yield Ledger(path, saved.jobs if saved else {})


class Ledger:
    """The jobs that the cloud is at, in a file that is whole at any moment."""

    def __init__(self, path: Path, jobs: dict[str, str]) -> None:
        self.jobs = jobs
        self._path = path
        self._writing = anyio.Lock()

    async def add(self, job: JobHandle) -> None:
        """Save a job."""
        self.jobs[job.id] = job.to_json()
        await self._save()

    async def drop(self, job_ids: Iterable[str]) -> None:
        """Forget jobs that have ended."""
        if [self.jobs.pop(job_id) for job_id in tuple(job_ids) if job_id in self.jobs]:
            await self._save()

    async def _save(self) -> None:
        # Saved even if a signal comes meanwhile, and in a thread: a disk may be slow.
        with anyio.CancelScope(shield=True):
            async with self._writing:
                await anyio.to_thread.run_sync(self._write, SavedJobs(version=VERSION, jobs=self.jobs.copy()))

    def _write(self, saved: SavedJobs) -> None:
        new = self._path.with_name(f"{self._path.name}.new")
        with new.open("wb") as file:
            file.write(msgspec.json.encode(saved))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)


class Grudge(NamedTuple):
    """A server that was asked for and is not seen to be as it should: how often, and when it may be asked for again."""

    attempts: int
    until: float


class Controller:
    """Compares what is with what should be, and repairs the difference."""

    def __init__(self, bms: BmsClient, ledger: Ledger, options: argparse.Namespace) -> None:
        self._bms = bms
        self._ledger = ledger
        self._options = options
        self._desired: dict[str, Action] = {}
        self._seen: tuple[int, ...] | None = None
        self._under_way: set[str] = set()
        self._grudges: dict[str, Grudge] = {}
        self._strangers: set[str] = set()
        # With the number of servers that each may have in flight at once.
        self._runs: dict[FleetRun, int] = {}
        self._news = anyio.Event()
        self.scope = anyio.CancelScope()
        self.broken = False

    async def prepare(self) -> list[JobHandle]:
        """Read the files and try the cloud; return the jobs that an earlier controller has left.

        Raises:
            FileError: A file makes no sense.
            BmsError: The cloud does not let us in.
        """
        self._seen = await self._stamp()
        self._desired = await anyio.to_thread.run_sync(read_desired, self._options.desired)
        await anext(aiter(self._bms.with_options(retry=None, total_timeout=10.0).servers.list(page_size=1)), None)
        try:
            jobs = [self._bms.jobs.restore(text) for text in self._ledger.jobs.values()]
        except bms_async.InvalidRequestError as error:
            raise FileError(f"cannot resume a job: {error}; give another --jobs") from error
        for job in jobs:
            if job.action not in ("servers.start", "servers.stop") or not job.servers:
                what = f"job {job.id} of {job.action} and {len(job.servers)} servers"
                raise FileError(f"cannot resume {what}, which no controller begins; give another --jobs")
        return jobs

    async def run(self, jobs: Sequence[JobHandle]) -> None:
        """Go on until the scope is cancelled."""
        with self.scope:
            # Subscribed before anything is awaited: earlier events are not delivered.
            async with self._bms.jobs.events() as events, anyio.create_task_group() as tasks:
                tasks.start_soon(self._hear, events)
                tasks.start_soon(self._watch_file)
                for action in ACTIONS.values():
                    ours = [job for job in jobs if job.action == f"servers.{action}"]
                    if ours:
                        self._begin(tasks, action, [server_id for job in ours for server_id in job.servers], ours)
                while True:
                    self._news = anyio.Event()
                    await self._compare(tasks)
                    with anyio.move_on_after(self._options.every):
                        await self._news.wait()
        say("end", jobs_left=len(self._ledger.jobs))

    async def _compare(self, tasks: TaskGroup) -> None:
        """Read the actual states, and repair those that differ."""
        # A job in flight now may have ended when its page comes, whose state is older than that.
        desired, busy, now = self._desired, frozenset(self._under_way), anyio.current_time()
        wrong: dict[Action, list[str]] = {"start": [], "stop": []}
        found: set[str] = set()
        try:
            async for server in self._bms.servers.list(lane=Lane.BULK):
                action = desired.get(server.id)
                if action is None:
                    continue
                found.add(server.id)
                if server.status == STATUSES[action]:
                    self._grudges.pop(server.id, None)
                elif server.id not in busy and not server.task_state and server.status in AT_REST:
                    grudge = self._grudges.get(server.id)
                    if grudge is None or grudge.until <= now:
                        wrong[action].append(server.id)
        except bms_async.BmsError as error:
            say("wait", seconds=self._options.every, why=str(error))
            return
        strangers = desired.keys() - found
        if strangers != self._strangers and strangers:
            say("ignore", why="the project has no such servers; correct their lines", **some(sorted(strangers)))
        self._strangers = strangers
        for action, ids in wrong.items():
            # The file may have changed while the pages came.
            if still := [server_id for server_id in ids if self._desired.get(server_id) == action]:
                self._begin(tasks, action, still)

    def _begin(self, tasks: TaskGroup, action: Action, ids: Sequence[str], jobs: Sequence[JobHandle] = ()) -> None:
        room = len(ids)
        if self._options.wave is not None and not jobs:
            room = min(room, self._options.wave - sum(self._runs.values()))
            if room < 1:
                # Their turn comes when a run has ended.
                return
        if jobs:
            say("resume", action=action, jobs=[job.id for job in jobs], **some(ids))
        else:
            say("repair", action=action, **some(ids))
        act = self._bms.fleet.start if action == "start" else self._bms.fleet.stop
        # Servers of jobs that are resumed are watched, and not asked for. Nor does the run ask again for one that was
        # busy or lost: we do, by what the file says then.
        asked, on_job = ((), None) if jobs else (ids, self._accept)
        run = act(asked, jobs=jobs, on_job=on_job, wave_size=room, retry_transient=False)
        self._runs[run] = room
        self._under_way.update(ids)
        tasks.start_soon(self._follow, action, run)

    async def _follow(self, action: Action, run: FleetRun) -> None:
        # It ends with the controller: what that is to do next is for the one that is started next to find out.
        async with run:
            async for outcome in run:
                self._take(action, outcome)
        del self._runs[run]
        if run.report is not None:
            say("repaired", action=action, **{state: count for state, count in run.report.by_state.items() if count})
        self._news.set()

    async def _accept(self, job: JobHandle) -> None:
        await self._save(self._ledger.add(job))
        say("accepted", job=job.id, **some(job.servers))

    async def _save(self, saving: Awaitable[None]) -> None:
        try:
            await saving
        except OSError as error:
            # If jobs cannot be saved, none may be started.
            say("give up", why=f"cannot save the jobs: {error}; make room, and start again")
            self.broken = True
            self.scope.cancel()

    def _take(self, action: Action, outcome: Outcome) -> None:
        server_id, state = outcome.server_id, outcome.state
        self._under_way.discard(server_id)
        if (state is OutcomeState.SKIPPED and outcome.error is None) or self._desired.get(server_id) != action:
            return
        # Also one that is as asked by the cloud's word: if the list never shows it, we would ask for ever.
        attempts = self._grudges[server_id].attempts + 1 if server_id in self._grudges else 1
        delay = min(self._options.backoff * 2.0 ** min(attempts - 1, 30), MAX_DELAY)
        self._grudges[server_id] = Grudge(attempts, anyio.current_time() + delay)
        if not state.is_success:
            say("back off", server=server_id, state=state, attempts=attempts, seconds=delay, why=str(outcome.error))

    async def _hear(self, events: JobEvents) -> None:
        """Forget saved jobs as they end."""
        async for event in events:
            match event:
                case JobEnded(job_id=job_id):
                    await self._save(self._ledger.drop([job_id]))
                case JobLost(job_id=job_id, error=error):
                    say("lost", job=job_id, why=str(error))
                    await self._save(self._ledger.drop([job_id]))
                case EventGap(missed=missed):
                    # Too much happened at once: what is not watched any more has ended.
                    say("catch up", missed=missed)
                    watched = {job.id for job in self._bms.jobs.watched()}
                    await self._save(self._ledger.drop(self._ledger.jobs.keys() - watched))

    async def _watch_file(self) -> None:
        """Take a new desired state in; a file that makes no sense changes nothing."""
        while True:
            await anyio.sleep(self._options.look)
            stamp = await self._stamp()
            if stamp == self._seen:
                continue
            self._seen = stamp
            try:
                desired = await anyio.to_thread.run_sync(read_desired, self._options.desired)
            except FileError as error:
                say("keep", why=f"{error}; until then the old state stays in force")
                continue
            if desired != self._desired:
                # A server with a new wanted state is tried at once, whatever failed before.
                for server_id in self._grudges.keys() - {each for each, _ in desired.items() & self._desired.items()}:
                    del self._grudges[server_id]
                self._desired = desired
                needs = list(desired.values())
                say("desire", on=needs.count("start"), off=needs.count("stop"))
                for run in self._runs:
                    # Servers that were not asked for yet may have a new wanted state.
                    run.cancel()
                self._news.set()

    async def _stamp(self) -> tuple[int, ...] | None:
        try:
            stat = await anyio.Path(self._options.desired).stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


async def control(options: argparse.Namespace, ledger: Ledger) -> int:
    """Run a controller until a signal comes; return the exit code."""
    async with BmsClient.from_env() as bms:
        controller = Controller(bms, ledger, options)
        jobs = await controller.prepare()

        async def end_on_signal(signals: AsyncIterator[signal.Signals]) -> None:
            async for _ in signals:
                controller.scope.cancel()

        async with anyio.create_task_group() as tasks:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                tasks.start_soon(end_on_signal, signals)
                await controller.run(jobs)
            tasks.cancel_scope.cancel()
    return 1 if controller.broken else 0


def seconds(text: str) -> float:
    """Read a time that is longer than none."""
    if not 0 < float(text) <= MAX_DELAY:
        raise argparse.ArgumentTypeError(f"more than 0 seconds are needed, and an hour at most: {text}")
    return float(text)


def number(text: str) -> int:
    """Read how many there may be."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"1 or more are needed: {text}")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("desired", type=Path, help="the file with a server a line: ID on, or ID off")
    add("--jobs", type=Path, default="jobs.json", metavar="FILE", help="where jobs in flight are saved (jobs.json)")
    add("--every", type=seconds, default=30.0, metavar="S", help="how often actual states are read (30)")
    add("--look", type=seconds, default=1.0, metavar="S", help="how often it is seen whether the file has changed (1)")
    add("--backoff", type=seconds, default=60.0, metavar="S", help="before a server that failed is tried again (60)")
    add("--wave", type=number, metavar="N", help="how many servers may be in flight at once, in all runs (any number)")
    options = parser.parse_args(arguments)
    try:
        with open_ledger(options.jobs) as ledger:
            return asyncio.run(control(options, ledger))
    except (FileError, bms_async.BmsError) as error:
        print(f"controller: {error}", file=sys.stderr)
        settings = bms_async.ConfigurationError | bms_async.AuthenticationError | bms_async.PermissionDeniedError
        return 2 if isinstance(error, FileError) else 3 if isinstance(error, settings) else 4
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
