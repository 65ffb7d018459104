"""The matrix: each Python, with all transports and with httpx alone, with the pinned dependencies and with the lowest.

::

    pip install nox
    nox                                                              # every Python that is installed here
    nox -s "tests-3.12(dependencies='lowest', transport='httpx')"    # one of them

The virtual clock overrides private methods of asyncio. So a new Python, or a new release of a dependency, is tried here
first.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")

# What users install; the tools that test it are pinned in any case.
SHIPPED = ("cli", "clouds", "otel", "simulator", "speedups", "aiohttp")

# Tests of the transports that have an extra, and of all transports together.
NEED_EXTRAS = (
    "tests/auth/test_password_secrets.py",
    "tests/client/test_closing.py",
    "tests/secrets/test_sockets.py",
    "tests/soak",
    "tests/test_import.py",
    "tests/test_third_party_internals.py",
    "tests/transport",
)

nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "venv"


def pinned() -> Iterator[str]:
    """Yield a line for each package that the project is tested with."""
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if re.match(r"[\w.-]+==", line):
            yield line


def lowest() -> Iterator[str]:
    """Yield a line for each dependency: the oldest minor release that the project claims to work with.

    The tools, and what the old releases need themselves, are left to pip: pinned ones would exclude old releases.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    claims = [*project["dependencies"], *(claim for extra in SHIPPED for claim in extras[extra])]
    # The API of OpenTelemetry and its SDK are released together, and each asks for the other's release.
    claims += [claim for claim in extras["dev"] if claim.startswith("opentelemetry")]
    bounds = {found[1].lower(): found[2] for claim in claims if (found := re.match(r"([\w.-]+)>=([\d.]+)", claim))}
    for name, bound in bounds.items():
        yield f"{name}=={bound}.*"


def install(session: nox.Session, dependencies: str) -> None:
    """Install the project and what tests it."""
    file = Path(session.create_tmp()) / f"{dependencies}.txt"
    file.write_text("\n".join(lowest() if dependencies == "lowest" else pinned()), encoding="utf-8")
    session.install("--editable", ".[dev]", env={"PIP_CONSTRAINT": str(file)})


@nox.session(python=PYTHONS)
@nox.parametrize("transport", ["http1", "httpx"])
@nox.parametrize("dependencies", ["pinned", "lowest"])
def tests(session: nox.Session, dependencies: str, transport: str) -> None:
    """Run all tests; with httpx, all that need no other transport, in an environment with httpx alone."""
    if session.python == "3.14" and dependencies == "lowest":
        session.skip("the lowest releases of msgspec and aiohttp are older than Python 3.14")
    install(session, dependencies)
    left_out: list[str] = []
    if transport == "httpx":
        session.run("pip", "uninstall", "--yes", "--quiet", "aiohttp", "httptools", "uvloop")
        left_out = [f"--ignore={path}" for path in NEED_EXTRAS]
    session.run("pytest", "-n", "auto", "--dist", "loadfile", "-q", *left_out, *session.posargs)


@nox.session(python="3.11")
def lint(session: nox.Session) -> None:
    """Check style, types and import contracts."""
    install(session, "pinned")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports")
