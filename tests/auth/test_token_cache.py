"""The token cache: processes of one machine share a token, and nothing that happens to the file does harm."""

# ruff: noqa: ASYNC240 - files of a few bytes, and nothing else that waits

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bms_async import ClientClosedError
from bms_async._files import FileLock
from bms_async.auth.cache import CachedToken, TokenCache
from tests.auth.keystone import PASSWORD, PROJECT, FakeCloud, auth_of, opened
from tests.support.machine import patience
from tests.support.real_clock import stand_still

ROOT = Path(__file__).parents[2]
NOW = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


async def use(cloud: FakeCloud, file: Path, *, calls: int = 5, **arguments: Any) -> None:
    """Do what a process does: open a client, make calls, close it."""
    async with opened(cloud, auth_of(cache_file=file, **arguments), project_id=None) as bms:
        await asyncio.gather(*(bms.servers.get("s-1") for _ in range(calls)))
        assert bms.project_id == PROJECT


def quick(**arguments: Any) -> FakeCloud:
    return FakeCloud(delay=0, **arguments)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_two_share_one_token(file: Path) -> None:
    cloud = quick()
    await use(cloud, file)
    await use(cloud, file)

    assert len(cloud.asked) == 1
    assert mode_of(file) == 0o600
    assert mode_of(file.with_name("tokens.json.lock")) == 0o600
    assert sorted(each.name for each in file.parent.iterdir()) == ["tokens.json", "tokens.json.lock"]


async def test_two_at_once_share_one_token(file: Path) -> None:
    cloud = quick()
    await asyncio.gather(*(use(cloud, file) for _ in range(4)))

    assert len(cloud.asked) == 1


async def test_the_file_holds_no_password_and_no_name(file: Path) -> None:
    await use(quick(), file)

    text = file.read_text()
    assert PROJECT in text
    for word in (PASSWORD, json.dumps(PASSWORD)[1:-1], "operator", "account", "iam.example.com"):
        assert word not in text


async def test_others_in_the_same_file_are_kept_and_do_not_share(file: Path) -> None:
    cloud = quick()
    await use(cloud, file)
    await use(cloud, file, username="another")
    await use(cloud, file, project_name="ae-ad-2")
    await use(cloud, file)

    assert len(cloud.asked) == 3
    assert len(json.loads(file.read_text())["tokens"]) == 3


async def test_a_refused_token_is_replaced_in_the_file(file: Path) -> None:
    cloud = quick()
    await use(cloud, file)
    cloud.revoke()
    await use(cloud, file)
    await use(cloud, file)

    assert len(cloud.asked) == 2
    assert cloud.issued[1] in file.read_text()
    assert cloud.issued[0] not in file.read_text()


async def test_a_token_that_another_process_renewed_is_taken_after_a_401(file: Path) -> None:
    cloud = quick()
    async with opened(cloud, auth_of(cache_file=file)) as bms:
        await bms.servers.get("s-1")
        cloud.revoke()
        await use(cloud, file)
        assert len(cloud.asked) == 2
        await bms.servers.get("s-1")

    assert len(cloud.asked) == 2


async def test_a_token_near_its_end_is_not_taken(file: Path) -> None:
    cloud = quick(lifetime=3600)
    await use(cloud, file, clock=lambda: NOW)
    await use(cloud, file, clock=lambda: NOW + timedelta(seconds=2999))
    assert len(cloud.asked) == 1

    await use(cloud, file, clock=lambda: NOW + timedelta(seconds=3001))
    assert len(cloud.asked) == 2


@pytest.mark.parametrize("years", [-20, 20])
async def test_our_clock_may_be_years_off(file: Path, years: int) -> None:
    # The fake cloud lives in 2041 as it is; here all processes agree on another wrong time.
    cloud = quick()
    await use(cloud, file, clock=lambda: NOW + timedelta(days=years * 365))
    await use(cloud, file, clock=lambda: NOW + timedelta(days=years * 365, seconds=7))

    assert len(cloud.asked) == 1


