"""What a command does to each of its servers: the base of the tasks that `carry_out` carries out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, TypedDict, TypeVar

from bms_async import BmsClient, FleetRun, InvalidRequestError, JobHandle, Rollout
from bms_async.cli.access.cloud import OpenClient
from bms_async.cli.access.known import KnownServers
from bms_async.cli.access.slowly import slowly
from bms_async.cli.selection.rollouts import ListedServers
from bms_async.cli.terminal.exit import UsageError, in_words_of_a_shell
from bms_async.models.ids import canonical_id

__all__ = ["CallOne", "CallTask", "RunArguments", "Task", "by_id", "check_argument"]

CallOne: TypeAlias = Callable[[str], Awaitable[object]]
"""A coroutine function of a server's id."""


class RunArguments(TypedDict, total=False):
    """What a task hands on to its run."""

    wave_size: int | None
    abort_above: float | None
    abort_sample: int
    rollout: Rollout | None
    on_job: Callable[[JobHandle], Awaitable[object] | object]


T = TypeVar("T")


async def by_id(wishes: Mapping[str, T], ids: Iterable[str], known: KnownServers) -> dict[str, T]:
    """Return what a file says of servers by their ids, where it may call them by their names.

    Args:
        wishes: What it says, by id or name.
        ids: The servers.
        known: What is known of them.

    Raises:
        UsageError: It has one of them by its id and its name.
    """
    found: dict[str, T] = {}
    async for server_id in slowly(map(canonical_id, ids)):
        name = known.get(server_id).name
        if server_id in wishes and name in wishes and name != server_id:
            raise UsageError(
                f"--from: {known.label(server_id)} is in it twice, by its id and by its name; leave out one"
            )
        found[server_id] = wishes[server_id if server_id in wishes else name]
    return found


class Task:
    """What is done to each server; this is the base of what the commands do.

    Attributes:
        verb: What it is called, in a word.
        operation: The call that does it.
        polls: The call that finds out how it ended.
        asks_always: Whether it is confirmed for one server, too.
        loses_data: Whether it is confirmed by the number of servers, also for one alone.
        native: Whether the native list of OpenStack chooses the servers.
        verify: Whether states are read back at the end.
        unchanged: How many servers turned out to be as asked already.
    """

    verb: str
    operation: str
    polls: str = "jobs.get"
    asks_always: bool = False
    loses_data: bool = False
    native: bool = False
    verify: bool = False
    unchanged: int = 0

    @property
    def phrase(self) -> str:
        """What is done, for people: the words before the servers."""
        return self.verb

    @property
    def how(self) -> str:
        """How it is done, for people: the words after the servers, if there are any."""
        return ""

    async def prepare(
        self,
        cloud: OpenClient,  # noqa: ARG002 - mostly the same for all
        servers: list[str] | ListedServers,
    ) -> list[str] | ListedServers:
        """Find out what has to be known before anything is asked for, and return the servers that are left.

        Args:
            cloud: The client.
            servers: The servers.

        Raises:
            UsageError: It cannot be done to these.
        """
        return servers

    def changes(self, ids: Sequence[str], known: KnownServers) -> Iterator[str]:  # noqa: ARG002 - mostly the same for all
        """Iterate over what is done to each, for people; over nothing where it is the same for all.

        Args:
            ids: All servers.
            known: What is known of them.
        """
        return iter(())

    def batch(self, wave: int | None) -> int:  # noqa: ARG002 - mostly one
        """Return how many servers one call takes at most.

        Args:
            wave: How many servers are under way at once; None for any number.
        """
        return 1

    def calls(self, ids: Sequence[str]) -> int:
        """Return how many calls there are for servers.

        Args:
            ids: All servers.
        """
        return len(ids)

    def begin(self, bms: BmsClient, servers: Sequence[str] | ListedServers, options: RunArguments) -> FleetRun:
        """Begin the run.

        Args:
            bms: The client.
            servers: The servers.
            options: Its options.
        """
        raise NotImplementedError

    async def find(self, cloud: OpenClient, *, whole: bool) -> list[str] | ListedServers:
        """Return the servers, where the task finds them by itself.

        Args:
            cloud: The client.
            whole: Whether all of their fields are needed.

        Raises:
            UsageError: There are none.
        """
        raise NotImplementedError


class CallTask(Task):
    """What is one call a server, or a few."""

    def make_call(self, bms: BmsClient) -> CallOne:
        """Return the function that makes the call.

        Args:
            bms: The client.
        """
        raise NotImplementedError

    def begin(self, bms: BmsClient, servers: Sequence[str] | ListedServers, options: RunArguments) -> FleetRun:
        """Begin the run."""
        return bms.fleet.each(servers, self.make_call(bms), action=self.operation, keep_results=False, **options)


def check_argument(check: Callable[[], object]) -> None:
    """Refuse what the reference does not allow before anything is sent.

    Args:
        check: Raises `InvalidRequestError` where it is not allowed.

    Raises:
        UsageError: It is not.
    """
    try:
        check()
    except InvalidRequestError as error:
        raise UsageError(in_words_of_a_shell(error)) from error
