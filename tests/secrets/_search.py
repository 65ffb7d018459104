"""Looking at all that an application may see, show, log or send on, for secrets."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Final

import bms_async
from tests.secrets.canaries import secrets_in

_PACKAGE = str(Path(bms_async.__file__).parent)


class Eye:
    """Notes where a secret shows.

    Attributes:
        found: Each place once, with the secrets that show there.
        names: Who logged anything.
    """

    def __init__(self) -> None:
        self.found: dict[str, set[str]] = {}
        self._seen: set[str | bytes] = set()
        self.names: set[str] = set()

    def search(self, where: str, text: str | bytes) -> None:
        """Search a text."""
        if text in self._seen:
            return
        self._seen.add(text)
        if secrets := secrets_in(text):
            self.found.setdefault(where, set()).update(secrets)

    def look(self, where: str, thing: object) -> None:
        """Look at what any object shows of itself: its repr, str and format, and what rich prints of it."""
        self.search(f"{where}: repr", repr(thing))
        self.search(f"{where}: str", str(thing))
        if not isinstance(thing, type) and hasattr(thing, "__rich_repr__"):
            self.search(f"{where}: rich", repr(list(thing.__rich_repr__())))

    def look_at_error(self, where: str, error: BaseException) -> None:
        """Look at an error, at those that came before it, and at their tracebacks with the variables of our frames."""
        self.search(f"{where}: format_exception", _without_lines(error))
        for each in family(error):
            kind = f"{where}: {type(each).__name__}"
            self.look(kind, each)
            self.search(f"{kind}: format_exception", "".join(traceback.format_exception_only(each)))
            self._look_at_attributes(kind, {**vars(each), "args": each.args, "notes": getattr(each, "__notes__", ())})
            self._look_at_locals(kind, each)
            for name, made in (("copy", _copied(each)), ("pickle", _pickled(each))):
                if isinstance(made, bytes):
                    self.search(f"{kind}: {name}", made)
                elif made is not None:
                    self.look(f"{kind}: {name}", made)
                    self._look_at_attributes(f"{kind}: {name}", vars(made))

    def look_at_record(self, record: logging.LogRecord, message: str) -> None:
        """Look at a log record: its text, and all that a handler finds in it."""
        self.names.add(record.name.partition(".")[0])
        where = f"log {record.name} {record.msg!s:.60}"
        self.search(where, message)
        self.search(f"{where}: formatted", _FORMATTER.format(record))
        self.search(f"{where}: record", repr(record.__dict__))
        given = record.args.values() if isinstance(record.args, Mapping) else record.args or ()
        shown = [each for each in given if isinstance(each, BaseException)]
        if record.exc_info and record.exc_info[1] is not None:
            shown.append(record.exc_info[1])
        for error in shown:
            self.look_at_error(where, error)

    def _look_at_attributes(self, where: str, attributes: Mapping[str, object]) -> None:
        for name, value in attributes.items():
            for text in _texts(value):
                self.search(f"{where}.{name}", text)

    def _look_at_locals(self, where: str, error: BaseException) -> None:
        # As a traceback with `capture_locals` shows them, which Python 3.11 gives up at the first repr that fails.
        found: deque[tuple[str, object, int]] = deque()
        for frame, _ in traceback.walk_tb(error.__traceback__):
            code = frame.f_code
            if code.co_filename.startswith(_PACKAGE):
                place = f"in {code.co_name} of {Path(code.co_filename).stem}"
                found.extend((f"{where}: {name} {place}", value, 5) for name, value in frame.f_locals.items())
        self._walk(found)

    def _walk(self, found: deque[tuple[str, object, int]]) -> None:
        """Look at variables as error reporters do: into collections, and into the objects of the package."""
        # What is found first is looked into farthest, and most of what a frame has the others have too. It is kept
        # here, so that nothing else gets its id meanwhile.
        seen: dict[int, object] = {}
        while found:
            where, value, depth = found.popleft()
            kind: Any = type(value)
            # A secret is in the text itself wherever it is in its repr, and the text is known at once if it was seen.
            if kind is str or kind is bytes:
                self.search(where, value)  # type: ignore[arg-type]
            elif id(value) not in seen and not isinstance(value, type):
                seen[id(value)] = value
                self.search(where, repr(value))
                if depth:
                    parts = _way_into(kind)(value)
                    found.extend([(where, part, depth - 1) for part in parts if type(part) not in _WITHOUT_TEXT])


def family(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that can be reached from it: causes, contexts, members, earlier tries."""
    line, seen = [error], set[int]()
    while line:
        each = line.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        line += [other for other in (each.__cause__, each.__context__) if other is not None]
        line += getattr(each, "previous", ())
        line += each.exceptions if isinstance(each, BaseExceptionGroup) else ()


