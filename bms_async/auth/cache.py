"""Tokens in a file, so that processes of one machine share one.

The file is for its owner alone, is never seen half written, and is changed only under a lock on a file beside it (the
file itself is replaced, and a lock on it would be replaced with it). All of this runs in threads: a disk may be slow.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import stat
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import msgspec
from msgspec.structs import force_setattr

from bms_async._files import sync_folder
from bms_async._threads import run_in_thread
from bms_async.redaction import SecretBytes, SecretStr, write_secret

_log = logging.getLogger("bms_async.auth")

_LOCK_WAIT = 30.0
_LOCK_POLL = 0.05
_OTHERS = 0o077
_VERSION = 1
_MAX_FILE_BYTES = 4 * 1024 * 1024


class CachedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token as stored in the file.

    Attributes:
        expires_at: The end of its life by the cloud's clock, for human readers.
        until: The same by this machine's clock, which need not be right: all readers of the file use the same one.
        lifetime: Seconds that were left when it was written.
        project_id: The project that it is for.
    """

    token: str
    expires_at: str | None
    until: float
    lifetime: float
    project_id: str | None

    @classmethod
    def issued(
        cls, token: str, lifetime: float, *, expires_at: str | None, project_id: str | None, now: float | None = None
    ) -> CachedToken:
        """Return a token that was just issued.

        Args:
            token: The token.
            lifetime: Seconds until it ends.
            expires_at: The end of its life by the cloud's clock.
            project_id: The project that it is for.
            now: This machine's time; None reads its clock.
        """
        until = (time.time() if now is None else now) + lifetime
        return cls(token=token, expires_at=expires_at, until=until, lifetime=lifetime, project_id=project_id)

    def __post_init__(self) -> None:
        force_setattr(self, "token", SecretStr(self.token))

    def remaining(self, now: float) -> float:
        """Return the seconds until it ends; 0 if the clock was set back since, for then that is unknown."""
        remaining = self.until - now
        return remaining if 0 < remaining <= self.lifetime else 0.0

    def __repr__(self) -> str:
        return f"CachedToken(***, expires_at={self.expires_at!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("token", "***"), ("expires_at", self.expires_at)]


class _Content(msgspec.Struct):
    version: int
    tokens: dict[str, CachedToken]

    def __repr__(self) -> str:
        return f"_Content({len(self.tokens)} tokens)"


class TokenCache:
    """A file of tokens, one of which is for this user and project.

    Args:
        path: The file; it is created with the first token.
        identity: The user and the project; only a hash of them is written.
        clock: Returns this machine's time, in seconds since 1970.
    """

    __slots__ = ("_key", "_path", "now")

    def __init__(
        self,
        path: str | os.PathLike[str],
        identity: Sequence[str | None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.now = clock
        self._path = Path(path)
        self._key = sha256(json.dumps(identity).encode()).hexdigest()

    def __repr__(self) -> str:
        return f"TokenCache({str(self._path)!r})"

    @asynccontextmanager
    async def lock(self, *, wait: float = _LOCK_WAIT) -> AsyncIterator[bool]:
        """Keep all others from the file while one asks for a token; yields False if it could not be had in time.

        Args:
            wait: Seconds to wait for who holds it; 0 tries once.
        """
        lock = _Lock(self._path.with_name(f"{self._path.name}.lock"))
        held = False
        try:
            try:
                # One short try at a time: a thread that waits for a lock could not be called back.
                held = await run_in_thread(lock.try_acquire)
                with anyio.move_on_after(wait):
                    while not held:
                        await anyio.sleep(_LOCK_POLL)
                        held = await run_in_thread(lock.try_acquire)
            except OSError as error:
                _log.warning("the token cache %s cannot be locked (%s); it is not used", self._path, _reason(error))
            else:
                if not held:
                    _log.warning("the token cache %s was locked for %g s; it is not used", self._path, wait)
            yield held
        finally:
            with anyio.CancelScope(shield=True):
                await run_in_thread(lock.release)

    async def load(self) -> CachedToken | None:
        """Return our token, None if there is none that can be used; only while it is held."""
        return await self._try(self._load, "read")

    async def store(self, token: CachedToken) -> None:
        """Keep our token; only while it is held."""
        await self._try(lambda: self._store(token), "written")

    async def _try(self, work: Callable[[], CachedToken | None], done: str) -> CachedToken | None:
        try:
            return await run_in_thread(work)
        except OSError as error:
            # A cache that does not work costs a request and nothing else.
            _log.warning("the token cache %s cannot be %s (%s)", self._path, done, _reason(error))
            return None

    def _load(self) -> CachedToken | None:
        return self._read().get(self._key)

    def _store(self, token: CachedToken) -> None:
        if self._path.exists() and not _is_private(self._path.lstat(), self._path):
            return
        now = self.now()
        # Tokens of others who share the file are kept as long as they are good.
        others = {key: other for key, other in self._read().items() if other.remaining(now) > 0}
        content = _Content(_VERSION, {**others, self._key: token})
        data = SecretBytes(msgspec.json.encode(content, enc_hook=write_secret))
        # Whoever was killed while writing left this behind; the lock says that nobody is at it now.
        unfinished = self._path.with_name(f".{self._path.name}.tmp")
        unfinished.unlink(missing_ok=True)
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, self._path)  # noqa: PTH105 - named so that it can be seen to be atomic
        except BaseException:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise
        sync_folder(self._path.parent)

    def _read(self) -> dict[str, CachedToken]:
        try:
            # Not through a link: it may lead to a file of somebody else's choice. Not waiting either, for a pipe.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return {}
        with os.fdopen(descriptor, "rb") as file:
            if not _is_private(os.fstat(file.fileno()), self._path):
                return {}
            data = SecretBytes(file.read(_MAX_FILE_BYTES))
        try:
            content = msgspec.json.decode(data, type=_Content)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return {}
        return content.tokens if content.version == _VERSION else {}


class _Lock:
    """A lock on a file, which ends with the process at the latest."""

    __slots__ = ("_descriptor", "_path")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        if self._descriptor is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                # A child that was forked meanwhile has the file open too, and closing it here would not unlock it.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            finally:
                os.close(descriptor)


def _is_private(status: os.stat_result, path: Path) -> bool:
    """Tell whether a file is ours alone; whoever can write it could hand us a token, and read can take ours."""
    problem = None
    if not stat.S_ISREG(status.st_mode):
        problem = "it is no ordinary file"
    elif status.st_uid != os.geteuid():
        problem = "it belongs to somebody else"
    elif status.st_mode & _OTHERS:
        problem = f"others may open it (mode {stat.S_IMODE(status.st_mode):04o}); chmod 600 or remove it"
    if problem is not None:
        _log.warning("the token cache %s is not used: %s", path, problem)
    return problem is None


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
