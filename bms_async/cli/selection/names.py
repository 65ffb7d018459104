"""Finds servers by name, and makes sure of ids that are no UUIDs, before anything is sent for any of them.

All words of a command are resolved or none is: a command for half of the servers is worse than none. A UUID is an id,
and is not looked up. Anything else is a name if a server has it, and else an id if the cloud has that, for there are
clouds with other ids. A word that is neither, or that is the name of several servers, refuses the command.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

import anyio

from bms_async import BmsError, DecodeError, InvalidRequestError, NotFoundError, PermissionDeniedError, Server
from bms_async.api.bms.server_ids import ShortServer
from bms_async.cli.access.learning import list_briefly
from bms_async.cli.access.slowly import closing, slowly
from bms_async.cli.terminal.exit import UsageError, print_error
from bms_async.cli.terminal.texts import strip_control_chars
from bms_async.models.ids import canonical_id
from bms_async.validation.common import is_id

from .ids import Given, is_uuid
from .words import Word, shown

if TYPE_CHECKING:
    from bms_async.cli.access.cloud import OpenClient

__all__ = ["look_up_excluded", "resolve"]

_FEW: Final = 5
"""Names that are looked up one by one; for more the list is read once."""

_SEARCHABLE: Final = re.compile(r"[\w-][\w.-]*")
"""Names that mean themselves where the cloud takes a name for a regular expression."""

_AT_ONCE: Final = 8
_MOST_SHOWN: Final = 10


class _Found:
    """What the list says of some words.

    Args:
        wanted: The words.

    Attributes:
        by_name: The ids of the servers that have them for a name.
        ids: Those that are ids.
        why_not: Why nothing is known of names; empty if all is.
    """

    def __init__(self, wanted: Collection[str]) -> None:
        self._wanted = wanted
        # A name is that of one server, mostly: the garbage collector would look through hundreds of thousands of sets.
        self.by_name: dict[str, tuple[str] | dict[str, None]] = {}
        self.ids: set[str] = set()
        self.why_not = ""

    def look_at(self, server: Server | ShortServer, cloud: OpenClient) -> None:
        """Note a server if one of the words means it."""
        name, is_wanted = server.name, server.id in self._wanted
        if name is not None and name in self._wanted:
            is_wanted = True
            others = self.by_name.setdefault(name, (server.id,))
            if isinstance(others, tuple) and server.id not in others:
                others = self.by_name[name] = dict.fromkeys(others)
            if isinstance(others, dict):
                others[server.id] = None
        if server.id in self._wanted:
            self.ids.add(server.id)
        if is_wanted:
            cloud.known.add(server)


async def resolve(cloud: OpenClient, given: Given, *, native: bool = False, is_lenient: bool = False) -> list[str]:
    """Return the ids of servers that were given by ids and names, each once and in order.

    Args:
        cloud: The client; what is read of the servers is noted in it.
        given: The servers.
        native: Whether they are read by the native calls of OpenStack.
        is_lenient: Whether a word that is neither an id nor a name is returned as it is, and a name that several
            servers have stands for all of them.

    Raises:
        UsageError: A word is neither an id nor a name, or it is the name of several servers.
        BmsError: The cloud could not be asked.
    """
    if not given.unsure:
        return [word.text async for word in slowly(given.words)]
    found = await _look_up(cloud, given.unsure, native=native)
    if found.why_not:
        print_error(found.why_not)
    if not is_lenient:
        await _refuse_several(cloud, found, given.unsure)
        await _make_sure(cloud, await _unknown_of(found, given.unsure), native=native)
    ids: dict[str, str] = {}
    async for word in slowly(given.words):
        for server_id in (word.text,) if word.text in found.ids else found.by_name.get(word.text, (word.text,)):
            ids.setdefault(canonical_id(server_id), server_id)
    return list(ids.values())


async def look_up_excluded(cloud: OpenClient, words: Sequence[Word], *, native: bool = False) -> None:
    """Note the servers that are to be left out by their names in ``cloud.known``.

    Args:
        cloud: The client.
        words: The names, which may be ids of another kind than UUIDs.
        native: Whether servers are read by the native calls of OpenStack.

    Raises:
        UsageError: Nobody knows which servers are meant, so that they would not be left out.
        BmsError: The cloud could not be asked.
    """
    found = await _look_up(cloud, words, native=native)
    if found.why_not:
        raise UsageError(f"--except: {found.why_not}")
    await _make_sure(cloud, await _unknown_of(found, words), native=native)


async def _unknown_of(found: _Found, words: Sequence[Word]) -> list[Word]:
    return [word async for word in slowly(words) if word.text not in found.by_name and word.text not in found.ids]


async def _look_up(cloud: OpenClient, words: Sequence[Word], *, native: bool) -> _Found:
    texts = {word.text: None async for word in slowly(words)}
    found = _Found(texts)
    few = len(texts) <= _FEW and all(map(_SEARCHABLE.fullmatch, texts))
    try:
        for name in texts if few else (None,):
            async with closing(list_briefly(cloud, name=name, native=native)) as pages:
                async for servers in pages:
                    for server in servers:
                        found.look_at(server, cloud)
        if few:
            await _look_for_ids(cloud, found, words, native=native)
    except PermissionDeniedError:
        found.why_not = "these credentials may not list servers, so names cannot be looked up: ids are needed"
    except (DecodeError, NotFoundError) as error:
        found.why_not = f"names cannot be looked up, ids are needed: {strip_control_chars(str(error))}"
    if found.why_not:
        # Whatever else has a name may be in the part of the list that did not come.
        found.by_name.clear()
    return found


async def _look_for_ids(cloud: OpenClient, found: _Found, words: Sequence[Word], *, native: bool) -> None:
    """Find out which names are ids as well, as the lists of some names do not say; there are clouds where they may."""
    for word in words:
        matches = found.by_name.get(word.text, ())
        if word.text in found.ids or not is_id(word.text) or all(map(is_uuid, matches)):
            continue
        try:
            cloud.known.add(await (cloud.bms.nova.servers if native else cloud.bms.servers).get(word.text))
        except (NotFoundError, InvalidRequestError, PermissionDeniedError):
            continue
        found.ids.add(word.text)


async def _refuse_several(cloud: OpenClient, found: _Found, words: Sequence[Word]) -> None:
    several = {
        name async for name, matches in slowly(found.by_name.items()) if len(matches) > 1 and name not in found.ids
    }
    async for word in slowly(words if several else ()):
        matches = found.by_name.get(word.text, ())
        if word.text in several:
            some = [(server_id, cloud.known.get(server_id)) for server_id in islice(matches, _MOST_SHOWN)]
            lines = [
                strip_control_chars("   ".join((server_id, each.name, each.zone or "-", each.status or "-")))
                for server_id, each in some
            ]
            if len(matches) > _MOST_SHOWN:
                lines.append(f"and {len(matches) - _MOST_SHOWN:,} more")
            head = f"{_position(word)}{len(matches):,} servers have the name {strip_control_chars(word.text)}"
            raise UsageError("\n".join([f"{head}; give the id of the one that is meant:", *lines]))


async def _refuse_unfit(cloud: OpenClient, words: Sequence[Word]) -> None:
    async for word in slowly(words):
        if not is_id(word.text):
            raise UsageError(
                f"{_position(word)}there is no server named {shown(word.text)} in {cloud.place.brief}, and it is no id:"
                " server ids have letters, digits and -_.:; copy ids from `bms servers list`"
            )


async def _make_sure(cloud: OpenClient, words: Sequence[Word], *, native: bool) -> None:
    """Read servers by what may be their ids; refuse the words that are none."""
    await _refuse_unfit(cloud, words)
    waiting, missing, errors = iter(enumerate(words)), list[tuple[int, Word]](), list[BmsError]()
    denied: list[Word] = []
    calls = cloud.bms.nova.servers if native else cloud.bms.servers

    async def read() -> None:
        for index, word in waiting:
            try:
                cloud.known.add(await calls.get(word.text))
            except NotFoundError:
                missing.append((index, word))
            except InvalidRequestError:
                # Whether there is such a server cannot be found out.
                continue
            except PermissionDeniedError:
                denied.append(word)
            except BmsError as error:
                errors.append(error)
            if errors or len(missing) > _MOST_SHOWN or len(denied) > _MOST_SHOWN:
                # Some are enough to refuse all, or to know that none may be read.
                readers.cancel_scope.cancel()
                return

    async with anyio.create_task_group() as readers:
        for _ in range(min(_AT_ONCE, len(words))):
            readers.start_soon(read)
    if errors:
        raise errors[0]
    if missing:
        _refuse_missing([word for _, word in sorted(missing)], cloud)


def _refuse_missing(missing: Sequence[Word], cloud: OpenClient) -> None:
    word = missing[0]
    text = f"{_position(word)}there is no server with the name or the id {strip_control_chars(word.text)}"
    others = [strip_control_chars(other.text) for other in missing[1:_MOST_SHOWN]]
    if others:
        more = ", ..." if len(missing) > _MOST_SHOWN else ""
        text += f" in {cloud.place.brief}, and the same is true of {', '.join(others)}{more}"
        raise UsageError(f"{text}; `bms servers list` shows all")
    raise UsageError(f"{text} in {cloud.place.brief}; `bms servers list` shows all")


def _position(word: Word) -> str:
    return f"{word.where}: " if word.where else ""
