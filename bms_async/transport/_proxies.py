"""Which proxy the environment names."""

from __future__ import annotations

from urllib.request import getproxies, proxy_bypass

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"http": 80, "https": 443}


def proxy_from_environment(scheme: str, host: str, port: int | None) -> str | None:
    """Return the address of the proxy to a server; None where it is reached directly.

    On some systems this asks more than the environment, and so belongs into a thread.
    """
    # What runs on this machine is not reached through a proxy, whatever NO_PROXY forgets to say.
    # A port must be there: without one, the end of an IPv6 address would be taken for it.
    if host in _LOOPBACK or proxy_bypass(f"{host}:{port or _PORTS.get(scheme, 0)}"):
        return None
    proxies = getproxies()
    return proxies.get(scheme) or proxies.get("all")
