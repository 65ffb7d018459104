"""The native API's versions (API reference 5.1), and the documents by which clients find them."""

import re
from typing import Any, Final

from starlette.requests import Request

from bms_async.simulator.core.refusals import Refusal, bad_request, native

__all__ = [
    "HOST",
    "LOCKED",
    "LONG_NAMES",
    "NEWEST",
    "NOTES",
    "TAGS",
    "Microversion",
    "compute_version",
    "microversion",
    "with_tags",
]

Microversion = tuple[int, int]

_FIRST: Final[Microversion] = (2, 1)
LONG_NAMES: Final[Microversion] = (2, 3)
LOCKED: Final[Microversion] = (2, 9)
HOST: Final[Microversion] = (2, 16)
NOTES: Final[Microversion] = (2, 19)
TAGS: Final[Microversion] = (2, 26)
NEWEST: Final[Microversion] = (2, 26)
"""The newest supported microversion: later ones change the documented shapes."""

_OLD_HEADER: Final = "X-OpenStack-Nova-API-Version"
_NEW_HEADER: Final = "OpenStack-API-Version"
_NUMBER: Final = re.compile(r"([1-9]\d{0,2})\.(0|[1-9]\d{0,2})")


def microversion(request: Request) -> Microversion:
    """Which microversion a call asks for, by either header.

    Raises:
        Refusal: It is none, or newer than the cloud.
    """
    headers = request.headers
    text = headers.get(_OLD_HEADER)
    if text is None:
        service, _, number = headers.get(_NEW_HEADER, "").partition(" ")
        text = number if service == "compute" else None
    if text is None:
        return _FIRST
    if text == "latest":
        return NEWEST
    read = _NUMBER.fullmatch(text)
    if read is None:
        raise bad_request(f"API Version String {text} is of invalid format.")
    asked = int(read[1]), int(read[2])
    if not _FIRST <= asked <= NEWEST:
        raise native(406, f"Version {text} is not supported: there are 2.1 to 2.{NEWEST[1]}.")
    return asked


def with_tags(request: Request) -> None:
    """Let a call pass that only exists since there are tags.

    Raises:
        Refusal: It asks for an older microversion, in which there is nothing at its address.
    """
    if microversion(request) < TAGS:
        raise Refusal(404, "itemNotFound", "The resource could not be found.", "nova")


def compute_version(base: str) -> dict[str, Any]:
    """The native API's one version, as Nova describes it."""
    return {
        "id": "v2.1",
        "status": "CURRENT",
        "version": f"2.{NEWEST[1]}",
        "min_version": "2.1",
        "updated": "2013-07-23T11:33:21Z",
        "links": [{"rel": "self", "href": f"{base}/v2.1/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"}],
    }
