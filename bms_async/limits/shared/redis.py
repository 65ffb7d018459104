"""Shared limits in Redis or Valkey.

Guarantee: each question is dealt with once and by itself, in the state as the last question left it, or the account is
closed because that cannot be known.

How: the rule book runs inside the server as one script, which deals with all questions of a call. What is kept of an
account is one hash, so that whatever is lost is lost together. The life of the store is the server's `run_id`, read on
each new connection before anything is asked on it: a server that was started again, or another one that took over,
has another. There is one connection, and it is never opened again by itself: after anything but an answer it is closed,
and asking raises until `open` has been called.

What redis-py raises is not passed on, for its frames hold the password and its texts may repeat it.

Rejected: the client and the pools of redis-py, which connect again unseen when a connection was lost, and so would ask
another server by the former's life; retries, which the caller does better; and a transaction with WATCH, which needs
several round trips and fails while others ask.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.resources
import logging
import ssl
from collections.abc import Awaitable, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

import msgspec
from redis import exceptions as errors
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection

from bms_async._threads import run_in_thread
from bms_async.redaction import SecretStr

from ._redis_address import read_address
from ._redis_errors import explain
from .messages import Answer, Question
from .store import AccountUsage, StoreError, decode_account, usage_of

T = TypeVar("T")

_log = logging.getLogger("bms_async.limits")

_TIMEOUT = 5.0
"""Seconds for connecting, and for each answer."""

_NO_ANSWERS = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
"""What redis-py and this module raise where a server says something that Redis never does."""

_answers = msgspec.msgpack.Decoder(list[Answer])
_questions = msgspec.msgpack.Encoder()


class _Script(NamedTuple):
    text: str
    sha: str


class RedisStore:
    """A `Store` in Redis (5 or later) or Valkey; Redis Cluster and Sentinel are not supported.

    Args:
        url: ``redis://[[user]:password@]host[:port][/db]``, ``rediss`` for TLS, or ``unix:///path[?db=0]`` for a
            socket; ``valkey`` and ``valkeys`` mean the same as the first two. With TLS, the query may name the files
            ``ssl_ca_certs``, ``ssl_certfile`` and ``ssl_keyfile``.

    Raises:
        ConfigurationError: The URL is none of these.
    """

    def __init__(self, url: str) -> None:
        url = SecretStr(url)
        self._label = ""
        self._address = read_address(url)
        self._label = self._address.label
        self._connection: AbstractConnection | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._life = ""
        self._has_warned = False

    def __repr__(self) -> str:
        return f"RedisStore({self.label!r})"

    @property
    def label(self) -> str:
        """The address for people, without user and password."""
        return self._label

    async def open(self) -> None:
        """Connect, and learn which life the store lives.

        Raises:
            StoreError: The server does not let us in, or is none that can be used.
            OSError: There is no server, or it cannot answer now.
        """
        await self.aclose()
        await self._guard(self._connect())

    async def ask(self, account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
        """Have questions dealt with, all by one run of the script.

        Args:
            account: The name of the account.
            questions: The name of the limit, and the question, of each.

        Raises:
            StoreError: Asking again will not help.
            OSError: The connection was lost, or the server cannot answer now.
        """
        if not questions:
            return []
        return await self._guard(self._ask(account, _questions.encode(questions)))

    async def read(self, account: str) -> AccountUsage:
        """Read what is kept of an account; nothing is changed.

        Raises:
            StoreError: Trying again will not help.
            OSError: The connection was lost, or the server cannot answer now.
        """
        pairs = await self._guard(self._send("HGETALL", _key(account)))
        seconds, microseconds = await self._guard(self._send("TIME"))
        fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
        now = int(seconds) + int(microseconds) / 1_000_000
        header = decode_account(fields.pop(b"account", None))
        ledgers = ((name.removeprefix(b"limit:").decode(), data) for name, data in fields.items())
        return usage_of(header, ledgers, now=now, life=self._life)

    async def open_account(self, account: str) -> None:
        """Open an account at once: an operator vouches that no earlier call of it counts any more.

        Raises:
            StoreError: Trying again will not help.
            OSError: The connection was lost, or the server cannot answer now.
        """
        await self._guard(self._run(account, b""))

    async def aclose(self) -> None:
        """Close the connection; closing what is not open does nothing."""
        connection, transport = self._connection, self._transport
        self._connection, self._transport, self._life = None, None, ""
        if transport is not None:
            # Nothing is left to send, and a server that stands still is not waited for.
            transport.abort()
        if connection is not None:
            await connection.disconnect()

    async def _guard(self, work: Awaitable[T]) -> T:
        """Await what speaks to the server; whatever it raises, the connection is closed.

        The error is raised outside of the `except` block, so that it keeps nothing of redis-py's alive.
        """
        try:
            return await work
        except TimeoutError:
            failure: Exception = TimeoutError(f"{self.label}: expected an answer within {_TIMEOUT:g} s, got none")
        except (errors.RedisError, OSError) as error:
            failure = explain(self.label, error, self._address.password)
        except _NO_ANSWERS as error:
            failure = ConnectionError(f"{self.label}: expected what a Redis server says, got {type(error).__name__}")
        except BaseException:
            await self.aclose()
            raise
        await self.aclose()
        raise failure

    async def _connect(self) -> None:
        self._connection = await run_in_thread(self._make_connection)
        async with asyncio.timeout(_TIMEOUT):
            await self._connection.connect()  # type: ignore[no-untyped-call]

    def _make_connection(self) -> AbstractConnection:
        """Make a connection that is not open yet; this reads files: the script, redis-py's version, certificates."""
        _load_script()
        address = self._address
        options: dict[str, Any] = {
            "db": address.db,
            "username": address.user,
            "password": None if address.password is None else address.password.text,
            # With a timeout of its own it writes by way of `asyncio.wait_for`, which loses cancellations before 3.12.
            "socket_timeout": None,
            "socket_connect_timeout": _TIMEOUT,
            "protocol": 2,
            # For each connection that there ever is, so that none is used without its server's life.
            "redis_connect_func": self._greet,
        }
        if address.path:
            return UnixDomainSocketConnection(path=address.path, **options)
        options |= {"host": address.host, "port": address.port}
        if not address.has_tls:
            return Connection(**options)
        options |= {**address.files, "ssl_check_hostname": True, "ssl_min_version": ssl.TLSVersion.TLSv1_2}
        connection = SSLConnection(**options)
        connection.ssl_context.get()
        return connection

    async def _greet(self, connection: AbstractConnection) -> None:
        """Say who we are on a new connection, and learn whom it leads to."""
        writer = connection._writer  # noqa: SLF001 - there is no other way to close it at once
        self._transport = None if writer is None else writer.transport
        await connection.on_connect()
        await self._send_if_allowed("CLIENT", "SETNAME", "bms_async")
        lines = (await self._send("INFO", "server")).decode(errors="replace").splitlines()
        info = dict(line.split(":", 1) for line in lines if ":" in line)
        if info.get("redis_mode") == "sentinel":
            raise StoreError(f"{self.label} is a Sentinel, which is not supported; name the server that it watches")
        if not info.get("run_id"):
            raise StoreError(f"{self.label}: expected a run_id in INFO, got none; name a Redis or Valkey server itself")
        self._life = info["run_id"]
        if not self._has_warned:
            await self._warn_of_evictions()

    async def _warn_of_evictions(self) -> None:
        policy = await self._send_if_allowed("CONFIG", "GET", "maxmemory-policy")
        if isinstance(policy, list) and policy and policy[-1].startswith(b"allkeys-"):
            self._has_warned = True
            _log.warning(
                "%s may drop what it keeps of the limits when its memory is full (maxmemory-policy %s), and each time "
                "the account is then closed for minutes: choose noeviction or a volatile policy",
                self.label,
                policy[-1].decode(),
            )

    async def _ask(self, account: str, questions: bytes) -> list[Answer]:
        return _answers.decode(await self._run(account, questions))

    async def _run(self, account: str, questions: bytes) -> bytes:
        script = _load_script()
        arguments = (1, _key(account), self._life, questions, "")
        try:
            answers: bytes = await self._send("EVALSHA", script.sha, *arguments)
        except errors.NoScriptError:
            answers = await self._send("EVAL", script.text, *arguments)
        return answers

    async def _send_if_allowed(self, *words: str) -> Any:
        """Send a command that may be forbidden; return the answer, or None."""
        try:
            return await self._send(*words)
        except errors.ResponseError:
            return None

    async def _send(self, *words: str | bytes | int) -> Any:
        connection = self._connection
        if connection is None or not connection.is_connected:
            # redis-py would connect again by itself.
            raise ConnectionError("there is no connection; it has to be opened first")
        async with asyncio.timeout(_TIMEOUT):
            await connection.send_command(*words)
            return await connection.read_response()


def _key(account: str) -> str:
    return f"bms_async:limits:{account}"


@cache
def _load_script() -> _Script:
    text = importlib.resources.files(__package__).joinpath("ledger.lua").read_text("utf-8")
    return _Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
