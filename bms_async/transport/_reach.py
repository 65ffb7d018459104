"""What an error says of a connection that did not come about."""

from __future__ import annotations

from urllib.parse import urlsplit

from bms_async.wire import HttpRequest


def tell_unreachable(request: HttpRequest, why: str) -> str:
    """Tell why there is no connection, whom it was for, and what to look at.

    Args:
        request: What was to be sent.
        why: What the library said.
    """
    place = urlsplit(request.url)
    # Without the name and the password that an address may begin with.
    address = f"{place.scheme}://{place.netloc.rpartition('@')[2]}"
    if "CERTIFICATE_VERIFY_FAILED" in why:
        look = "if a private authority signs for it, name its certificates with ca_bundle or OS_CACERT"
    elif "WRONG_VERSION_NUMBER" in why:
        look = "no TLS is spoken there; is the port right, or is it an http address of this machine?"
    else:
        look = "are its endpoint and region right, and is there a way to it from here?"
    return f"{why}; no connection to {address}: {look}"
