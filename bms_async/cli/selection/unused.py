"""Words of filters that no server has, which may be slips.

What it guarantees: a status that is neither documented nor that of a server refuses the command, and so does a tag that
servers are to be left out by and that none has, before the first server is listed: more servers would be chosen than
are meant. Any other word that no server of the project has, whatever the other filters are, is said, with what may be
meant; it chooses no server, which is no failure. ``--allow-unknown`` lets all of them pass.

How: each server that the cloud lists is looked at for the words that were not found yet, so that words that servers
have cost no call. What is left is asked for alone, by the filters of the cloud as far as it has one.

Rejected: to refuse every such word, since a tag may mark what is to be stopped tonight, and be on no server on some
days; to refuse what is like another word and let the rest pass, which nobody can foresee; and to look in what the
completion of the shell has seen, which is old, and of one machine.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import Final, TypeAlias

import anyio
import anyio.to_thread

from bms_async import BmsError, ServerStatus
from bms_async.cli.access.slowly import closing, slowly
from bms_async.cli.terminal.exit import UsageError, print_error
from bms_async.cli.terminal.texts import strip_control_chars

from .filter_words import (
    ANY,
    FLAVOR,
    NAME,
    NOT,
    PROJECT,
    SAYING,
    STATUS,
    TAG,
    ZONE,
    Kind,
    Listed,
    WordsOf,
    find_meant,
    tags_of,
)
from .filters import ALL_PROJECTS, Filters, Query

__all__ = ["Unfound", "refuse_unknown_exclusions"]

_MAX_LISTS: Final = 8
"""Words that a list each is read for; for more the whole list is read once."""

_MOST_SHOWN: Final = 5
_MOST_READ: Final = 20_000
"""Servers that are read for what may be meant."""

_MOST_SEEN: Final = 2000
"""Words of one kind among which a like one is looked for."""

_PATIENCE: Final = 3.0
"""Seconds for which a refusal waits for what may be meant."""

_ReadList: TypeAlias = Callable[[Query], AsyncIterable[Sequence[Listed]]]
_Left: TypeAlias = dict[Kind, dict[str, None]]
"""Words that no server has yet."""


class Unfound:
    """The words of filters that no server that was listed has yet.

    Args:
        filters: The filters.

    Attributes:
        has_seen_all: Whether all servers were listed, so that what is left need not be asked for.
    """

    def __init__(self, filters: Filters) -> None:
        self.has_seen_all = False
        project = filters.enterprise_project
        typed: Mapping[Kind, Iterable[str]] = {
            PROJECT: () if project is None or project == ALL_PROJECTS else (project,),
            TAG: filters.tags,
            ANY: filters.any_tags,
            ZONE: filters.zones,
            NAME: filters.names,
            STATUS: [status for status in filters.statuses if status not in ServerStatus.__members__],
            FLAVOR: filters.flavors,
        }
        words = {kind: dict.fromkeys(texts) for kind, texts in typed.items()}
        self._filters = filters
        self._left = {} if filters.allow_unknown else {kind: texts for kind, texts in words.items() if texts}

    def look_at(self, server: Listed, query: Query) -> None:
        """Note what a server has of them.

        Args:
            server: A server that was listed.
            query: What the cloud was asked for.
        """
        if self._left:
            _take_out(self._left, server, query)

    async def settle(self, read_list: _ReadList) -> None:
        """Ask for the words that are left; refuse a status that no server has, and say the others.

        Args:
            read_list: Reads a list.

        Raises:
            UsageError: There is such a status.
            BmsError: The cloud could not be asked for it.
        """
        reading = _Reading(read_list, self._filters)
        if statuses := self._left.pop(STATUS, None):
            left: _Left = {STATUS: statuses}
            if not self.has_seen_all:
                await reading.find(left)
            if left:
                await _refuse(left, reading)
        # They choose no server, so that nothing hangs on them.
        with suppress(BmsError), anyio.move_on_after(_PATIENCE):
            if not self.has_seen_all:
                await reading.find(self._left)
            if self._left:
                _print(await _describe(self._left, reading))


async def refuse_unknown_exclusions(read_list: _ReadList, filters: Filters) -> None:
    """Refuse tags that servers are left out by, and that none has: more servers would be chosen than are meant.

    Args:
        read_list: Reads a list.
        filters: The filters.

    Raises:
        UsageError: There is such a tag, or the cloud lists no tags, so that nothing says which servers have them.
        BmsError: The cloud could not be asked.
    """
    left, reading = {NOT: dict.fromkeys(filters.not_tags)}, _Reading(read_list, filters)
    await reading.find(left)
    if reading.has_come and not reading.seen[tags_of]:
        tags = strip_control_chars(" or ".join(filters.not_tags))
        raise UsageError(
            f"--not-tag: the cloud lists no tag of any of these servers, so nothing says which have {tags}; leave the"
            " option out, and leave servers out by --except"
        )
    if left and not filters.allow_unknown:
        await _refuse(left, reading)


class _Reading:
    """Reads servers for the words that they have.

    Args:
        read_list: Reads a list.
        filters: The filters, of which the enterprise project counts for all that is read.

    Attributes:
        seen: What servers have, as far as they were read.
        has_come: Whether a server has come.
        has_read_all: Whether servers were read whatever they have, to the end or as far as was wanted.
    """

    def __init__(self, read_list: _ReadList, filters: Filters) -> None:
        self._read_list = read_list
        self._project = filters.enterprise_project
        self.seen: dict[WordsOf, set[str]] = {each: set() for each in SAYING}
        self.has_come = self.has_read_all = False

    @property
    def where(self) -> str:
        """Where servers are looked for, for people: behind what says that none is there."""
        if self._project is None or self._project == ALL_PROJECTS:
            return "at all; `bms login` shows which cloud and project this is"
        return f"in the enterprise project {self._project}"

    async def find(self, left: _Left) -> None:
        """Take out of words those that a server has."""
        are_few = sum(len(words) for kind, words in left.items() if kind.field) <= _MAX_LISTS
        others: _Left = {}
        for kind in list(left):
            words = left.pop(kind)
            if kind not in {NAME, PROJECT} and not (kind.field and are_few):
                others[kind] = words
                continue
            for word in list(words):
                wanted: _Left = {kind: {word: None}}
                await self.read(wanted, kind.field, word)
                if not wanted:
                    del words[word]
            if words:
                left[kind] = words
        if others:
            await self.read(others)
            left.update(others)

    async def read(self, left: _Left, field: str = "", word: str = "", most: float = inf) -> None:
        """Read servers until all words are taken out.

        Args:
            left: The words.
            field: What the list is filtered by.
            word: The value of that filter.
            most: How many servers are read.
        """
        query: Query = {
            "tags": word if field == "tags" else None,
            "name": word if field == "name" else None,
            "status": word if field == "status" else None,
            "flavor": None,
            "enterprise_project_id": self._project,
        }
        count = 0
        async with closing(self._read_list(query)) as pages:
            async for some in pages:
                async for server in slowly(some):
                    self._note(server, query)
                    _take_out(left, server, query)
                count += len(some)
                if not left or count >= most:
                    break
        # Not before: a list that fails or takes too long shows nothing of what is not there.
        self.has_read_all |= not field

    def _note(self, server: Listed, query: Query) -> None:
        self.has_come = True
        for words_of, seen in self.seen.items():
            if len(seen) < _MOST_SEEN:
                seen.update(word for word in words_of(server, query) if word)


def _take_out(left: _Left, server: Listed, query: Query) -> None:
    for kind in list(left):
        words = left[kind]
        for word in kind.words(server, query):
            if word is not None:
                words.pop(word, None)
        if not words:
            del left[kind]


async def _refuse(left: _Left, reading: _Reading) -> None:
    lines = await _describe(left, reading)
    if reading.has_read_all and not reading.has_come:
        # Where there is no server, none is chosen that should not be.
        _print(lines)
        return
    if len(lines) == 1:
        raise UsageError(f"{lines[0]} (--allow-unknown accepts it)")
    raise UsageError("\n".join([*lines, "--allow-unknown accepts them"]))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print_error(line)


async def _describe(left: _Left, reading: _Reading) -> list[str]:
    if PROJECT in left:
        # Nothing is in it, so that nothing has the other words there.
        left = {PROJECT: left[PROJECT]}
    elif not reading.has_read_all:
        with suppress(BmsError), anyio.move_on_after(_PATIENCE):
            await reading.read({kind: dict(words) for kind, words in left.items()}, most=_MOST_READ)
    unknown = [(kind, word) for kind, words in left.items() for word in words]
    if reading.has_read_all and not reading.has_come:
        kind, word = unknown[0]
        where = "" if kind is PROJECT else f", and there is no server {reading.where}"
        return [strip_control_chars(f"{kind.option} {word}: {kind.lacks}{where}")]
    lines: list[str] = []
    for kind, word in unknown[:_MOST_SHOWN]:
        # In a thread: there may be thousands.
        meant = await anyio.to_thread.run_sync(find_meant, kind, word, reading.seen.get(kind.words, ()))
        advice = f"; did you mean {meant}?" if meant else ""
        if kind is STATUS and not meant:
            advice = f"; the documented ones are {', '.join(ServerStatus.__members__)}"
        lines.append(strip_control_chars(f"{kind.option} {word}: {kind.lacks}{advice}"))
    if len(unknown) > _MOST_SHOWN:
        lines.append(f"and {len(unknown) - _MOST_SHOWN:,} more")
    return lines
