"""Code of the application's that raises what it should not: credentials, a transport, hooks, callbacks, a source."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from bms_async import Auth, HttpRequest
from tests.simulation.scenario import Foreign, Scenario


class ForeignFault(Exception):  # noqa: N818 - it is not an error of the SDK's
    """An ordinary error of the application's."""


_RAISED = {"cancelled": asyncio.CancelledError, "exit": SystemExit, "error": ForeignFault}


class Raiser:
    """Raises what a scenario has a piece of foreign code raise, when its turn comes.

    Attributes:
        raised: How often it did.
    """

    def __init__(self, foreign: Foreign | None) -> None:
        self._foreign = foreign
        self._calls = 0
        self.raised = 0

    def call(self) -> None:
        """Count one more call, and raise if it is one that goes wrong."""
        foreign = self._foreign
        if foreign is None:
            return
        self._calls += 1
        late = self._calls - foreign.nth
        if late == 0 or (late > 0 and foreign.every and late % foreign.every == 0):
            self.raised += 1
            raise _RAISED[foreign.raised]


def raisers(scenario: Scenario) -> dict[str, Raiser]:
    """Return a raiser for each piece of foreign code of a scenario's client."""
    found = {each.where: each for each in scenario.foreign}
    return {where: Raiser(found.get(where)) for where in ("credentials", "transport", "hook")}


class RaisingAuth:
    """Credentials that break now and then; they renew nothing."""

    def __init__(self, auth: Auth, raiser: Raiser) -> None:
        self._auth = auth
        self._raiser = raiser

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        self._raiser.call()
        return await self._auth.headers(request)

    def redact(self, text: str) -> str:
        return self._auth.redact(text)
