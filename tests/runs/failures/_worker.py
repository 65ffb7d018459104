"""A process that works for durable runs, and kills itself or stands still where it is told to.

It speaks to whoever started it over a connection, by lines of JSON, and ends when that is closed. What it says reaches
the other side even if the next thing that it does is to die.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sqlite3
import threading
from pathlib import Path
from typing import Literal

import anyio
import msgspec

from bms_async import BmsClient, Http1Transport, Limits, RetryPolicy, StaticToken
from bms_async.limits.shared.exchange import Exchange
from bms_async.limits.shared.messages import Terms
from bms_async.limits.shared.stores import find_store
from bms_async.limits.table import DOCUMENTED_LIMITS
from bms_async.runs import Runs
from bms_async.transport import PendingRequest
from bms_async.wire import HttpRequest
from tests.runs.failures._guards import Guard, take_away
from tests.runs.failures._points import Fate, Points, hook
from tests.runs.failures._times import Times, use

WORKER = "X-Worker"
ACCOUNT = "shared"


class Budget(msgspec.Struct, kw_only=True, frozen=True):
    """Limits that several processes share.

    Attributes:
        store: Where they are counted.
        calls: Calls of the run's operation in a window.
        terms: The times of the account.
    """

    store: str
    calls: int
    terms: Terms


class Part(msgspec.Struct, kw_only=True, frozen=True):
    """What a process is to do.

    Attributes:
        name: Its name.
        journal: The address of the journal.
        endpoint: The cloud's.
        project: The project.
        token: The token.
        times: The times that it goes by.
        operation: What the run does, such as ``servers.reboot``.
        batch: How many servers a batch has.
        points: The folder in which all processes count how often they have passed a point.
        fates: What happens at which passage of which point.
        without: What it does not guard itself by.
        budget: Its limits; None for none.
        act: What it does in the place of working.
    """

    name: str
    journal: str
    endpoint: str
    project: str
    token: str
    times: Times
    operation: str
    batch: int
    points: str
    fates: dict[str, dict[int, Fate]] = {}
    without: Guard | None = None
    budget: Budget | None = None
    act: Literal["", "locks the file"] = ""


class Said(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What a process says.

    Attributes:
        name: Its name.
        what: ready, has (a batch), sending, refused, watching (all committed), dying, standing, late (its loop was
            held up) or done.
        pid: Its number.
        point: Where it dies or stands.
        number: The number of the batch.
        ids: The servers of the batch.
    """

    name: str
    what: str
    pid: int
    point: str = ""
    number: int = -1
    ids: tuple[str, ...] = ()


class Mouth:
    """What a process speaks by, from any of its threads: it has said a thing when `say` returns."""

    def __init__(self, name: str, control: int) -> None:
        self._name = name
        self._socket = socket.create_connection(("127.0.0.1", control))
        self._lock = threading.Lock()

    def say(self, what: str, *, point: str = "", number: int = -1, ids: tuple[str, ...] = ()) -> None:
        said = Said(name=self._name, what=what, pid=os.getpid(), point=point, number=number, ids=ids)
        with self._lock:
            self._socket.sendall(msgspec.json.encode(said) + b"\n")

    def wait_for_end(self, ended: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
        """Wait in a thread until the other side has enough, which is seen by a word or by the end of all."""

        def wait() -> None:
            if not self._socket.recv(1024):
                os._exit(1)
            loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=wait, daemon=True).start()


class _NamedTransport(Http1Transport):
    """Says to the cloud whose requests these are."""

    def __init__(self, name: str, points: Points) -> None:
        super().__init__()
        self._name, self._points = name, points

    def submit(self, request: HttpRequest) -> PendingRequest:
        if request.operation == "jobs.get":
            self._points.passed("while watching")
        return super().submit(msgspec.structs.replace(request, headers={**request.headers, WORKER: self._name}))


def run(part: Part, control: int) -> None:
    """Be that process.

    Args:
        part: What it does.
        control: The port of whoever is to know.
    """
    mouth = Mouth(part.name, control)
    if part.act == "locks the file":
        _lock(part, mouth)
    use(part.times, batch=part.batch)
    file = part.journal.removeprefix("sqlite://") if part.journal.startswith("sqlite://") else ""
    points = Points(Path(part.points), part.fates, mouth.say, file)
    if part.without is not None:
        take_away(part.without)
    hook(points, mouth.say)
    asyncio.run(_work(part, mouth, points))


async def _work(part: Part, mouth: Mouth, points: Points) -> None:
    ended = asyncio.Event()
    mouth.wait_for_end(ended, asyncio.get_running_loop())
    async with (
        BmsClient(
            endpoint=part.endpoint,
            project_id=part.project,
            auth=StaticToken(part.token),
            transport=_NamedTransport(part.name, points),
            limits=_limits(part),
            retry=RetryPolicy(initial_delay=0.1),
            runs=Runs(part.journal),
        ) as bms,
        bms.runs.work(),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_say_when_late, mouth, part.times.margin)
        mouth.say("ready")
        await ended.wait()
        tasks.cancel_scope.cancel()
    mouth.say("done")


async def _say_when_late(mouth: Mouth, margin: float) -> None:
    """Say when this process was held up for so long that what it was about to do may have come after its lease."""
    while True:
        due = anyio.current_time() + margin / 2
        await anyio.sleep_until(due)
        if anyio.current_time() - due > margin / 2:
            mouth.say("late")


def _limits(part: Part) -> Limits:
    budget = part.budget
    changes: dict[str, int | None] = dict.fromkeys(DOCUMENTED_LIMITS)
    if budget is None:
        return Limits(changes)
    changes[part.operation] = budget.calls
    limits = Limits.shared(budget.store, account=ACCOUNT, changes=changes)
    limits._exchange = Exchange(ACCOUNT, find_store("store", budget.store), budget.terms)
    return limits


def _lock(part: Part, mouth: Mouth) -> None:
    """Stand still in the middle of a transaction."""
    connection = sqlite3.connect(part.journal.removeprefix("sqlite://"), timeout=60.0, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    mouth.say("standing", point="locking")
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(0)
