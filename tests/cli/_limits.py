"""What other programs do with the limits that the command shares with them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from bms_async.limits import DOCUMENTED_LIMITS
from bms_async.limits.shared.messages import Question, Terms
from bms_async.limits.shared.sqlite import SqliteStore
from tests.cli._helpers import Bms


def account_of(bms: Bms) -> str:
    return (
        bms.exports.get("BMS_LIMITS_ACCOUNT")
        or f"{urlsplit(bms.exports['BMS_ENDPOINT']).netloc}/{bms.exports['OS_PROJECT_ID']}"
    )


def file_of(bms: Bms) -> Path:
    """The file that all programs of this user share."""
    return bms.state / "bms" / "limits.db"


def use_elsewhere(bms: Bms, operation: str, count: int, *, leaving: bool = True) -> None:
    """Be a program that shares the limits of this machine, makes so many calls, and ends, or makes them yet."""
    limit = DOCUMENTED_LIMITS[operation]
    ask = Question(holder="another", seq=1, terms=Terms(), limit=limit, interactive=count)
    end = Question(holder="another", seq=2, terms=Terms(), limit=limit, ended=((0.0, count),), leaving=True)

    async def main() -> None:
        store = SqliteStore(file_of(bms), trust_new=True)
        await store.open()
        [answer] = await store.ask(account_of(bms), [(operation, ask)])
        assert answer.granted == count
        if leaving:
            await store.ask(account_of(bms), [(operation, end)])
        await store.aclose()

    asyncio.run(main())
