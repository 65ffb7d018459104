"""Wishes that batch themselves: ``bms.power``, for whoever has one server in hand.

What it guarantees: each wish is answered by its server's one outcome, and what is wished by any number of tasks at once
takes as few calls as one run for all of these servers. Wishes for one server are carried out one after the other, in
the order in which they came. No waiter has an effect on another one.

How: wishes for one action gather for `wish_window` seconds, and for as long as the next slot of its limit is waited
for; then they go as one batch of a fleet run (`wish_queue`). A wish for what the server is on its way to joins that
one.

Rejected: the newest wish takes the place of an older one that was not sent. The caller of the older one would have to
be answered, and nothing was done that an outcome could say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from bms_async.api.bms.power import REBOOT, START, STOP
from bms_async.errors import ClientClosedError, InvalidRequestError
from bms_async.fleet.fed import begin_fed
from bms_async.fleet.outcome import Outcome, OutcomeState, make_outcome
from bms_async.fleet.tracker import SERVER_TYPES
from bms_async.limits import Lane
from bms_async.session.probe import current_probe
from bms_async.validation.common import read_id

from .wish import Wish, Wishes
from .wish_options import PowerStatistics
from .wish_queue import Waiter, WishQueue

if TYPE_CHECKING:
    from bms_async.fleet.source import ServerRef
    from bms_async.jobs import Watcher
    from bms_async.limits import Limiter
    from bms_async.session import Session

_ANSWERED_AT_ONCE = 2000

_SEVERAL = (list, tuple, set, frozenset, dict)


class PowerWishes:
    """Power actions on single servers, which are sent together: ``bms.power``.

    ::

        outcome = await bms.power.stop(server_id)  # in each of a thousand tasks: one call

    Wishes for the same action go with one call: those that came within `wish_window` seconds (an argument of
    `BmsClient`; up to 5 once half of the limit is used), and all that came while the limit had the call wait, up to
    1000. A wish for the action that the server waits for or is under way to joins it; one for another action waits for
    the end of that. A waiter that is cancelled only leaves; a wish that all waiters have left is not sent, if it was
    not yet.
    """

    def __init__(self, session: Session, watcher: Watcher, *, window: float, check: bool) -> None:
        self._session = session
        self._check = check
        self._wishes: Wishes[Waiter] = Wishes()
        self._asked = self._joined = 0
        begin = partial(begin_fed, session, watcher, lane=Lane.INTERACTIVE, check=check)
        self._queues = {
            operation.name: WishQueue(
                operation.name,
                self._wishes,
                window=window,
                limiter=partial(self._limiter, operation.name),
                begin=begin,
                on_outcome=self._on_outcome,
            )
            for operation in (START, STOP, REBOOT)
        }

    async def start(self, server: ServerRef) -> Outcome:
        """Start a server, together with the others that are wished to start.

        Args:
            server: Its id, or the server itself.

        Returns:
            Its outcome, also where that is FAILED or UNKNOWN; SKIPPED where the client was closed before it was sent.

        Raises:
            InvalidRequestError: The id is invalid.
            ClientClosedError: The client is not open.

        Source: API reference 4.4.3; 50 calls a minute, 1000 servers a call.
        """
        return await self._wish(START.name, server)

    async def stop(self, server: ServerRef) -> Outcome:
        """Stop a server by cutting its power, together with the others that are wished to stop.

        Args:
            server: Its id, or the server itself.

        Returns:
            Its outcome, also where that is FAILED or UNKNOWN; SKIPPED where the client was closed before it was sent.

        Raises:
            InvalidRequestError: The id is invalid.
            ClientClosedError: The client is not open.

        Source: API reference 4.4.5; 50 calls a minute, 1000 servers a call.
        """
        return await self._wish(STOP.name, server)

    async def reboot(self, server: ServerRef) -> Outcome:
        """Restart a server, together with the others that are wished to restart.

        One reboot answers all that are wished for until it has ended.

        Args:
            server: Its id, or the server itself.

        Returns:
            Its outcome, also where that is FAILED or UNKNOWN; SKIPPED where the client was closed before it was sent.

        Raises:
            InvalidRequestError: The id is invalid.
            ClientClosedError: The client is not open.

        Source: API reference 4.4.4; 50 calls a minute, 1000 servers a call.
        """
        return await self._wish(REBOOT.name, server)

    def statistics(self) -> PowerStatistics:
        """Return the counters."""
        waiting = sum(len(queue.waiting) for queue in self._queues.values())
        return PowerStatistics(
            wishes=self._asked,
            joined=self._joined,
            waiting=waiting,
            under_way=len(self._wishes) - waiting,
            calls=sum(queue.calls for queue in self._queues.values()),
        )

    def __repr__(self) -> str:
        shown = self.statistics()
        return f"<PowerWishes {shown.waiting} waiting, {shown.under_way} under way>"

    def _limiter(self, action: str) -> Limiter:
        # A client that is opened may be given the limits that others share.
        return self._session.limits[action]

    async def _wish(self, action: str, server: ServerRef) -> Outcome:
        self._session.check_open()
        if issubclass(type(server), _SEVERAL):
            verb = action.removeprefix("servers.")
            raise InvalidRequestError("server", server, f"expected one server; for several: bms.fleet.{verb}(ids)")
        server_id = read_id("server", server.id if isinstance(server, SERVER_TYPES) else server, check=self._check)
        probe = current_probe.get()
        if probe is not None:
            # A run sends it, which no probe sees.
            probe.on_begin()
        loop = asyncio.get_running_loop()
        waiter: Waiter = loop.create_future()
        self._asked += 1
        wish, is_new, is_turn = self._wishes.add(server_id, action, waiter)
        self._joined += not is_new
        if is_turn:
            try:
                self._queues[action].add(wish, loop.time())
            except BaseException:
                self._wishes.pop(server_id)
                raise
        try:
            return await waiter
        except asyncio.CancelledError:
            self._leave(server_id, waiter)
            raise

    def _leave(self, server_id: str, waiter: Waiter) -> None:
        wish = self._wishes.leave(server_id, waiter)
        if wish is None:
            return
        queue = self._queues[wish.action]
        if queue.waiting.pop(server_id, None) is not None:
            self._on_outcome(make_outcome(server_id, OutcomeState.SKIPPED))
        else:
            queue.abandoned += 1

    def _on_outcome(self, outcome: Outcome) -> None:
        """Answer the wish whose turn it was, and have the next one for its server sent."""
        following = self._answer(outcome)
        while following is not None:
            try:
                self._queues[following.action].add(following, asyncio.get_running_loop().time())
            except ClientClosedError as closed:
                following = self._answer(make_outcome(following.server_id, OutcomeState.SKIPPED, error=closed))
            else:
                break

    def _answer(self, outcome: Outcome) -> Wish[Waiter] | None:
        wish, following = self._wishes.pop(outcome.server_id)
        if wish is not None:
            _answer_all(iter(wish.waiters), outcome)
        return following


def _answer_all(waiters: Iterator[Waiter], outcome: Outcome) -> None:
    """Answer waiters, however many have joined, without holding the event loop."""
    for number, waiter in enumerate(waiters, 1):
        if not waiter.done():
            waiter.set_result(outcome)
        if number == _ANSWERED_AT_ONCE:
            asyncio.get_running_loop().call_soon(_answer_all, waiters, outcome)
            break
