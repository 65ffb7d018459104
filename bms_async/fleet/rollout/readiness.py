"""The readiness checks that are here: a port that accepts, an answer of HTTP, and several checks at once.

They may be written down for another process, which a function of the application's may not.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from bms_async.errors import InvalidRequestError
from bms_async.errors.base import show_value
from bms_async.models import Server

from .asking import Answer, OwnCheck, ask, describe, note
from .probes import addresses_of, ask_all, ask_http, ask_tcp, shared_connections
from .rollout import Check

AddressKind: TypeAlias = Literal["fixed", "floating", "any"]

_KINDS: Final = get_args(AddressKind)
_MAX_PORT: Final = 65535
_STATUSES: Final = range(100, 600)
_GOOD: Final = range(200, 400)
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+(?::\d{1,5})?")
_PATH: Final = re.compile(r"/[\x21-\x22\x24-\x7e]*")


class TcpOpen(OwnCheck, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="tcp_open"):
    """Whether a server accepts TCP connections; `tcp_open` makes one.

    Attributes:
        port: The port.
        timeout: Seconds that one attempt may take.
        address: Which of the server's addresses are asked.
        network: The network whose addresses are asked, by its key in ``Server.addresses``; None for all.
    """

    port: int
    timeout: float = 5.0
    address: AddressKind = "fixed"
    network: str | None = None

    def __post_init__(self) -> None:
        _check_port(self.port)
        _check_rest(self.timeout, self.address, self.network)

    def describe(self, address: str | None = None) -> str:
        """Return what is asked, such as ``tcp 22``.

        Args:
            address: The address that is asked; None for any.
        """
        return f"tcp {self.port}" if address is None else f"tcp {self.port} at {address}"

    async def __call__(self, server: Server) -> bool:
        """Return whether a connection to one of the server's addresses opens."""
        addresses = addresses_of(server, self.address, self.network)

        async def ask_one(address: str) -> str | None:
            return await ask_tcp(address, self.port, self.timeout)

        return _conclude(self, addresses, await ask_all(addresses, ask_one))


class HttpOk(OwnCheck, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="http_ok"):
    """Whether a server answers a GET well; `http_ok` makes one.

    Attributes:
        port: The port.
        path: The path, with a query if one is needed. Errors show it without its query.
        status: The status that is well; None for any from 200 to 399.
        tls: Whether it is asked over TLS.
        verify: Whether the certificate is verified.
        host: The name in ``Host``, which the certificate must have too; None for the address.
        timeout: Seconds that one attempt may take.
        address: Which of the server's addresses are asked.
        network: The network whose addresses are asked, by its key in ``Server.addresses``; None for all.
    """

    port: int = 80
    path: str = "/"
    status: int | None = None
    tls: bool = False
    verify: bool = True
    host: str | None = None
    timeout: float = 5.0
    address: AddressKind = "fixed"
    network: str | None = None

    def __post_init__(self) -> None:
        _check_port(self.port)
        if not isinstance(self.path, str) or not _PATH.fullmatch(self.path):
            shown = self.path.partition("?")[0] if isinstance(self.path, str) else self.path
            raise InvalidRequestError("path", shown, 'expected a path such as "/healthz", in ASCII and encoded')
        if self.status is not None and (type(self.status) is not int or self.status not in _STATUSES):
            raise InvalidRequestError(
                "status", self.status, "expected a status from 100 to 599, or None for 200 to 399"
            )
        for name in ("tls", "verify"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidRequestError(name, getattr(self, name), "expected True or False")
        if self.host is not None and not (isinstance(self.host, str) and _HOST.fullmatch(self.host)):
            raise InvalidRequestError("host", self.host, 'expected a name such as "db.example.org", or None')
        _check_rest(self.timeout, self.address, self.network)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, self._shown_path if name == "path" else getattr(self, name)) for name in self.__struct_fields__]

    def __repr__(self) -> str:
        return f"HttpOk({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def describe(self, address: str | None = None) -> str:
        """Return what is asked, such as ``GET http://(fixed address):80/healthz``.

        Args:
            address: The address that is asked; None for any.
        """
        return f"GET {self._url(address or f'({self.address} address)')}{self._shown_path}"

    async def __call__(self, server: Server) -> bool:
        """Return whether one of the server's addresses answers with the right status."""
        addresses = addresses_of(server, self.address, self.network)
        async with shared_connections() as connections:
            transport = await connections.transport(verify=self.verify)

            async def ask_one(address: str) -> str | None:
                url = f"{self._url(address)}{self.path}"
                answered = await ask_http(transport, url, host=self.host, seconds=self.timeout)
                return None if answered == self.status or (self.status is None and answered in _GOOD) else str(answered)

            answers = await ask_all(addresses, ask_one)
        return _conclude(self, addresses, answers)

    @property
    def _shown_path(self) -> str:
        path, mark, _ = self.path.partition("?")
        return f"{path}?***" if mark else path

    def _url(self, address: str) -> str:
        shown = f"[{address}]" if ":" in address else address
        return f"{'https' if self.tls else 'http'}://{shown}:{self.port}"


class AllOf(OwnCheck, frozen=True, forbid_unknown_fields=True, tag="all_of"):
    """Whether several checks find a server well; `all_of` makes one.

    Attributes:
        checks: The checks, which are made one after another, until one of them does not find the server well.
    """

    checks: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.checks:
            raise InvalidRequestError("checks", self.checks, "expected at least one check")

    def describe(self) -> str:
        """Return what is asked, such as ``tcp 22 and tcp 443``."""
        return " and ".join(map(describe, self.checks))

    async def __call__(self, server: Server) -> bool:
        """Return whether all checks find the server well."""
        for check in self.checks:
            answer = await ask(check, server)
            if answer.answered is not None:
                note(answer)
                return False
        return True


