"""Proxies that the environment names."""

from __future__ import annotations

import base64
import socket

import pytest

from spooled import SpooledClient, errors

from .conftest import KEY, Kind, make_client, result
from .connect_proxy import ConnectProxy
from .each_transport import BRIEF, Make, get
from .raw_server import RawServer, answering
from .tls import Authority, needs_openssl

USER = "Basic " + base64.b64encode(b"me@home:p:ss").decode()


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Authority:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority


@needs_openssl
async def test_https_goes_through_a_tunnel(
    make: Make, trusted: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = ConnectProxy(USER)
    with RawServer(answering(), tls=trusted.server_context()) as server, proxy.running() as address:
        monkeypatch.setenv("https_proxy", f"http://me%40home:p%3Ass@{address}")
        transport = make(server.url)
        for _ in range(3):
            assert (await result(transport.send(get()))).status == 200
        assert proxy.targets == [server.url.removeprefix("https://")]
        assert b"proxy-authorization" not in b"".join(server.requests).lower()
        assert b"/x" not in b"".join(proxy.heads)
        await result(transport.close() if hasattr(transport, "close") else transport.aclose())


async def test_http_goes_to_the_proxy_with_its_credentials(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawServer(answering()) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://me%40home:p%3Ass@"))
        await result(make("http://spooled.test:81/base").send(get()))
        (head,) = proxy.requests
        assert head.startswith(b"GET http://spooled.test:81/base/x HTTP/1.1\r\n")
        assert f"proxy-authorization: {USER}".lower().encode() in head.lower()
        assert b"host: spooled.test:81\r\n" in head.lower()


@needs_openssl
async def test_a_proxy_may_be_spoken_to_over_tls(
    make: Make, trusted: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawServer(answering(), tls=trusted.server_context()) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert (await result(make("http://spooled.test").send(get()))).status == 200
        assert proxy.requests[0].startswith(b"GET http://spooled.test/x HTTP/1.1\r\n")


@needs_openssl
async def test_a_proxy_that_refuses_is_named_without_its_password(
    make: Make, trusted: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = ConnectProxy("Basic other")
    with proxy.running() as address:
        monkeypatch.setenv("https_proxy", f"http://me:secret-word@{address}")
        with pytest.raises(errors.NetworkError, match="407 Proxy Authentication Required") as caught:
            await result(make("https://spooled.test").send(get()))
        assert caught.value.unsent
        assert "secret-word" not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("make", ["http.client", "aiohttp"], indirect=True)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_not_there_is_a_network_error(
    make: Make, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv(f"{scheme}_proxy", f"http://me:secret-word@127.0.0.1:{port}")
    with pytest.raises(errors.NetworkError) as caught:
        await result(make(f"{scheme}://spooled.test").send(get()))
    assert caught.value.unsent
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize("make", ["http.client", "aiohttp"], indirect=True)
async def test_a_proxy_that_is_silent_cannot_hang_a_call(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(lambda connection: connection.hang()) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(errors.TimeoutError):
            await result(make("https://spooled.test").send(get(timeout=BRIEF)))


@pytest.mark.parametrize("name", ["all_proxy", "ALL_PROXY", "https_proxy"])
def test_socks_is_refused_in_one_line(kind: Kind, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "socks5://me:secret-word@proxy.test:1080")
    with pytest.raises(
        errors.ConfigurationError, match=f"{name} names the proxy socks5://proxy.test:1080"
    ) as it:
        make_client(kind, api_key=KEY, base_url="https://spooled.test")
    text = str(it.value)
    assert "http:// and https://" in text
    assert "\n" not in text
    assert "secret-word" not in text


def test_a_proxy_without_a_host_is_refused(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("http://", "http://proxy.test:port"):
        monkeypatch.setenv("http_proxy", value)
        with pytest.raises(errors.ConfigurationError, match="http_proxy must be an address"):
            make_client(kind, api_key=KEY, base_url="http://spooled.test")


async def test_a_server_that_the_exceptions_name_does_without(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.test:1080")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with RawServer(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")) as server:
        client = make_client(kind, api_key=KEY, base_url=server.url)
        assert await result(client.health.liveness())
        await result(client.close())


def test_tls_within_tls_is_refused_where_it_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "https://proxy.test:3128")
    with pytest.raises(errors.ConfigurationError, match=r"https://proxy\.test:3128 .* TLS within TLS"):
        SpooledClient(KEY, base_url="https://spooled.test")
