"""Whose word TLS takes for who the cloud is."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from bms_async.errors import ConfigurationError


def trust(ca_bundle: str | os.PathLike[str]) -> ssl.SSLContext:
    """Return a context that trusts these certificates and no others; it reads files, and so belongs into a thread.

    Args:
        ca_bundle: A file in PEM form, or a folder of such files with the names that OpenSSL gives them.

    Raises:
        ConfigurationError: It cannot be read, or holds no certificate.
    """
    path = Path(ca_bundle).expanduser()
    try:
        if path.is_dir():
            return ssl.create_default_context(capath=str(path))
        return ssl.create_default_context(cafile=str(path))
    except ssl.SSLError as error:
        raise ConfigurationError(f"ca_bundle={str(path)!r}: no certificate in PEM form is in it") from error
    except OSError as error:
        raise ConfigurationError(f"ca_bundle={str(path)!r}: {error.strerror or type(error).__name__}") from error
