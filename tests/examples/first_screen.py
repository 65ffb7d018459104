"""What the first screen of an example says to type, and which of its lines ran."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any, NamedTuple

from tests.examples.processes import ROOT

EXAMPLES = ROOT / "examples"


class Request(NamedTuple):
    """What a command with curl sends."""

    method: str
    path: str
    headers: dict[str, str]
    body: str | None


def commands(example: ModuleType, program: str) -> list[list[str]]:
    """Return the words of the commands of a program, such as uvicorn, in the order in which they are shown."""
    lines = [shlex.split(line, comments=True) for line in (example.__doc__ or "").splitlines() if line[:4] == "    "]
    return [words[1:] for words in lines if words and words[0] == program]


def server_of(example: ModuleType) -> list[str]:
    """Return the words after ``python`` that serve the example, on a free port."""
    (words,) = commands(example, "uvicorn")
    words[words.index("--port") + 1] = "0"
    words[words.index("--app-dir") + 1] = str(EXAMPLES)
    return ["-m", "uvicorn", *words]


def requests(example: ModuleType) -> list[Request]:
    """Return what the commands with curl send."""
    return [_request(words) for words in commands(example, "curl")]


def _request(words: list[str]) -> Request:
    method, path, headers, body = "", "", {}, None
    rest = iter(words)
    for word in rest:
        match word:
            case "-X":
                method = next(rest)
            case "-H":
                name, _, value = next(rest).partition(": ")
                headers[name] = value
            case "-d" | "--json":
                body = next(rest)
                json.loads(body)
                if word == "--json":
                    headers["Content-Type"] = "application/json"
            case "-N":
                continue
            case _:
                path = word.removeprefix("http://127.0.0.1:8900")
    return Request(method or ("GET" if body is None else "POST"), path, headers, body)


class Lines:
    """Which lines of a file ran, in this thread and those that it started."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self.all = set(_lines(compile(path.read_text(encoding="utf-8"), self._path, "exec", dont_inherit=True)))
        self.ran: set[int] = set()

    @property
    def never_ran(self) -> list[int]:
        return sorted(self.all - self.ran)

    def trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code.co_filename != self._path:
            return None
        self.ran.add(frame.f_lineno)
        return self.trace


def _lines(code: CodeType) -> Iterator[int]:
    yield from (line for _, _, line in code.co_lines() if line)
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _lines(each)


@contextmanager
def traced(name: str) -> Iterator[tuple[ModuleType, Lines]]:
    """Import an example anew, and note which of its lines run from its first one on."""
    path = EXAMPLES / f"{name}.py"
    lines = Lines(path)
    spec = importlib.util.spec_from_file_location(f"traced_{name}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    before = sys.gettrace()
    # msgspec and pydantic look up the annotations of a class by its module's name.
    sys.modules[module.__name__] = module
    threading.settrace(lines.trace)
    sys.settrace(lines.trace)
    try:
        spec.loader.exec_module(module)
        yield module, lines
    finally:
        sys.settrace(before)
        threading.settrace(None)
        del sys.modules[module.__name__]
