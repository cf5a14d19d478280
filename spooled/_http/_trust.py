"""Certificates: the servers that every transport of ours accepts."""

from __future__ import annotations

import os
import ssl

from spooled.errors import ConfigurationError


def trust() -> ssl.SSLContext:
    """Return a context that checks servers by SSL_CERT_FILE, else SSL_CERT_DIR, else certifi's certificates.

    Loading them takes tens of milliseconds, so only what talks TLS asks for it.

    Raises:
        ConfigurationError: The file or folder cannot be read, or holds something else.
    """
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    try:
        if file:
            context = ssl.create_default_context(cafile=file)
        elif folder:
            context = ssl.create_default_context(capath=folder)
        else:
            import certifi

            context = ssl.create_default_context(cafile=certifi.where())
    except OSError as error:  # ssl's errors are OSErrors, and do not name the file
        variable = "SSL_CERT_FILE" if file else "SSL_CERT_DIR"
        raise ConfigurationError(
            f"environment variable {variable}: no certificates can be read from {file or folder!r}: {error}",
            hint=f"Correct or unset {variable}.",
        ) from error
    context.set_alpn_protocols(["http/1.1"])
    return context
