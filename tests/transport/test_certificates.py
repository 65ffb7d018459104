"""TLS is verified, against the usual certificates or against those of `ca_bundle`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bms_async import (
    BmsClient,
    ConfigurationError,
    Http1Transport,
    HttpxTransport,
    Limits,
    StaticToken,
    TransportError,
)
from bms_async.transport import OwningTransport
from tests.transport.loopback import CERTIFICATE, Loopback, Talk, answer, answers, server_context

HASHED_NAME = "8825bcc1.0"
"""Where OpenSSL looks for the certificate of the tests in a folder; from ``openssl x509 -hash``."""

OWN = pytest.mark.parametrize("make", [HttpxTransport, Http1Transport])

SERVER = answer(body=b'{"server": {"id": "s-1", "name": "bms-1"}}')


async def over_tls(talk: Talk) -> None:
    await talk.begin_tls(server_context())
    await answers(SERVER)(talk)


def a_client(endpoint: str, ca_bundle: str | Path | None) -> BmsClient:
    return BmsClient(
        endpoint=endpoint, project_id="p", auth=StaticToken("t"), ca_bundle=ca_bundle, retry=None, limits=Limits()
    )


@pytest.mark.parametrize("form", [str, Path])
async def test_a_server_of_a_private_authority_is_trusted_with_its_bundle(form: type[str | Path]) -> None:
    async with Loopback(over_tls) as server, a_client(server.secure_url, form(CERTIFICATE)) as bms:
        assert (await bms.servers.get("s-1")).name == "bms-1"


async def test_without_the_bundle_it_is_not_and_nothing_is_sent() -> None:
    async with Loopback(over_tls) as server, a_client(server.secure_url, None) as bms:
        with pytest.raises(TransportError, match=r"CERTIFICATE_VERIFY_FAILED.*ca_bundle or OS_CACERT") as caught:
            await bms.servers.get("s-1")

    assert not caught.value.maybe_delivered
    assert server.heard == []


@pytest.mark.parametrize(
    ("content", "message"), [(None, "No such file"), (b"", "got none"), (b"-----BEGIN nothing", "got none")]
)
async def test_a_bundle_that_cannot_be_read_is_told_of_when_the_client_is_opened(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_bytes(content)
    bms = a_client("https://bms.example.com", bundle)

    with pytest.raises(ConfigurationError, match=f"ca_bundle=.*ca.pem.*{message}"):
        await bms.__aenter__()


@pytest.fixture
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(name, raising=False)


@OWN
@pytest.mark.usefixtures("nothing_named")
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SSL_CERT_FILE", "{0}/absent.pem", "No such file"),
        ("SSL_CERT_FILE", "{0}/empty.pem", "expected certificates in PEM form, got none"),
        ("SSL_CERT_DIR", "{0}/absent", "expected folders, got none that exists"),
        ("SSLKEYLOGFILE", "{0}/absent/keys", "No such file"),
    ],
    ids=["no file", "an empty file", "no folder", "no place for keys"],
)
async def test_a_variable_that_names_nothing_readable_is_told_of_by_its_name(
    make: Callable[[], OwningTransport],
    name: str,
    value: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "empty.pem").touch()
    monkeypatch.setenv(name, value.format(tmp_path))
    with pytest.raises(ConfigurationError, match=f"^{name}='{value.format(tmp_path)}': .*{message}"):
        await make().open()


@OWN
@pytest.mark.usefixtures("nothing_named")
async def test_the_folders_of_certificates_that_the_environment_names_may_be_several(
    make: Callable[[], OwningTransport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "second"
    folder.mkdir()
    (folder / HASHED_NAME).write_bytes(CERTIFICATE.read_bytes())
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path}{os.pathsep}{folder}")
    async with (
        Loopback(over_tls) as server,
        BmsClient(
            endpoint=server.secure_url, project_id="p", auth=StaticToken("t"), transport=make(), retry=None
        ) as bms,
    ):
        assert (await bms.servers.get("s-1")).name == "bms-1"


def test_a_bundle_or_a_bound_beside_a_transport_is_refused_for_it_would_not_be_used() -> None:
    for given in ({"ca_bundle": CERTIFICATE}, {"max_response_bytes": 1000}):
        with pytest.raises(ConfigurationError, match=rf"{next(iter(given))}: .*HttpxTransport\(\.\.\.\)"):
            BmsClient(
                endpoint="https://bms.example.com",
                project_id="p",
                auth=StaticToken("t"),
                transport=HttpxTransport(),
                **given,
            )


async def test_a_bundle_beside_an_httpx_client_is_refused_for_that_has_its_own() -> None:
    import httpx

    async with httpx.AsyncClient() as client:
        with pytest.raises(ConfigurationError, match="verify="):
            HttpxTransport(client, ca_bundle=CERTIFICATE)
