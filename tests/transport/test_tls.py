"""A server is trusted by its certificate or not at all, and a handshake that fails has delivered nothing (R3, R5)."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from bms_async import HttpRequest, HttpResponse, HttpxTransport, TransportError
from bms_async.transport._connect import refuse_old_tls
from bms_async.transport.http1 import Http1Transport
from tests.transport._transports import make_transport
from tests.transport._trials import TIMEOUT, outcome_of
from tests.transport.authority import FUTURE, LONG_AGO, PAST, Authority
from tests.transport.loopback import PATIENCE, Behaviour, Loopback, Talk, answer, answers, server_context
from tests.transport.memory import MemoryServer, MemoryTalk, run_in_memory

TOKEN = "gAAAAAB-a-token-that-nobody-may-see"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def trusts_authority(authority: Authority) -> ssl.SSLContext:
    return authority.trusted()


def request(url: str, timeout: float = PATIENCE) -> HttpRequest:
    return HttpRequest(
        operation="servers.reboot",
        method="POST",
        url=f"{url}/action",
        headers={"X-Auth-Token": TOKEN},
        body=b"{}",
        timeout=timeout,
    )


def with_context(context: ssl.SSLContext) -> Behaviour:
    async def behave(talk: Talk) -> None:
        await talk.begin_tls(context)
        await answers(answer(body=b'"over TLS"'))(talk)

    return behave


def check_nothing_was_delivered(error: object, address: str) -> None:
    assert isinstance(error, TransportError)
    assert not error.maybe_delivered
    assert address in str(error)
    shown = [str(link) + repr(link) for link in (error, error.__cause__, error.__context__)]
    assert TOKEN not in "".join(shown)


class Untrusted(NamedTuple):
    """A certificate, how the server is called, and the reason not to trust it."""

    certificate: dict[str, Any]
    hosts: tuple[str, ...]
    reason: str
    name: str = "127.0.0.1"


BOTH = ("localhost", "127.0.0.1")
UNTRUSTED = {
    "expired": Untrusted({"not_before": LONG_AGO, "not_after": PAST}, BOTH, "certificate has expired"),
    "not yet valid": Untrusted({"not_before": FUTURE}, BOTH, "certificate is not yet valid"),
    "for another name": Untrusted({}, ("other.example", "127.0.0.1"), "Hostname mismatch", "localhost"),
    "for another address": Untrusted({}, ("localhost", "127.0.0.2"), "IP address mismatch"),
    "for a name under it": Untrusted({}, ("*.localhost",), "Hostname mismatch", "localhost"),
    "for an address as a name": Untrusted({}, ("localhost",), "IP address mismatch"),
    "for nobody": Untrusted({}, (), "mismatch"),
    "signed by itself": Untrusted({"signs_itself": True}, BOTH, "self-signed certificate"),
}


@pytest.mark.parametrize("kind", UNTRUSTED.values(), ids=UNTRUSTED)
async def test_a_certificate_that_proves_nothing_gets_nothing(
    library: ModuleType, authority: Authority, trusts_authority: ssl.SSLContext, kind: Untrusted
) -> None:
    context = authority.server(*kind.hosts, **kind.certificate)
    async with (
        Loopback(with_context(context)) as server,
        make_transport(library, trusts_authority, 1) as transport,
    ):
        address = f"https://{kind.name}:{server.port}"
        error = await outcome_of(transport.send(request(address)))
        check_nothing_was_delivered(error, address)
        assert "CERTIFICATE_VERIFY_FAILED" in str(error)
        assert kind.reason in str(error)
        assert server.heard == []


@pytest.mark.parametrize("name", BOTH)
async def test_a_certificate_of_the_authority_is_trusted(
    library: ModuleType, authority: Authority, trusts_authority: ssl.SSLContext, name: str
) -> None:
    # Without this one those above might fail for another reason.
    context = authority.server(*BOTH)
    async with (
        Loopback(with_context(context)) as server,
        make_transport(library, trusts_authority, 1) as transport,
    ):
        response = await transport.send(request(f"https://{name}:{server.port}"))
        assert response.body == b'"over TLS"'


OWN = pytest.mark.parametrize("make", [HttpxTransport, Http1Transport])


@OWN
async def test_a_private_authority_is_trusted_with_its_bundle_and_http_1_1_is_offered(
    make: Any, authority: Authority
) -> None:
    offered: list[str | None] = []
    context = authority.server(*BOTH)
    context.set_alpn_protocols(["h2", "http/1.1"])

    async def behave(talk: Talk) -> None:
        await talk.begin_tls(context)
        offered.append(talk._writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await answers(answer(body=b'"over TLS"'))(talk)

    async with Loopback(behave) as server, make(ca_bundle=authority.bundle) as transport:
        assert (await transport.send(request(server.secure_url))).body == b'"over TLS"'
    assert offered == ["http/1.1"]


@OWN
async def test_a_private_authority_is_not_trusted_without_its_bundle(make: Any, authority: Authority) -> None:
    async with Loopback(with_context(authority.server(*BOTH))) as server, make() as transport:
        error = await outcome_of(transport.send(request(server.secure_url)))
        check_nothing_was_delivered(error, server.secure_url)
        assert "unable to get local issuer certificate" in str(error)
        assert "ca_bundle or OS_CACERT" in str(error)


@pytest.fixture
def speaks_old_tls(authority: Authority) -> ssl.SSLContext:
    context = authority.server(*BOTH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    return context


async def test_a_server_that_speaks_tls_1_1_only_gets_nothing(
    library: ModuleType, trusts_authority: ssl.SSLContext, speaks_old_tls: ssl.SSLContext
) -> None:
    # As our own contexts do, wherever Python was built; the next test shows it.
    refuse_old_tls(trusts_authority)

    async def refuses(talk: Talk) -> None:
        # asyncio's server would hang up without the alert, which names the reason.
        inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        inward.write(await talk._reader.read(65536))
        with pytest.raises(ssl.SSLError):
            speaks_old_tls.wrap_bio(inward, outward, server_side=True).do_handshake()
        await talk.say(outward.read())

    async with Loopback(refuses) as server, make_transport(library, trusts_authority, 1) as transport:
        error = await outcome_of(transport.send(request(server.secure_url)))
        check_nothing_was_delivered(error, server.secure_url)
        assert "ALERT_PROTOCOL_VERSION" in str(error)


@OWN
async def test_contexts_of_our_own_refuse_tls_below_1_2_though_the_system_allows_it(
    make: Any, authority: Authority, speaks_old_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ssl.SSLContext] = []

    def lax(**files: Any) -> ssl.SSLContext:
        context = usual(**files)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        made.append(context)
        return context

    usual = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lax)
    async with Loopback(with_context(speaks_old_tls)) as server, make(ca_bundle=authority.bundle) as transport:
        error = await outcome_of(transport.send(request(server.secure_url)))
        check_nothing_was_delivered(error, server.secure_url)
    assert {context.minimum_version for context in made} == {ssl.TLSVersion.TLSv1_2}


async def test_a_client_that_accepts_anything_does_speak_with_it(
    authority: Authority, speaks_old_tls: ssl.SSLContext
) -> None:
    # Without this one the server might be unable to speak at all.
    lax = authority.trusted()
    lax.set_ciphers("DEFAULT@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        lax.minimum_version = ssl.TLSVersion.TLSv1
    async with Loopback(with_context(speaks_old_tls)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=lax)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.1"
        writer.close()
        await writer.wait_closed()
        assert await reader.read() == b""


async def test_plain_http_to_a_port_with_tls_is_an_error(
    library: ModuleType, trusting: ssl.SSLContext, authority: Authority
) -> None:
    async with (
        Loopback(with_context(authority.server(*BOTH))) as server,
        make_transport(library, trusting, 1) as transport,
    ):
        error = await outcome_of(transport.send(request(server.url)))
        assert isinstance(error, TransportError)
        # It was read, if only by something that does not understand it.
        assert error.maybe_delivered
        assert TOKEN not in str(error)
        assert server.heard == []


def flight_of_server(hello: bytes, context: ssl.SSLContext) -> bytes:
    """Return what a server writes when it has read the beginning of a handshake."""
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    handshake = context.wrap_bio(inward, outward, server_side=True)
    inward.write(hello)
    with pytest.raises(ssl.SSLWantReadError):
        handshake.do_handshake()
    return outward.read()


@pytest.mark.parametrize("resets", [True, False])
def test_a_handshake_cut_off_anywhere_delivers_nothing(
    library: ModuleType, trusting: ssl.SSLContext, resets: bool
) -> None:
    sizes: list[int] = []
    cuts: Iterator[int] = iter(range(0, 100_000, 23))

    async def behave(talk: Talk) -> None:
        hello = await talk._reader.read(65536)
        flight = flight_of_server(hello, server_context())
        sizes.append(len(flight))
        await talk.say(flight[: next(cuts)])
        if resets:
            talk.reset()

    async def main() -> None:
        async with MemoryServer(behave) as server, make_transport(library, trusting, 1) as transport:
            tried = 0
            while not sizes or tried * 23 < sizes[0]:
                error = await outcome_of(transport.send(request(server.secure_url, TIMEOUT)))
                check_nothing_was_delivered(error, server.secure_url)
                tried += 1
            assert tried > 20
            await asyncio.sleep(0)
            assert all(end.closed for end in server.ends)

    run_in_memory(main)


@pytest.mark.parametrize("read", [0, 1, 5, 6, 50, 200])
def test_a_handshake_reset_after_some_bytes_delivers_nothing(
    library: ModuleType, trusting: ssl.SSLContext, read: int
) -> None:
    async def behave(talk: Talk) -> None:
        assert isinstance(talk, MemoryTalk)
        await talk.hear_bytes(read)
        talk.reset()

    async def main() -> None:
        async with MemoryServer(behave) as server, make_transport(library, trusting, 1) as transport:
            error = await outcome_of(transport.send(request(server.secure_url, TIMEOUT)))
            check_nothing_was_delivered(error, server.secure_url)

    run_in_memory(main)


HEAD = b"HTTP/1.1 200 OK\r\n"
CUT = {
    "in a head": HEAD[:-4],
    "in a body of a length": HEAD + b'Content-Length: 20\r\n\r\n"half',
    "in a chunk": HEAD + b'Transfer-Encoding: chunked\r\n\r\n14\r\n"half',
}


def then_cut(text: bytes, context: ssl.SSLContext) -> Behaviour:
    """Say something over TLS, and end the connection below it without a farewell."""

    async def behave(talk: Talk) -> None:
        await talk.begin_tls(context)
        while await talk.hear() is not None:
            if len(talk.server.heard) > 1:
                await talk.say(answer(body=b'"next"'))
                continue
            await talk.say(text)
            end = talk._writer.get_extra_info("end")
            end.close()

    return behave


@pytest.mark.parametrize("text", CUT.values(), ids=CUT)
def test_a_response_cut_below_tls_is_an_error(library: ModuleType, trusting: ssl.SSLContext, text: bytes) -> None:
    async def main() -> None:
        async with (
            MemoryServer(then_cut(text, server_context())) as server,
            make_transport(library, trusting, 1) as transport,
        ):
            error = await outcome_of(transport.send(request(server.secure_url, TIMEOUT)))
            assert isinstance(error, TransportError)
            assert error.maybe_delivered
            assert (await transport.send(request(server.secure_url, TIMEOUT))).body == b'"next"'
            assert server.accepted == 2

    run_in_memory(main)


def test_a_body_that_ends_with_its_connection_and_is_cut_below_tls_says_no_more_than_came(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    # None of the libraries shows whether the farewell of TLS came; half a document is noticed where it is read.
    async def main() -> None:
        async with (
            MemoryServer(then_cut(HEAD + b'\r\n"half', server_context())) as server,
            make_transport(library, trusting, 1) as transport,
        ):
            outcome = await outcome_of(transport.send(request(server.secure_url, TIMEOUT)))
            assert isinstance(outcome, TransportError) or (
                isinstance(outcome, HttpResponse) and outcome.body == b'"half'
            )
            assert (await transport.send(request(server.secure_url, TIMEOUT))).body == b'"next"'
            assert server.accepted == 2

    run_in_memory(main)
