"""A user's name and password, exchanged for tokens that are renewed in time."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING

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
    """Authenticates with tokens that Keystone issues for a user's password (API reference 3.2 and 3.1).

    A token is requested when the first call needs it, once for all calls that wait. It is renewed in the background
    before it ends, and when the cloud refuses it. Clients may share one `PasswordAuth`, and then share its token.

    After a 401 the password is not sent again at once, because clouds lock an account after a few failed attempts: for
    30 seconds, then for 3 minutes, then for 15 minutes each time, calls get the same error without a request. The same
    pauses apply when a token that replaced a refused one is refused within a minute: another one would be refused too.
    Meanwhile calls go on with that token.

    Args:
        auth_url: The address of the IAM service (Keystone), with or without ``/v3``.
        username: The user's name; it needs `user_domain_name` or `user_domain_id` too. Or else:
        user_id: The user's id.
        password: The password, a text or a `Secret`.
        user_domain_name: The name of the account that the user belongs to.
        user_domain_id: Its id.
        project_name: The project's name; projects that the cloud made are named like their region. Or else:
        project_id: The project's id.
        project_domain_name: The account of a project that is given by name, for clouds that require it. Or else:
        project_domain_id: That account's id.
        margin: Seconds before its end at which a token is renewed, but never before half of its life is over.
        cache_file: A file through which processes of this user share tokens. It has them as plain text, readable by
            its owner only. None keeps tokens in memory.
        clock: Returns the time, timezone-aware; used for the tokens in `cache_file` only.
        random: Draws the delays between attempts, for tests.

    Raises:
        ConfigurationError: Arguments are missing or contradict each other; the text names all problems.
    """

    __slots__ = ("_client", "_project_id", "_tokens")

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
        # An invalid address may hold a password too.
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
        self._client = TokenClient(
            auth_url=auth_url,
            user=without_none(id=user_id, name=username, domain=user_domain),
            password=Secret(password),
            project=without_none(id=project_id, name=project_name, domain=project_domain),
            margin=margin,
            cache=None if cache_file is None else _open_cache(cache_file, (auth_url, *given.values()), clock),
            random=random or Random(),  # noqa: S311 - jitter, not a secret
        )
        self._tokens = TokenSource(self._client.fetch, "PasswordAuth")

    def __repr__(self) -> str:
        if not hasattr(self, "_client"):
            # A debugger may show an instance whose arguments were just rejected.
            return f"PasswordAuth({MASK})"
        user, project = (item.get("name") or item["id"] for item in (self._client.user, self._client.project))
        return f"PasswordAuth({self._client.auth_url!r}, user={user!r}, project={project!r}, password={MASK})"

    def __reduce__(self) -> str:
        raise TypeError("a PasswordAuth is not pickled: its password would be readable in the pickle")

    @property
    def user(self) -> str:
        """The user's name, or id if it was given by id."""
        return str(self._client.user.get("name") or self._client.user["id"])

    @property
    def project_name(self) -> str | None:
        """The name of the project that the token is for, if it was given by name."""
        name: str | None = self._client.project.get("name")
        return name

    @property
    def project_id(self) -> str | None:
        """The id of the project that the token is for; None until it is given or known from a token."""
        return self._project_id

    def bind(self, send: Send, start: StartTask) -> None:
        """Register the functions of a client that is being opened.

        Raises:
            ConfigurationError: A client in another event loop is open with these credentials.
        """
        self._tokens.bind(send, start)

    def unbind(self, send: Send) -> None:
        """Unregister a client that is being closed; another one takes over the renewal that it runs."""
        self._tokens.unbind(send)

    def observe(self, notify: Notify) -> None:
        """Register a client that is being opened, to be notified of each renewal."""
        self._tokens.observers.add(notify)

    def unobserve(self, notify: Notify) -> None:
        """Unregister a client that is being closed."""
        self._tokens.observers.remove(notify)

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        """Return the token's header, after requesting a token if there is none.

        Raises:
            AuthenticationError: The identity service refused the request, now or recently; the text says what to check.
            TransportError: It could not be reached or failed; the call itself was not sent.
            ClientClosedError: No client that uses these credentials is open.
        """
        del request
        return (await self._tokens.get()).headers

    async def renew(self, request: HttpRequest, response: HttpResponse) -> bool:
        """Get a new token after a 401. A 403 is about the user's permissions, which no new token changes.

        A token that replaced a refused one and is refused within a minute is not replaced: the user is refused.

        Raises:
            AuthenticationError: The identity service refused the request; the text says what to check.
            TransportError: It could not be reached or failed.
        """
        if response.status != _UNAUTHORIZED:
            return False
        sent = next((value for name, value in request.headers.items() if name.lower() == "x-auth-token"), None)
        return await self._tokens.renew(
            None if sent is None else SecretStr(sent), lambda: young_refusal(request, response, self.redact)
        )

    async def find_project_id(self) -> str | None:
        """Return the id of the project: the given one, or the token's; None if the token has none."""
        if self._project_id is None:
            self._project_id = (await self._tokens.get()).project_id
        return self._project_id

    def redact(self, text: str) -> str:
        """Return the text with the password masked, also as JSON or a URL encode it, and the tokens."""
        return self._client.redact(text)


def _open_cache(
    path: str | os.PathLike[str], identity: tuple[str | None, ...], clock: Callable[[], datetime]
) -> TokenCache:
    if not hasattr(os, "geteuid"):
        raise ConfigurationError(
            f"PasswordAuth: cache_file={str(path)!r}: on Windows nobody can check who may read the file; leave"
            " cache_file out"
        )
    from .cache import TokenCache  # noqa: PLC0415 - only a cache file needs it

    return TokenCache(path, identity, clock=lambda: call_foreign_now("PasswordAuth's clock", clock).timestamp())
