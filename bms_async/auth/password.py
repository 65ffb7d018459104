"""A user's name and password, for which Keystone gives a token that is kept fresh."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING

from bms_async._files import CAN_LOCK
from bms_async._foreign import call_foreign_now
from bms_async.errors import ConfigurationError
from bms_async.redaction import MASK, Secret, SecretStr, wrap_address, wrap_secrets
from bms_async.wire import HttpRequest, HttpResponse

from ._keystone import (
    normalize_auth_url,
    validate_auth_url,
    validate_margin,
    validate_user,
    without_none,
    young_refusal,
)
from ._token_renewal import TokenSource
from ._token_request import TokenClient
from .base import Notify, Send, StartTask

if TYPE_CHECKING:
    from .cache import TokenCache

_UNAUTHORIZED = 401


class PasswordAuth:
    """Authenticates with a token that a user's password is exchanged for (API reference 3.2 and 3.1).

    The token is asked for when the first call needs it, once however many calls wait; it is renewed in the background
    before it ends, and after the cloud refused it. Clients may share one `PasswordAuth`, and then share its token.

    A password that was refused with 401 is not sent again at once, for clouds lock an account that is tried wrongly a
    few times in a row: for 30 seconds, then for 3 minutes, then for a quarter of an hour each time, calls get the same
    error without a request. Where a token that came in place of a refused one is refused within a minute too, no other
    is asked for so long: it would be refused like it. Calls that the cloud takes it for go on.

    Args:
        auth_url: The address of the IAM service (Keystone), with or without ``/v3``.
        username: The user; it takes a `user_domain_name` or a `user_domain_id` too. Or else:
        user_id: The user's id.
        password: The password, a text or a `Secret`.
        user_domain_name: The name of the account that the user belongs to.
        user_domain_id: Its id.
        project_name: The project, which is named like its region where the cloud made it. Or else:
        project_id: The project's id.
        project_domain_name: The account that a project given by name belongs to, for clouds that ask for it. Or else:
        project_domain_id: That account's id.
        margin: Seconds before its end at which a token is renewed, but never before half of its life is over.
        cache_file: A file that processes of this user share tokens through; it holds them readable, for its owner
            alone. None keeps them in memory.
        clock: Returns the time, aware; only what is in the `cache_file` is told by it.
        random: What draws the delays between tries, for tests.

    Raises:
        ConfigurationError: Arguments are missing or contradict each other; the text names all of them.
    """

    __slots__ = ("_exchange", "_project_id", "_renewals")

    def __init__(
        self,
        *,
        auth_url: str,
        username: str | None = None,
        user_id: str | None = None,
        password: str | Secret,
        user_domain_name: str | None = None,
        user_domain_id: str | None = None,
        project_name: str | None = None,
        project_id: str | None = None,
        project_domain_name: str | None = None,
        project_domain_id: str | None = None,
        margin: float = 600.0,
        cache_file: str | os.PathLike[str] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        random: Random | None = None,
    ) -> None:
        # An address that is refused may hold a password too.
        auth_url, password = wrap_address(auth_url), wrap_secrets(password)
        given = {
            "username": username,
            "user_id": user_id,
            "user_domain_name": user_domain_name,
            "user_domain_id": user_domain_id,
            "project_name": project_name,
            "project_id": project_id,
            "project_domain_name": project_domain_name,
            "project_domain_id": project_domain_id,
        }
        problems = [*validate_auth_url(auth_url), *validate_user(given, password), *validate_margin(margin)]
        if problems:
            raise ConfigurationError(f"PasswordAuth: {'; '.join(problems)}")
        auth_url = normalize_auth_url(auth_url)
        user_domain = without_none(id=user_domain_id, name=user_domain_name) or None
        project_domain = without_none(id=project_domain_id, name=project_domain_name) or None
        self._project_id = project_id
        self._exchange = TokenClient(
            auth_url=auth_url,
            user=without_none(id=user_id, name=username, domain=user_domain),
            password=Secret(password),
            project=without_none(id=project_id, name=project_name, domain=project_domain),
            margin=margin,
            cache=None if cache_file is None else _open_cache(cache_file, (auth_url, *given.values()), clock),
            random=random or Random(),  # noqa: S311 - jitter, not a secret
        )
        self._renewals = TokenSource(self._exchange.fetch, "PasswordAuth")

    def __repr__(self) -> str:
        if not hasattr(self, "_exchange"):
            # A debugger looks at one whose arguments were just refused.
            return f"PasswordAuth({MASK})"
        user, project = (each.get("name") or each["id"] for each in (self._exchange.user, self._exchange.project))
        return f"PasswordAuth({self._exchange.auth_url!r}, user={user!r}, project={project!r}, password={MASK})"

    def __reduce__(self) -> str:
        raise TypeError("a PasswordAuth is not pickled: its password would be readable in the pickle")

    @property
    def project_name(self) -> str | None:
        """The project that the token is for, where it was given by name."""
        name: str | None = self._exchange.project.get("name")
        return name

    @property
    def project_id(self) -> str | None:
        """The project that the token is for, where its id was given or a token has told it."""
        return self._project_id

    def bind(self, send: Send, start: StartTask) -> None:
        """Take a way to send, from a client that is being opened.

        Raises:
            ConfigurationError: A client in another event loop is open with it.
        """
        self._renewals.bind(send, start)

    def unbind(self, send: Send) -> None:
        """Let go of it again; another client takes over what it was asking for."""
        self._renewals.unbind(send)

    def observe(self, tell: Notify) -> None:
        """Tell a client that is being opened of each new token; there may be several."""
        self._renewals.observers.add(tell)

    def unobserve(self, tell: Notify) -> None:
        """Tell it no more, when it is closed."""
        self._renewals.observers.remove(tell)

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        """Return the token's header, after getting a token if there is none.

        Raises:
            AuthenticationError: The identity service refused; the text says what to check, and whether it was asked.
            TransportError: It could not be reached or was out of order; the call itself was not sent.
            ClientClosedError: No client that uses these credentials is open.
        """
        del request
        return (await self._renewals.get()).headers

    async def renew(self, request: HttpRequest, response: HttpResponse) -> bool:
        """Get a new token after a 401; a 403 is about what the user may do, which no new token changes.

        One that came for a refused one and is refused within a minute too is a refusal of the user, for whom another
        would be refused like it.

        Raises:
            AuthenticationError: The identity service refused; the text says what to check.
            TransportError: It could not be reached or was out of order.
        """
        if response.status != _UNAUTHORIZED:
            return False
        sent = next((value for name, value in request.headers.items() if name.lower() == "x-auth-token"), None)
        return await self._renewals.renew(
            None if sent is None else SecretStr(sent), lambda: young_refusal(request, response, self.redact)
        )

    async def find_project_id(self) -> str | None:
        """Return the id of the project, as the token tells it if only its name was given; None if it does not."""
        if self._project_id is None:
            self._project_id = (await self._renewals.get()).project_id
        return self._project_id

    def redact(self, text: str) -> str:
        """Return the text without the password, however it is spelled in JSON or a URL, and without the tokens."""
        return self._exchange.redact(text)


def _open_cache(
    path: str | os.PathLike[str], identity: tuple[str | None, ...], clock: Callable[[], datetime]
) -> TokenCache:
    if not CAN_LOCK:
        raise ConfigurationError(
            f"PasswordAuth: cache_file={str(path)!r}: this system has no file locks (fcntl); leave cache_file out"
        )
    from .cache import TokenCache  # noqa: PLC0415 - only a cache file needs it

    return TokenCache(path, identity, clock=lambda: call_foreign_now("PasswordAuth's clock", clock).timestamp())
