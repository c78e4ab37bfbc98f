"""Why a server could not be talked to, and which address would be right."""

from __future__ import annotations

import asyncio
import socket
import ssl
from urllib.parse import urlsplit

import httpx2

from arena_assets.models.served.problems import Misconfigured, NoAnswer, Passing, Unreachable

_HANDSHAKE_SECONDS = 3.0


async def broken_connection(error: httpx2.RequestError, url: str, new: bool) -> NoAnswer:
    """What follows from a connection that was not made, or that broke.

    `new` says that nothing ever came from this address: http:// may be wrong then, which a TLS
    server tells by hanging up.
    """
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if any(getattr(cause, "errno", None) == socket.EAI_NONAME for cause in causes):
        return Misconfigured(f"{words}; endpoint.urls names a host that is not known")
    if "CERTIFICATE_VERIFY_FAILED" in words:
        return Misconfigured(f"{words}; SSL_CERT_FILE may name the certificate to trust")
    if "[SSL" in words:
        return Misconfigured(f"{words}; the server seems to speak http://")
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return Unreachable(words)
    if new and url.startswith("http://") and await _speaks_tls(url):
        return Misconfigured(f"{words}; the server speaks https://, endpoint.urls says http://")
    return Passing(words)


async def _speaks_tls(url: str) -> bool:
    """Whether a handshake succeeds; whom the certificate is for does not matter here."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    place = urlsplit(url)
    try:
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            _, writer = await asyncio.open_connection(place.hostname, place.port or 80, ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
