"""The default transport of threads: the standard library's HTTP, over connections that are kept."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from http.client import HTTPException
from urllib.parse import quote, urlencode, urlsplit

from spooled._http._bodies import BodyError, TooLargeError
from spooled._http._connection import (
    Connection,
    TunnelRefusedError,
    connect,
    header_lines,
    request_head,
    secure,
    tunnel_request,
)
from spooled._http._connection_pool import ConnectionPool
from spooled._http._failures import (
    broken,
    crowded,
    not_let_through,
    overdue,
    too_large,
    unconnected,
    unreachable,
)
from spooled._http._messages import Request, Response
from spooled._http._proxy import proxy_for, take_apart
from spooled._http._trust import trust
from spooled.config import ClientConfig
from spooled.errors import ConfigurationError


class HttpClientTransport:
    """Sends requests from any number of threads or greenlets, and from children of a fork.

    A child of a fork opens connections of its own. Names are resolved by the operating system, whose time is not
    bounded by the request's.

    Args:
        config: Address, timeouts, connection limit, size of answers.
        max_connections: Overrides the configuration's.

    Raises:
        ConfigurationError: The environment names a proxy or certificates that cannot be used.
    """

    def __init__(self, config: ClientConfig, *, max_connections: int | None = None) -> None:
        self._base_url = config.base_url
        self._connect_timeout = config.connect_timeout
        self._limit = config.max_response_bytes
        self._user_agent = config.user_agent
        self._size = max_connections or config.max_connections
        parts = urlsplit(config.base_url)
        host = parts.hostname or ""
        if not host.isascii():
            host = host.encode("idna").decode()
        self._secure = parts.scheme == "https"
        port = parts.port or (443 if self._secure else 80)
        name = f"[{host}]" if ":" in host else host
        self._host = name if parts.port is None else f"{name}:{port}"
        self._address = (host, port)
        self._tunnel_to = f"{name}:{port}"
        self._prefix = quote(parts.path, safe="/%~!$&'()*+,;=:@-._")
        url = proxy_for(config.base_url)
        self._proxy = proxy = None if url is None else take_apart(url)
        if proxy is not None:
            if proxy.scheme == "https" and self._secure:
                raise ConfigurationError(
                    f"the proxy https://{proxy.address} for {config.base_url} would need TLS within TLS",
                    hint="Name the proxy with http://, or pass transport=httpx.HTTPTransport(proxy=...).",
                )
            if not self._secure:
                self._prefix = f"http://{self._host}{self._prefix}"
        self._trust = trust() if self._secure or (proxy is not None and proxy.scheme == "https") else None
        self._pools: dict[int, ConnectionPool] = {}
        self._lines: tuple[object, bytes, str] = (None, b"", "")

    def send(self, request: Request) -> Response:
        deadline = time.monotonic() + request.timeout
        target = self._prefix + request.path
        if request.query:
            target += "?" + urlencode(request.query)
        length = None if request.body is None else len(request.body)
        if length is None and request.method in {"POST", "PUT", "PATCH"}:
            length = 0
        host, lines = self._headers(request.headers)
        head = request_head(target, request.method, host, lines, length)
        pool = self._pool()
        if not pool.room.acquire(timeout=request.timeout):
            raise crowded(request)
        try:
            return self._send(pool, request, head, deadline)
        finally:
            pool.room.release()

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()

    def _send(self, pool: ConnectionPool, request: Request, head: bytes, deadline: float) -> Response:
        while True:
            connection = pool.take()
            reused = connection is not None
            if connection is None:
                connection = self._connect(request, deadline)
                pool.add(connection)
            keep = False
            try:
                response, keep = connection.exchange(
                    request.method, head, request.body, deadline, self._limit
                )
                return response
            except TimeoutError as error:
                raise overdue(request) from error
            except TooLargeError as error:
                raise too_large(request, self._limit) from error
            except (OSError, HTTPException, BodyError) as error:
                stale = reused and not connection.received
                if stale:
                    pool.close_idle()  # their server has most likely closed them too
                if not stale or connection.sent:
                    raise broken(self._base_url, request, error, stale=stale) from error
                # Nothing was sent, so this is no second attempt.
            finally:
                if keep:
                    pool.give_back(connection)
                else:
                    pool.drop(connection)

    def _connect(self, request: Request, deadline: float) -> Connection:
        """Return a new connection on which the request can be sent.

        Raises:
            NetworkError, TimeoutError: There is none; nothing was sent.
        """
        deadline = min(deadline, time.monotonic() + self._connect_timeout)
        try:
            return self._open(deadline)
        except TimeoutError as error:
            raise unconnected(self._base_url, request, self._connect_timeout) from error
        except TunnelRefusedError as error:
            assert self._proxy is not None
            raise not_let_through(
                self._base_url, request, self._proxy.address, error.status, error.reason
            ) from error
        except (OSError, HTTPException) as error:
            raise unreachable(self._base_url, request, error) from error

    def _open(self, deadline: float) -> Connection:
        host, port = self._address
        proxy = self._proxy
        connection = (
            connect(host, port, deadline) if proxy is None else connect(proxy.host, proxy.port, deadline)
        )
        try:
            if proxy is not None and proxy.scheme == "https":
                assert self._trust is not None
                secure(connection, self._trust, proxy.host, deadline)
            if self._secure:
                assert self._trust is not None
                if proxy is not None:
                    connection.tunnel(tunnel_request(proxy, self._tunnel_to, self._user_agent), deadline)
                secure(connection, self._trust, host, deadline)
        except BaseException:
            connection.close()
            raise
        return connection

    def _pool(self) -> ConnectionPool:
        """Return this process's connections: a child of a fork must not use its parent's."""
        pid = os.getpid()
        pool = self._pools.get(pid)
        if pool is None:
            # One step, so that of two threads that come at once both get the same one.
            pool = self._pools.setdefault(pid, ConnectionPool(self._size))
            for other in list(self._pools):
                inherited = self._pools.pop(other, None) if other != pid else None
                if inherited is not None:
                    inherited.leave_to_parent()
        return pool

    def _headers(self, headers: Mapping[str, str]) -> tuple[str, bytes]:
        """Return the host to name and the other lines. The user's headers may name another host."""
        # A session sends the same mapping until its credentials change, so its lines are kept.
        given, lines, host = self._lines
        if given is not headers:
            host = headers.get("host", self._host)
            lines = header_lines({name: value for name, value in headers.items() if name != "host"})
            if self._proxy is not None and self._proxy.authorization is not None and not self._secure:
                lines += header_lines({"proxy-authorization": self._proxy.authorization})
            self._lines = (headers, lines, host)
        return host, lines