async def test_a_clock_that_was_set_back_makes_the_file_worthless(file: Path) -> None:
    cloud = quick()
    await use(cloud, file, clock=lambda: NOW)
    await use(cloud, file, clock=lambda: NOW - timedelta(hours=2))

    assert len(cloud.asked) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"version": 1}',
        b'{"version": 2, "tokens": {}}',
        b'{"version": 1, "tokens": {"a": {"token": 7}}}',
        b"[" * 100_000,
        b"# not ours\n",
    ],
)
async def test_a_file_that_cannot_be_read_is_replaced(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    file.chmod(0o600)
    cloud = quick()
    await use(cloud, file)
    await use(cloud, file)

    assert len(cloud.asked) == 1
    assert json.loads(file.read_text())["version"] == 1


async def test_a_token_in_the_file_that_no_header_can_carry_is_not_used(file: Path) -> None:
    cloud = quick()
    await use(cloud, file)
    file.write_text(file.read_text().replace(cloud.issued[0], "MII\\r\\nX-Injected: yes"))
    await use(cloud, file)

    assert len(cloud.asked) == 2


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o622, 0o604])
async def test_a_file_that_others_may_open_is_not_used(file: Path, caplog: pytest.LogCaptureFixture, mode: int) -> None:
    cloud = quick()
    await use(cloud, file)
    before = file.read_bytes()
    file.chmod(mode)
    await use(cloud, file)

    assert len(cloud.asked) == 2
    assert file.read_bytes() == before
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert any("is not used: other users can open it" in each and f"{mode:04o}" in each for each in warnings)
    assert not any(token in each for token in cloud.issued for each in warnings)


async def test_a_link_is_not_followed(file: Path) -> None:
    cloud = quick()
    await use(cloud, file)
    elsewhere = file.with_name("elsewhere.json")
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    await use(cloud, file)

    assert len(cloud.asked) == 2
    assert elsewhere.read_bytes() == before
    assert file.is_symlink()


async def test_a_folder_is_made_where_there_is_none(tmp_path: Path) -> None:
    file = tmp_path / "cache" / "bms" / "tokens.json"
    cloud = quick()
    await use(cloud, file)
    await use(cloud, file)

    assert len(cloud.asked) == 1
    assert mode_of(file.parent) == 0o700


async def test_a_place_that_cannot_be_written_costs_a_request_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("")
    cloud = quick()
    await use(cloud, tmp_path / "a-file" / "tokens.json")

    assert len(cloud.asked) == 1


async def test_a_failure_while_writing_leaves_the_old_file_whole(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = quick()
    await use(cloud, file)
    before = file.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    cloud.revoke()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        await use(cloud, file)
    assert file.read_bytes() == before
    assert len(cloud.asked) == 2
    assert sorted(each.name for each in file.parent.iterdir()) == ["tokens.json", "tokens.json.lock"]


DIES = """
import asyncio, os, sys
from tests.auth.keystone import FakeCloud
from tests.auth.test_token_cache import use
from pathlib import Path
os.replace = lambda *_: os._exit(9)
asyncio.run(use(FakeCloud(delay=0), Path(sys.argv[1]), username=sys.argv[2]))
"""


async def test_a_process_killed_while_writing_leaves_a_readable_file_and_no_lock(file: Path) -> None:
    cloud = quick()
    await use(cloud, file)
    before = file.read_bytes()
    died = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", DIES, str(file), "another"],
        cwd=ROOT,
        timeout=patience(60.0),
        check=False,
    )

    assert died.returncode == 9
    left = file.with_name(".tokens.json.tmp")
    assert left.exists()
    assert mode_of(left) == 0o600
    assert file.read_bytes() == before
    await use(cloud, file)
    await use(cloud, file, username="another")
    await use(cloud, file, username="another")
    assert len(cloud.asked) == 2
    assert not left.exists()


async def test_a_child_that_was_forked_while_the_lock_was_held_does_not_keep_it(file: Path) -> None:
    async with TokenCache(file, ("me",)).lock() as held:
        assert held
        # What a child of this process has open after a fork: the very same file.
        inherited = [os.dup(int(each.name)) for each in Path("/proc/self/fd").iterdir() if _leads_to_a_lock(each, file)]
        assert inherited
    try:
        async with TokenCache(file, ("me",)).lock(wait=0) as again:
            assert again
    finally:
        for descriptor in inherited:
            os.close(descriptor)