@contextmanager
def watching() -> Iterator[Eye]:
    """Yield an eye that sees, once the block is left, all that was logged and warned of in it, by whomever."""
    eye = Eye()
    kept: list[tuple[logging.LogRecord, str]] = []
    keep = _Keep(kept)
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    before = [(each, each.level, each.propagate, each.disabled) for each in (logging.root, *loggers)]
    for each in (logging.root, *loggers):
        each.level, each.propagate, each.disabled = logging.DEBUG, True, False
    _forget_levels()
    # Others would format each record too, which takes longer than all the rest.
    handlers, logging.root.handlers = logging.root.handlers, [keep]
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield eye
    finally:
        logging.root.handlers = handlers
        for each, level, propagate, disabled in before:
            each.level, each.propagate, each.disabled = level, propagate, disabled
        _forget_levels()
    for record, message in kept:
        eye.look_at_record(record, message)
    for warning in warned:
        eye.search("warning", str(warning))


class _Keep(logging.Handler):
    """Keeps records for later: to format a traceback reads files, for which the loop has no time."""

    def __init__(self, kept: list[tuple[logging.LogRecord, str]]) -> None:
        super().__init__(logging.DEBUG)
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append((record, f"{record.getMessage()} {record.args!r}"))


def _forget_levels() -> None:
    """Let every logger look anew at what it is to write; to do so at each level that is set takes a hundred times."""
    logging.root.setLevel(logging.root.level)


def _without_lines(error: BaseException) -> str:
    """Return a traceback as it is written, but for the lines of the source, which no secret of a run is in."""
    return "".join(traceback.format_exception(error, limit=0))


class _Formatter(logging.Formatter):
    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        return _without_lines(ei[1])


_FORMATTER = _Formatter()


def _copied(error: BaseException) -> BaseException | None:
    try:
        return copy.copy(error)
    except TypeError:
        return None


def _pickled(error: BaseException) -> bytes | None:
    try:
        return pickle.dumps(error)
    except (TypeError, AttributeError, pickle.PicklingError):
        return None


_WITHOUT_TEXT: Final = frozenset({int, float, bool, NoneType})


@cache
def _way_into(kind: type) -> Callable[[Any], Iterable[object]]:
    """Return what yields the parts of a collection, or the attributes of an object of the package."""
    if issubclass(kind, Mapping):
        return lambda value: value.values()
    if issubclass(kind, list | tuple | set | frozenset | deque):
        return iter
    if kind.__module__.partition(".")[0] != "bms_async":
        return lambda _: ()
    names = [
        f"_{each.__name__.lstrip('_')}{name}" if name.startswith("__") else name
        for each in kind.__mro__
        for slots in [getattr(each, "__slots__", ())]
        for name in ((slots,) if isinstance(slots, str) else slots)
    ]
    return lambda value: [*getattr(value, "__dict__", {}).values(), *(getattr(value, name, None) for name in names)]


def _texts(value: Any, depth: int = 6) -> Iterator[str | bytes]:
    # Of a text that does not show itself, all that is seen is its repr.
    if type(value) in (str, bytes, bytearray):
        yield value if isinstance(value, str) else bytes(value)
    elif depth and isinstance(value, Mapping):
        for key, each in value.items():
            yield from _texts(key, depth - 1)
            yield from _texts(each, depth - 1)
    elif depth and isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _texts(each, depth - 1)
    else:
        yield repr(value)
