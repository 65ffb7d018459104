"""R5: an argument that is refused does not show when it is a secret, nor do the secrets beside it."""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from bms_async import AkSkAuth, BmsClient, BmsError, HttpRequest, InvalidRequestError, PasswordAuth, Secret, StaticToken
from tests.secrets._search import Eye, watching
from tests.secrets.calls import NEW, NEW_NATIVE, SERVER
from tests.secrets.canaries import (
    ADMIN,
    METADATA,
    PASSWORD,
    PRIVATE_KEY,
    RESET,
    SECRET_KEY,
    SECURITY_TOKEN,
    TOKEN,
    USER_DATA,
)
from tests.secrets.clouds import CREDENTIALS, ENDPOINT, Cloud, client_of
from tests.secrets.failures import FAILURES
from tests.support.virtual_clock import run_virtually

HALF = "\ud800"


def _password(**given: Any) -> object:
    known = {"auth_url": "https://iam.example.com", "username": "u", "user_domain_name": "d", "project_id": "p"}
    return PasswordAuth(**{**known, "password": PASSWORD, **given})


MADE: dict[str, Callable[[], object]] = {
    "a token with a line's end": lambda: StaticToken(f"{TOKEN}\n{TOKEN}"),
    "a token of bytes": lambda: StaticToken(TOKEN.encode()),  # type: ignore[arg-type]
    "a token of no ASCII": lambda: StaticToken(f"{TOKEN}ü"),
    "a secret of bytes": lambda: Secret(TOKEN.encode()),  # type: ignore[arg-type]
    "a password of half a character": lambda: _password(password=PASSWORD + HALF),
    "a password of bytes": lambda: _password(password=PASSWORD.encode()),
    "a password in a list": lambda: _password(password=[PASSWORD]),
    "a password in the address": lambda: _password(auth_url=f"https://u:{TOKEN}@iam.example.com"),
    "a password in the address's query": lambda: _password(auth_url=f"https://iam.example.com/?p={TOKEN}"),
    "a password and no user": lambda: _password(username=None),
    "a password and two users": lambda: _password(user_id="u"),
    "a password and no margin": lambda: _password(margin=-1.0),
    "a secret key with a blank": lambda: AkSkAuth("AK", f"{SECRET_KEY} x"),
    "a secret key of bytes": lambda: AkSkAuth("AK", SECRET_KEY.encode()),  # type: ignore[arg-type]
    "a secret key without an access key": lambda: AkSkAuth(None, SECRET_KEY),
    "an access key with a comma": lambda: AkSkAuth("A,K", SECRET_KEY, SECURITY_TOKEN),
    "a security token of two lines": lambda: AkSkAuth("AK", SECRET_KEY, f"{SECURITY_TOKEN}\nx"),
    "keys and a provider": lambda: AkSkAuth("AK", SECRET_KEY, provider=lambda: None),  # type: ignore[arg-type,return-value]
    "a provider that is a key": lambda: AkSkAuth(provider=SECRET_KEY),  # type: ignore[arg-type]
    "a token for credentials": lambda: BmsClient(endpoint=ENDPOINT, project_id="p", auth=TOKEN),  # type: ignore[arg-type]
    "an endpoint with a password": lambda: BmsClient(
        endpoint=f"https://u:{TOKEN}@bms.example.com", project_id="p", auth=StaticToken(TOKEN)
    ),
    "an endpoint with a query": lambda: BmsClient(
        endpoint=f"https://bms.example.com?token={TOKEN}", project_id="p", auth=StaticToken(TOKEN)
    ),
    "a timeout of nothing": lambda: BmsClient(endpoint=ENDPOINT, project_id="p", auth=StaticToken(TOKEN), timeout=0),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_r5_a_secret_that_no_credentials_are_made_of_does_not_show(make: Callable[[], object]) -> None:
    with watching() as eye:
        with pytest.raises((BmsError, TypeError)) as caught:
            make()
        eye.look_at_error("error", caught.value)
    assert eye.found == {}


CALLED: dict[str, Callable[[BmsClient], Awaitable[object]]] = {
    "reset_password, too long": lambda bms: bms.servers.reset_password(SERVER, RESET * 3),
    "reset_password, half a character": lambda bms: bms.servers.reset_password(SERVER, RESET + HALF),
    "reset_password, of no server": lambda bms: bms.servers.reset_password("a/b", RESET),
    "reinstall_os, too long": lambda bms: bms.servers.reinstall_os(SERVER, admin_password=ADMIN * 3),
    "reinstall_os, of one kind": lambda bms: bms.servers.reinstall_os(SERVER, admin_password="Zq7xBOOTPASS root"),
    "reinstall_os, two logins": lambda bms: bms.servers.reinstall_os(
        SERVER, admin_password=ADMIN, key_name="k", user_data=USER_DATA
    ),
    "reinstall_os, data too long": lambda bms: bms.servers.reinstall_os(SERVER, user_data=USER_DATA * 2000),
    "reinstall_os, data in a list": lambda bms: bms.servers.reinstall_os(SERVER, user_data=[USER_DATA]),  # type: ignore[arg-type]
    "reinstall_os, data of half a character": lambda bms: bms.servers.reinstall_os(SERVER, user_data=USER_DATA + HALF),
    "create, a bad password": lambda bms: bms.servers.create(**NEW, admin_password=ADMIN * 3, user_data=USER_DATA),
    "create, bad data": lambda bms: bms.servers.create(**NEW, admin_password=ADMIN, user_data=USER_DATA * 2000),
    "create, bad metadata": lambda bms: bms.servers.create(**NEW, metadata={"admin_pass": METADATA * 20}),
    "create, no metadata": lambda bms: bms.servers.create(**NEW, metadata=METADATA),  # type: ignore[arg-type]
    "create, a bad count": lambda bms: bms.servers.create(**NEW, admin_password=ADMIN, count=0, user_data=USER_DATA),
    "update_metadata, too long": lambda bms: bms.servers.update_metadata(SERVER, {"admin_pass": METADATA * 20}),
    "update_metadata, half a character": lambda bms: bms.servers.update_metadata(
        SERVER, {"admin_pass": METADATA + HALF}
    ),
    "update_metadata, no mapping": lambda bms: bms.servers.update_metadata(SERVER, METADATA),  # type: ignore[arg-type]
    "native create, a bad password": lambda bms: bms.nova.servers.create(**NEW_NATIVE, admin_password=ADMIN * 3),
    "native create, bad metadata": lambda bms: bms.nova.servers.create(
        **NEW_NATIVE, admin_password=ADMIN, metadata={"admin_pass": METADATA * 20}
    ),
    "native create, bad data": lambda bms: bms.nova.servers.create(**NEW_NATIVE, user_data=USER_DATA * 2000),
    "native metadata, bad": lambda bms: bms.nova.metadata.update(SERVER, {"admin_pass": METADATA + HALF}),
    "native metadata of one key, bad": lambda bms: bms.nova.metadata.set(SERVER, "admin_pass", METADATA * 20),
    "a private key": lambda bms: bms.nova.keypairs.import_key("k", PRIVATE_KEY),
    "a private key of bytes": lambda bms: bms.nova.keypairs.import_key("k", PRIVATE_KEY.encode()),  # type: ignore[arg-type]
    "a header with a line's end": lambda bms: bms.request("GET", "/v1/a", headers={"X-Other": f"{TOKEN}\r\nX: y"}),
    "a body of half a character": lambda bms: bms.request("POST", "/v1/a", body={"password": RESET + HALF}),
    "a body that is no JSON": lambda bms: bms.request("POST", "/v1/a", body={"password": RESET, "b": object()}),
    "a path with a query": lambda bms: bms.request("GET", f"/v1/a?password={TOKEN}"),
}

# What is of another type is the caller's affair where nothing is checked.
CHECKED: dict[str, Callable[[BmsClient], Awaitable[object]]] = {
    "reset_password, too short": lambda bms: bms.servers.reset_password(SERVER, RESET[:7]),
    "reset_password, of bytes": lambda bms: bms.servers.reset_password(SERVER, RESET.encode()),  # type: ignore[arg-type]
    "reset_password, in a list": lambda bms: bms.servers.reset_password(SERVER, [RESET]),  # type: ignore[arg-type]
    "update_metadata, of bytes": lambda bms: bms.servers.update_metadata(
        SERVER,
        {"admin_pass": METADATA.encode()},  # type: ignore[dict-item]
    ),
}


@pytest.mark.parametrize("make", CHECKED.values(), ids=CHECKED)
def test_r5_a_secret_of_the_wrong_type_or_length_does_not_show(
    make: Callable[[BmsClient], Awaitable[object]],
) -> None:
    async def use(eye: Eye) -> None:
        cloud = Cloud(eye, FAILURES["400 that echoes once read"])
        async with client_of(eye, cloud, CREDENTIALS["a token"]()) as bms:
            with pytest.raises(InvalidRequestError) as caught:
                await make(bms)
            eye.look_at_error("error", caught.value)
        assert not cloud.asked

    with watching() as eye:
        run_virtually(lambda: use(eye))
    assert eye.found == {}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("make", CALLED.values(), ids=CALLED)
def test_r5_a_secret_in_an_argument_that_is_refused_does_not_show(
    make: Callable[[BmsClient], Awaitable[object]], check: bool
) -> None:
    async def use(eye: Eye) -> None:
        cloud = Cloud(eye, FAILURES["400 that echoes once read"])
        cloud.carries = ("RESET", "BOOTPASS", "USERDATA", "METAPASS")
        async with client_of(eye, cloud, CREDENTIALS["a token"](), check=check) as bms:
            with pytest.raises((BmsError, TypeError, ValueError, AttributeError)) as caught:
                await make(bms)
            eye.look_at_error("error", caught.value)
            assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args

    with watching() as eye:
        run_virtually(lambda: use(eye))
    assert eye.found == {}


class _OwnError(Exception):
    pass


async def _raises() -> Any:
    raise _OwnError(f"no keys for {SECRET_KEY}")


async def _gives(what: Any) -> Any:
    return what


PROVIDERS: dict[str, Callable[[], Any]] = {
    "a key alone": lambda: _gives(SECRET_KEY),
    "two of three": lambda: _gives(("AK", SECRET_KEY)),
    "a key with a blank": lambda: _gives(("AK", f"{SECRET_KEY} x", None)),
    "a token of two lines": lambda: _gives(("AK", SECRET_KEY, f"{SECURITY_TOKEN}\nx")),
    "keys of bytes": lambda: _gives(("AK", SECRET_KEY.encode(), SECURITY_TOKEN.encode())),
}


@pytest.mark.parametrize("provide", PROVIDERS.values(), ids=PROVIDERS)
def test_r5_what_a_provider_gives_in_vain_does_not_show(provide: Callable[[], Any]) -> None:
    async def use(eye: Eye) -> None:
        cloud = Cloud(eye, FAILURES["401 of the service"])
        async with client_of(eye, cloud, AkSkAuth(provider=provide)) as bms:
            for _ in range(2):
                with pytest.raises(BmsError) as caught:
                    await bms.servers.get(SERVER)
                eye.look_at_error("error", caught.value)

    with watching() as eye:
        run_virtually(lambda: use(eye))
    assert eye.found == {}


def test_a_provider_s_own_error_is_the_cause_and_shows_nowhere_else() -> None:
    async def use(eye: Eye) -> None:
        async with client_of(eye, Cloud(eye, FAILURES["400 with nothing"]), AkSkAuth(provider=_raises)) as bms:
            with pytest.raises(BmsError) as caught:
                await bms.servers.get(SERVER)
            assert type(caught.value.__cause__) is _OwnError
            eye.look("error", caught.value)

    with watching() as eye:
        run_virtually(lambda: use(eye))
    assert eye.found == {}


class _Unsendable:
    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        return {"X-Auth-Token": f"{TOKEN}\n"}

    def redact(self, text: str) -> str:
        return text


def test_r5_credentials_that_no_header_can_carry_do_not_show() -> None:
    async def use(eye: Eye) -> None:
        cloud = Cloud(eye, FAILURES["400 with nothing"])
        async with client_of(eye, cloud, _Unsendable()) as bms:
            with pytest.raises(BmsError) as caught:
                await bms.servers.get(SERVER)
            eye.look_at_error("error", caught.value)
        assert not cloud.asked

    with watching() as eye:
        run_virtually(lambda: use(eye))
    assert eye.found == {}