def tcp_open(port: int, *, timeout: float = 5.0, address: AddressKind = "fixed", network: str | None = None) -> TcpOpen:
    """Return a check that a server accepts TCP connections.

    A connection is opened and closed at once. If several addresses are asked, they are asked at the same time, and one
    that accepts is enough.

    Args:
        port: The port, such as 22.
        timeout: Seconds that one attempt may take.
        address: Which of the server's addresses are asked: ``fixed`` (private ones), ``floating`` (elastic ones), or
            ``any``.
        network: The network whose addresses are asked, by its key in ``Server.addresses``; None for all.

    Raises:
        InvalidRequestError: An argument is invalid.
    """
    return TcpOpen(port=port, timeout=timeout, address=address, network=network)


def http_ok(
    port: int = 80,
    path: str = "/",
    *,
    status: int | None = None,
    tls: bool = False,
    verify: bool = True,
    host: str | None = None,
    timeout: float = 5.0,
    address: AddressKind = "fixed",
    network: str | None = None,
) -> HttpOk:
    """Return a check that a server answers a GET well.

    The request goes to the server directly, not through a proxy, with none of the client's credentials. A redirection
    is not followed. If several addresses are asked, they are asked at the same time, and one that is well is enough.

    Args:
        port: The port.
        path: The path, with a query if one is needed, such as ``/healthz``. It must hold no secret: a durable run
            writes it down.
        status: The status that is well; None for any from 200 to 399.
        tls: Whether it is asked over TLS.
        verify: Whether the certificate is verified, which ``SSL_CERT_FILE`` may name the authority of. Without it,
            anything that answers at the server's address passes for the server.
        host: The name in ``Host``, which the certificate must have too; None for the address.
        timeout: Seconds that one attempt may take.
        address: Which of the server's addresses are asked: ``fixed`` (private ones), ``floating`` (elastic ones), or
            ``any``.
        network: The network whose addresses are asked, by its key in ``Server.addresses``; None for all.

    Raises:
        InvalidRequestError: An argument is invalid.
    """
    return HttpOk(
        port=port,
        path=path,
        status=status,
        tls=tls,
        verify=verify,
        host=host,
        timeout=timeout,
        address=address,
        network=network,
    )


def all_of(*checks: Check) -> AllOf:
    """Return a check that several checks find a server well.

    They are made one after another, until one of them does not find the server well.

    Args:
        *checks: The checks: those of this package, or coroutine functions of a `Server`.

    Raises:
        InvalidRequestError: There is none, or one is not a function.
    """
    for check in checks:
        if not callable(check):
            raise InvalidRequestError("checks", check, "expected tcp_open(), http_ok() or a coroutine function")
    return AllOf(checks)


def encode_check(check: Check) -> bytes:
    """Return a check as JSON, for another process.

    Args:
        check: The check.

    Raises:
        InvalidRequestError: It is, or has, a function of the application's.
    """
    _refuse_foreign(check)
    return msgspec.json.encode(check)


def decode_check(data: bytes) -> TcpOpen | HttpOk | AllOf:
    """Return the check that `encode_check` wrote.

    Args:
        data: What it returned.

    Raises:
        InvalidRequestError: The data are not those of a check, or of one that only a later version has.
    """
    try:
        return _read(msgspec.json.decode(data))
    except msgspec.DecodeError as error:
        rule = f"expected a check as this version of bms_async writes it ({error}); update bms_async"
        raise InvalidRequestError("ready", bytes(data), rule) from None


def _read(written: object) -> TcpOpen | HttpOk | AllOf:
    check = msgspec.convert(written, TcpOpen | HttpOk | AllOf)
    return AllOf(tuple(map(_read, check.checks))) if isinstance(check, AllOf) else check


def _refuse_foreign(check: object) -> None:
    if type(check) is AllOf:
        for each in check.checks:
            _refuse_foreign(each)
    elif type(check) not in (TcpOpen, HttpOk):
        raise InvalidRequestError(
            "ready",
            check,
            "expected tcp_open(), http_ok() or all_of() of these: another process may carry a durable run on, and "
            "cannot call a function of this one",
        )


def _conclude(check: TcpOpen | HttpOk, addresses: list[str], answers: dict[str, str]) -> bool:
    """Note what was answered, and return whether the server is well."""
    if not addresses:
        kind = "address" if check.address == "any" else f"{check.address} address"
        where = "" if check.network is None else f" in the network {show_value(check.network)}"
        note(Answer(check.describe(), f"the server has no {kind}{where}"))
        return False
    if len(addresses) == 1:
        for address, answered in answers.items():
            note(Answer(check.describe(address), answered))
    elif answers:
        note(Answer(check.describe(), "; ".join(f"{address}: {answered}" for address, answered in answers.items())))
    return not answers


def _check_port(port: object) -> None:
    if type(port) is not int or not 0 < port <= _MAX_PORT:
        raise InvalidRequestError("port", port, f"expected a port from 1 to {_MAX_PORT}")


def _check_rest(timeout: object, address: object, network: object) -> None:
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not is_number or not 0 < timeout < math.inf:  # type: ignore[operator]
        raise InvalidRequestError("timeout", timeout, "expected a number of seconds above 0")
    if address not in _KINDS:
        raise InvalidRequestError("address", address, 'expected "fixed", "floating" or "any"')
    if network is not None and not (isinstance(network, str) and network):
        raise InvalidRequestError("network", network, "expected a key of Server.addresses, or None for all")
