"""Which addresses a webhook may call.

Whoever may create a webhook can make the server send requests, so by default it calls public addresses only: not this
machine, not the network it stands in, not a cloud's metadata service. A name proves nothing, because what it resolves
to can change between the check and the call. So a sender resolves once, checks every address, and connects to one of
those that it has checked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from urllib.parse import urlsplit

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SHARED = ipaddress.ip_network("100.64.0.0/10")
URL_PATTERN = (
    r"^[Hh][Tt][Tt][Pp][Ss]?://([A-Za-z0-9._~%!$&'()*+,;=:-]*@)?"
    r"([A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?\])"
    r"(:[0-9]{0,5})?([/?#][!-~]*)?$"
)
"""What has the form of a URL that is called. Whether it is one, `check_url` says."""

_URL = re.compile(URL_PATTERN)
_NUMERIC = re.compile(r"[0-9a-fx.]+", re.IGNORECASE)
# Names that mean "here" by definition, whatever a resolver says.
_LOCAL_NAMES = ("localhost", "local", "internal")


class RefusedTargetError(Exception):
    """The server does not call this address. The message says why."""


class UnresolvedError(Exception):
    """The host has no address at present."""


def is_public(address: str) -> bool:
    """Return whether everybody on the internet means the same machine by this IP address, and it is one machine."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        carried = _carried(ip)
        if carried is not None:
            return is_public(str(carried))
    elif ip in _SHARED:
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _carried(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 one leads to by way of a translator."""
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    if ip.teredo is not None:
        return ip.teredo[1]
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None


def check_url(url: str, *, allow_private: bool) -> None:
    """Refuse what can be refused without asking a resolver.

    Raises:
        RefusedTargetError: not an http or https URL with a host, or one that is known to lead to no public address.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise RefusedTargetError("must be an http or https URL") from None
    if not _URL.fullmatch(url) or not host or port == 0:
        raise RefusedTargetError("must be an http or https URL")
    if allow_private:
        return
    name = host.rstrip(".").lower()
    literal = _literal(name)
    if literal is not None:
        _require_public(host, literal)
    elif name.rpartition(".")[2] in _LOCAL_NAMES:
        raise _private(host)


def _literal(host: str) -> str | None:
    """Return the IP address that a host spells out, in any of the ways in which a resolver would take it for one."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    if not _NUMERIC.fullmatch(host):
        return None
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


async def resolve(host: str, port: int, *, allow_private: bool) -> list[str]:
    """Return the IP addresses of a host, all of them checked. One bad address refuses the host.

    Raises:
        RefusedTargetError: the host has an address that is not public.
        UnresolvedError: it has none.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnresolvedError(f"cannot resolve {host!r}: {error}") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not addresses:
        raise UnresolvedError(f"{host!r} has no address")
    if not allow_private:
        for address in addresses:
            _require_public(host, address)
    return addresses


def _require_public(host: str, address: str) -> None:
    if not is_public(address):
        raise _private(host)


def _private(host: str) -> RefusedTargetError:
    # The address itself is not told: it would let a stranger read the server's own name service.
    return RefusedTargetError(
        f"{host!r} is not a public address; a server that may call it is started with --allow-private-webhooks"
    )
