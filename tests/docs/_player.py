"""Plays a page as its reader would: a simulated cloud in one terminal, the page's programs and commands in another."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.docs.blocks import ROOT, Block, Kind, find_differences
from tests.support.machine import patience

BIN = Path(sys.executable).parent
SIMULATOR = ["python", "-m", "bms_async.simulator"]
DEFAULT = [*SIMULATOR, "--servers", "60", "--seed", "4", "--virtual-machines", "3", "--job-seconds", "0.2", "0.8"]
PRINTED = "http://127.0.0.1:8800"
"""What the pages call the address of their cloud."""

# A block of `bms` is one script, whose lines may hand things on; one that begins a cloud, or tells where it is, is not.
_USES_BMS = re.compile(r"(?:^|[|(]\s*)bms\b", re.MULTILINE)
_OTHER_TERMINAL = re.compile(r"^(?:export|unset|pip|make|bms simulator|python -m bms_async\.simulator)\b", re.MULTILINE)

PYTEST = """\
[pytest]
filterwarnings = error
asyncio_default_fixture_loop_scope = function
"""
"""The settings of who has none of his own."""

_LONGEST = patience(90.0)


class Played(NamedTuple):
    """What became of a page: what each block that was run printed, and what is wrong."""

    printed: Mapping[str, str]
    problems: Sequence[str]


def play(blocks: Sequence[Block], folder: Path) -> Played:
    """Run the programs, the parts, the files and the commands of a page; its snippets are run elsewhere.

    Args:
        blocks: Those of one page.
        folder: An empty one, to run them in.
    """
    page = _Page(blocks, folder)
    with page.stack:
        page.play()
    return Played(page.printed, page.problems)


class _Page:
    def __init__(self, blocks: Sequence[Block], folder: Path) -> None:
        self.blocks = blocks
        self.folder = folder
        self.stack = ExitStack()
        self.printed: dict[str, str] = {}
        self.problems: list[str] = []
        self.clouds: dict[str, dict[str, str]] = {}
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("BMS_", "OS_", "HUAWEI"))}
        path = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
        self.environment = ours | {
            "COLUMNS": "100",
            # What is kept for the next time is kept where the page is played.
            "HOME": str(folder),
            "NO_PROXY": "127.0.0.1",
            "PATH": path,
            # What a page calls by the package's name is the checkout's, wherever the page is played.
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(folder / "state"),
        }

    def play(self) -> None:
        for number, block in enumerate(self.blocks):
            if block.kind is Kind.COMMANDS:
                self._run_commands(block)
            elif block.kind is Kind.FILE and block.file:
                (self.folder / block.file).write_text(self._addressed(block.text), encoding="utf-8")
            elif block.kind is Kind.PROGRAM:
                program = f"exec(compile({self._addressed(block.placed)!r}, {block.page!r}, 'exec'))"
                self._run(block, [sys.executable, "-W", "error", "-c", program])
            elif block.kind is Kind.PART and not any(each.kind is Kind.PART for each in self.blocks[:number]):
                self._run_parts([each for each in self.blocks if each.kind is Kind.PART])
        if any(block.file and block.file.startswith("test_") for block in self.blocks):
            self._run_tests()
        self.problems += find_differences(self.blocks, self.printed)

    def _run_parts(self, parts: Sequence[Block]) -> None:
        """Run them in one process, which prints a line between them."""
        mark = "=" * 40
        told = [f"exec(compile({part.placed!r}, {part.page!r}, 'exec'), space)\nprint({mark!r})\n" for part in parts]
        program = "space = {'__name__': '__main__'}\n" + "".join(told)
        cloud = self._reach()
        # Not for programs of ours: from_env() would have to choose between them and the token.
        keys = {"HUAWEICLOUD_SDK_AK": cloud["access_key"], "HUAWEICLOUD_SDK_SK": cloud["secret_key"]}
        printed = self._run(parts[0], [sys.executable, "-c", program], keys)
        for part, text in zip(parts, printed.split(f"{mark}\n"), strict=False):
            self.printed[part.place] = text

    def _run_tests(self) -> None:
        tests = next(block for block in self.blocks if block.file and block.file.startswith("test_"))
        if not any((self.folder / name).exists() for name in ("pytest.ini", "pyproject.toml")):
            (self.folder / "pytest.ini").write_text(PYTEST, encoding="utf-8")
        self._run(tests, [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "."])

    def _run(self, block: Block, command: Sequence[str], besides: Mapping[str, str] | None = None) -> str:
        self._reach()
        ended = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | dict(besides or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LONGEST,
            check=False,
        )
        self.printed[block.place] = self.printed.get(block.place, "") + ended.stdout
        # What a command says of its failure is for people, and what a program complains of is a fault.
        silent = block.kind is Kind.COMMANDS or ended.stderr == ""
        if ended.returncode != block.exit_code or not silent:
            told = f"exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
            self.problems.append(f"{block.place}: {told}")
        return ended.stdout

    def _reach(self) -> Mapping[str, str]:
        """Return what the first cloud of the page told; start one if the page starts none itself."""
        if not self.clouds:
            self._start(PRINTED, DEFAULT)
        return next(iter(self.clouds.values()))

    def _start(self, printed: str, command: Sequence[str]) -> None:
        cloud = self.stack.enter_context(_serving(command, self.environment))
        # A page that does not say how its programs find the cloud has them find its first one.
        if not self.clouds and not any(
            block.kind is Kind.COMMANDS and "export " in block.text for block in self.blocks
        ):
            told = {"BMS_ENDPOINT": "address", "OS_PROJECT_ID": "project_id", "OS_TOKEN": "token"}
            self.environment |= {variable: cloud[name] for variable, name in told.items()}
        self.clouds[printed] = cloud

    def _addressed(self, text: str) -> str:
        """Return a text with the page's own clouds in it: printed ports may be somebody else's on this machine."""
        if PRINTED in text:
            self._reach()
        for printed, cloud in self.clouds.items():
            text = text.replace(printed, cloud["address"])
        return text

    def _run_commands(self, block: Block) -> None:
        """Run each command of a block that can be run, and look the others up."""
        subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
        if _USES_BMS.search(block.text) and not _OTHER_TERMINAL.search(block.text):
            self._run(block, ["bash", "-e", "-c", self._addressed(block.text)])
            return
        for line in _commands(block.text):
            words = shlex.split(line.partition("\n")[0], comments=True)
            while words and re.fullmatch(r"\w+=.*", words[0]):
                del words[0]
            match words:
                case []:
                    continue
                case ["export", *pairs]:
                    self.environment |= dict(self._addressed(pair).split("=", 1) for pair in pairs)
                case ["unset", *names]:
                    self.environment = {name: value for name, value in self.environment.items() if name not in names}
                case ["python", "-m", "bms_async.simulator", *flags] | ["bms", "simulator", *flags]:
                    self._serve(block, flags)
                case ["cat" | "echo" | "mkdir", *_]:
                    self._run(block, ["bash", "-c", self._addressed(line)])
                case _:
                    if problem := look_up(words):
                        self.problems.append(f"{block.place}: {line.strip()}: {problem}")

    def _serve(self, block: Block, words: Sequence[str]) -> None:
        flags = [word for word in words if word != "&"]
        printed = PRINTED
        if "--port" in flags:
            at = flags.index("--port") + 1
            printed, flags[at] = f"http://127.0.0.1:{flags[at]}", "0"
        if printed in self.clouds:
            self.problems.append(f"{block.place}: there is a cloud at {printed} already")
            return
        self._start(printed, [*SIMULATOR, *flags])


def _commands(text: str) -> Iterator[str]:
    """Split a block into commands, each with the text that it is given by ``<<``."""
    lines = iter(text.replace("\\\n", " ").splitlines())
    for line in lines:
        if given := re.search(r"<<-?\s*['\"]?(\w+)", line):
            following = list(iter(lambda: next(lines, given[1]), given[1]))
            yield "\n".join([line, *following, given[1]])
        else:
            yield line


def look_up(words: Sequence[str]) -> str | None:
    """Say what is wrong with a command that is not run; None where nothing is."""
    match words:
        case ["pip", "install", *what]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            named = {name for each in what for name in re.findall(r"[\w-]+", "".join(re.findall(r"\[(.*?)\]", each)))}
            unknown = named - set(extras)
            return f"there is no extra {', '.join(sorted(unknown))}" if unknown else None
        case ["make", target, *more]:
            ended = subprocess.run(["make", "-n", target, *more], cwd=ROOT, capture_output=True, text=True, check=False)
            return ended.stderr or None
        case ["python", "-m", module, *_]:
            place = ROOT / module.replace(".", "/")
            there = place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()
            return None if there else "there is no such module"
        case ["python", file, *_] | ["kubectl", "apply", "-f", file] | ["kopf", "run", *_, file]:
            return None if (ROOT / file).is_file() else "there is no such file"
        case ["." | "source" | "cd" | "curl" | "kill" | "kubectl" | "uvicorn", *_]:
            return None
    return "the tests of the pages do not know this command: teach them"


@contextmanager
def _serving(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    flags = [sys.executable, *command[1:]]
    with subprocess.Popen(flags, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()
