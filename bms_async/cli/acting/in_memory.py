"""Carries out a task as a run that is in this process alone: begun, followed and reported."""

from __future__ import annotations

from bms_async import JobHandle
from bms_async.cli.access.cloud import OpenClient
from bms_async.cli.following.bounds import Bounds
from bms_async.cli.following.follow import Follower
from bms_async.cli.following.followed import MemoryRun
from bms_async.cli.following.plan import note_usage
from bms_async.cli.following.terms import describe_terms
from bms_async.cli.report_page.live import LivePage
from bms_async.cli.selection.rollouts import ListedServers
from bms_async.cli.terminal.progress import Screen
from bms_async.cli.terminal.signals import SignalHandler

from .common import CommonOptions
from .task import RunArguments, Task

__all__ = ["run_in_memory"]


async def run_in_memory(
    task: Task,
    servers: list[str] | ListedServers,
    bounds: Bounds,
    options: CommonOptions,
    cloud: OpenClient,
    *,
    stop: SignalHandler,
    screen: Screen,
    live: LivePage | None,
) -> int:
    """Do something to servers, show it to its end, and return the exit code.

    Args:
        task: What is done to each.
        servers: The servers.
        bounds: How many of them are under way at once.
        options: The options of the command.
        cloud: The client.
        stop: What ends it early.
        screen: Where the progress is shown.
        live: The page that is served while it goes on.
    """
    jobs: list[str] = []

    def on_job(job: JobHandle) -> None:
        jobs.append(job.id)

    await note_usage(task.verb, cloud, operation=task.operation)
    wanted: RunArguments = {"wave_size": options.wave, "abort_above": options.abort_above, "on_job": on_job}
    if options.abort_sample is not None:
        wanted["abort_sample"] = options.abort_sample
    wanted["rollout"] = options.rollout
    run = task.begin(cloud.bms, servers, wanted)
    follower = Follower(
        task.verb,
        MemoryRun(run, jobs, verb=task.verb, operation=task.operation),
        cloud,
        screen,
        output=options.output,
        wave=bounds.size,
        batch=task.batch(bounds.size),
        servers=bounds.servers,
        operation=task.operation,
        polls=task.polls,
        terms=describe_terms(
            wave=bounds.size, abort_above=options.abort_above, verify=task.verify, rollout=options.rollout
        ),
        live=live,
    )
    return await follower.see_through(stop, quiet=options.quiet, report=options.report, failed_to=options.failed_to)
