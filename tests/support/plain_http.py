"""An HTTP client of the tests, which asks what listens on this machine and reads no certificates for it."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support.machine import patience


def plain_client(address: str, **options: Any) -> httpx.Client:
    """Open a client of an address of plain HTTP.

    One that is ready for HTTPS reads the certificates of all the world first, which is 20 ms, and nothing here asks for
    them. Some tests open hundreds of clients.

    Args:
        address: What the paths that are asked for follow.
        options: Of httpx.Client, such as headers.
    """
    return httpx.Client(base_url=address, trust_env=False, verify=False, timeout=patience(60.0), **options)
