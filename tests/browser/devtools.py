"""A browser without a window, told what to do through the pipe that it keeps for its developers' tools."""

from __future__ import annotations

import base64
import fcntl
import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.machine import patience

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = patience(60.0)


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


def the_browser() -> str:
    """Return the browser that is there; to have none is a failure where CI is set, and passes a test over elsewhere."""
    program = find_browser()
    if program is not None:
        return program
    reason = "no chromium and no chrome is installed: `make browser` installs one"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class Page:
    """One tab, and everything that its console has complained of."""

    def __init__(self, to: int, back: int) -> None:
        self.complaints: list[str] = []
        self._to, self._back = to, back
        self._left = b""
        self._number = 0
        self._session: str | None = None
        self._loaded = False
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Give an order, and return what came of it."""
        self._number += 1
        order: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            order["sessionId"] = self._session
        os.write(self._to, msgspec.json.encode(order) + b"\0")
        while True:
            said = self._hear()
            if said.get("id") == self._number:
                assert "error" not in said, (method, said["error"])
                result = said["result"]
                assert isinstance(result, dict)
                return result

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Show a page in a window of this size, once it is loaded, and forget what earlier ones complained of."""
        # The page before goes on asking its simulator, and complaining that it has ended, for as long as it is shown.
        self._show("about:blank")
        self.complaints.clear()
        self.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self._show(url)

    def resize(self, width: int, height: int) -> None:
        """Make the window this large."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def read(self, expression: str) -> Any:
        """Return what an expression of JavaScript is worth, once its promise is kept."""
        got = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def wait_until(self, condition: str) -> None:
        """Wait until the page makes a condition true."""
        self.read(
            f"new Promise(done => {{ const look = () => {{ if (!({condition})) return; watch.disconnect(); done(); }};"
            " const watch = new MutationObserver(look);"
            " watch.observe(document, {subtree: true, childList: true, characterData: true, attributes: true});"
            " look(); })"
        )

    def text(self, selector: str) -> str:
        """Return the text that is shown at a place."""
        return str(self.read(f"document.querySelector({selector!r}).innerText"))

    def picture(self, path: Path) -> None:
        """Keep the whole page as a picture."""
        path.write_bytes(self.shoot())

    def shoot(self, height: int | None = None) -> bytes:
        """Return the page as a picture: all of it, or so much from the top."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], height or 1 << 14), "scale": 1}
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(shot["data"])

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        return int(self.read("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def _show(self, url: str) -> None:
        self._loaded = False
        shown = self.ask("Page.navigate", url=url)
        assert "errorText" not in shown, shown
        while not self._loaded:
            self._hear()

    def _hear(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        with selectors.DefaultSelector() as watch:
            watch.register(self._back, selectors.EVENT_READ)
            while b"\0" not in self._left:
                assert watch.select(max(0.0, end - time.monotonic())), "the browser says nothing"
                piece = os.read(self._back, 1 << 16)
                assert piece, "the browser has ended"
                self._left += piece
        text, _, self._left = self._left.partition(b"\0")
        said = msgspec.json.decode(text)
        assert isinstance(said, dict)
        self._note(said.get("method"), said.get("params") or {})
        return said

    def _note(self, method: str | None, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.complaints.append(str(params["entry"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning", "assert"}:
            self.complaints.append(str(params["args"]))


@contextmanager
def browsing(program: str, folder: Path) -> Iterator[Page]:
    """Start a browser with nothing of its own but an empty folder, and end it."""
    heard, to = map(_out_of_the_way, os.pipe())
    back, told = map(_out_of_the_way, os.pipe())
    # It reads its orders from 3 and answers on 4.
    script = f'exec 3<&{heard} 4>&{told} {heard}<&- {told}>&-; exec "$@"'
    arguments = ["bash", "-c", script, "bash", program, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(
        arguments, pass_fds=(heard, told), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        os.close(heard)
        os.close(told)
        page = Page(to, back)
        yield page
        with suppress(AssertionError, BrokenPipeError):
            page._session = None
            page.ask("Browser.close")
        process.wait(PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(to)
        os.close(back)


def _out_of_the_way(descriptor: int) -> int:
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved
