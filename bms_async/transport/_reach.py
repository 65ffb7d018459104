"""What an error says of a connection that did not come about."""

from __future__ import annotations

from urllib.parse import urlsplit

from bms_async.wire import HttpRequest

_WANTS_A_PASSWORD = 407


def tell_unreachable(request: HttpRequest, why: str, proxy: str | None = None) -> str:
    """Tell why there is no connection, to whom, and what to look at.

    Args:
        request: What was to be sent.
        why: What the library said.
        proxy: Host and port of the proxy that it was to lead through, and that did what a proxy has to do.
    """
    if "CERTIFICATE_VERIFY_FAILED" in why:
        look = "if a private authority signs for it, name its certificates with ca_bundle or OS_CACERT"
    elif "WRONG_VERSION_NUMBER" in why:
        look = "no TLS is spoken there; is the port right, or is it an http address of this machine?"
    else:
        look = "are its endpoint and region right, and is there a way to it from here?"
    through = "" if proxy is None else f" through the proxy {proxy}"
    return f"{why}; no connection to {_address(request)}{through}: {look}"


def tell_proxy_unreachable(request: HttpRequest, why: str, proxy: str) -> str:
    """Tell that the proxy is not there, or says nothing; of the server nothing is known then.

    Args:
        request: What was to be sent.
        why: What the library said.
        proxy: Host and port of the proxy.
    """
    return (
        f"ProxyError: no connection to the proxy {proxy}, through which {_address(request)} is reached ({why}): "
        "is the proxy's address right, or should NO_PROXY name the server?"
    )


def tell_proxy_refused(request: HttpRequest, status: int | None, proxy: str) -> str:
    """Tell that the proxy does not lead to the server.

    Args:
        request: What was to be sent.
        status: What it answered; None where it hung up instead.
        proxy: Host and port of the proxy.
    """
    did = "hung up instead of answering CONNECT" if status is None else f"answered {status} to CONNECT"
    look = (
        "it wants a name and a password, which its address has before the host: http://name:password@host:port"
        if status == _WANTS_A_PASSWORD
        else "does it allow that address, or should NO_PROXY name the server?"
    )
    return f"ProxyError: the proxy {proxy} {did}, and so {_address(request)} was not reached: {look}"


def tell_proxy_unusable(request: HttpRequest, trouble: str) -> str:
    """Tell why the proxy that is named cannot be used."""
    return f"ProxyError: the proxy to {_address(request)} cannot be used: {trouble}"


def _address(request: HttpRequest) -> str:
    place = urlsplit(request.url)
    # Without the name and the password that an address may begin with.
    return f"{place.scheme}://{place.netloc.rpartition('@')[2]}"