def _leads_to_a_lock(descriptor: Path, file: Path) -> bool:
    try:
        return descriptor.readlink().name == f"{file.name}.lock"
    except OSError:
        return False


async def test_a_lock_that_is_never_given_back_is_not_waited_for_without_end(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = TokenCache(file, ("who",))
    with locked(file):
        async with cache.lock(wait=0.01) as held:
            assert not held
    assert "was locked for 0.01 s" in caplog.text
    async with cache.lock(wait=0) as held:
        assert held


async def test_closing_a_client_does_not_wait_for_the_lock(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, tried = asyncio.get_running_loop(), asyncio.Event()
    real = FileLock.try_acquire

    def try_and_signal(lock: FileLock) -> bool:
        loop.call_soon_threadsafe(tried.set)
        return real(lock)

    monkeypatch.setattr(FileLock, "try_acquire", try_and_signal)
    with locked(file):
        async with opened(quick(), auth_of(cache_file=file)) as bms:
            call = asyncio.ensure_future(bms.servers.get("s-1"))
            await tried.wait()
            # Whoever waited for the lock would wait for ever.
            stand_still()
        with pytest.raises(ClientClosedError):
            await call
    async with TokenCache(file, ("who",)).lock(wait=1) as held:
        assert held


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock as another process would."""
    descriptor = os.open(file.with_name(f"{file.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def test_no_repr_shows_a_token(file: Path) -> None:
    kept = CachedToken(token="MIIYXQsecret", expires_at=None, until=1.0, lifetime=1.0, project_id=None)
    rich = pytest.importorskip("rich.pretty")

    assert "MIIYXQ" not in f"{kept} {kept!r} {rich.pretty_repr(kept)} {TokenCache(file, ('who',))!r}"
    assert "MIIYXQ" not in repr(pickle.dumps(TokenCache(file, ("who",))))


PROCESS = """
import asyncio, sys, urllib.request
from bms_async import BmsClient, HttpxTransport, PasswordAuth
import httpx

with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/start") as answer:
    answer.read()

async def main(port, file):
    auth = PasswordAuth(
        auth_url=f"http://127.0.0.1:{port}", username="u", user_domain_name="d", password="hunter2", project_name="p",
        cache_file=file,
    )
    transport = HttpxTransport(httpx.AsyncClient(trust_env=False))
    async with BmsClient(endpoint=f"http://127.0.0.1:{port}", auth=auth, transport=transport) as bms:
        await asyncio.gather(*(bms.servers.get("s-1") for _ in range(20)))
        print((await auth.headers(None))["X-Auth-Token"])

asyncio.run(main(*sys.argv[1:]))
"""


class Keystone(BaseHTTPRequestHandler):
    asked = 0
    together = threading.Barrier(3)
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        Keystone.asked += 1
        body = {"token": {"expires_at": "2041-01-02T00:00:00Z", "issued_at": "2041-01-01T00:00:00Z"}}
        body["token"]["project"] = {"id": "p-1"}  # type: ignore[assignment]
        self._say(201, body, {"X-Subject-Token": f"TOKEN-{Keystone.asked}"})

    def do_GET(self) -> None:
        if self.path == "/start":
            # Nobody begins before all have come this far.
            Keystone.together.wait(timeout=patience(60.0))
        self._say(200, {"server": {"id": "s-1"}}, {})

    def log_message(self, *_: Any) -> None:
        pass

    def _say(self, status: int, body: object, headers: dict[str, str]) -> None:
        data = json.dumps(body).encode()
        # Without the Date that http.server would add: this machine's clock is not that of the token.
        self.send_response_only(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def test_real_processes_at_once_share_one_token(file: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Keystone)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        command = [sys.executable, "-c", PROCESS, str(server.server_address[1]), str(file)]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(3)]
        outputs = [each.communicate(timeout=patience(60.0))[0] for each in running]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

    assert [each.returncode for each in running] == [0] * 3
    assert outputs == ["TOKEN-1\n"] * 3
    assert Keystone.asked == 1
    assert "hunter2" not in file.read_text()
