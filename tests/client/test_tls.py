"""Servers over TLS: whose certificates are accepted, and what goes wrong before a request is sent."""

from __future__ import annotations

from typing import Any

import pytest

from spooled import errors
from spooled._http._messages import Request

from .conftest import KEY, Kind, make_client, result
from .each_transport import BRIEF, PATIENT, Make, get
from .raw_server import Connection, RawServer, answering
from .tls import Authority, needs_openssl

pytestmark = needs_openssl


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Authority:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority


async def test_a_certificate_of_a_trusted_authority_is_accepted(make: Make, trusted: Authority) -> None:
    with RawServer(answering(), tls=trusted.server_context()) as server:
        transport = make(server.url)
        for _ in range(3):
            assert (await result(transport.send(get()))).body == b"{}"
        assert server.connections == 1


async def test_the_authority_may_lie_in_a_folder(
    make: Make, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", str(authority.folder))
    with RawServer(answering(), tls=authority.server_context()) as server:
        assert (await result(make(server.url).send(get()))).status == 200


async def test_a_certificate_that_is_not_trusted_is_refused(make: Make, authority: Authority) -> None:
    with RawServer(answering(), tls=authority.server_context()) as server:
        with pytest.raises(errors.NetworkError, match="SSL_CERT_FILE") as caught:
            await result(make(server.url).send(get()))
        assert (caught.value.code, caught.value.unsent) == ("untrusted_certificate", True)
        assert server.requests == []


async def test_a_certificate_for_another_name_is_refused(make: Make, trusted: Authority) -> None:
    with RawServer(answering(), tls=trusted.server_context()) as server:
        transport = make(server.url.replace("127.0.0.1", "127.0.0.2"))
        with pytest.raises(errors.NetworkError) as caught:
            await result(transport.send(get()))
        assert caught.value.unsent
        assert server.requests == []


async def test_what_the_next_attempt_would_meet_again_is_tried_once(kind: Kind, authority: Authority) -> None:
    with RawServer(answering(), tls=authority.server_context()) as server:
        client = make_client(kind, api_key=KEY, base_url=server.url)
        with pytest.raises(errors.NetworkError) as caught:
            await result(client.jobs.get("j"))
        await result(client.close())
        assert caught.value.attempts == 1
        assert server.connections == 1


def test_a_file_without_certificates_is_named(
    kind: Kind, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for place in (empty, tmp_path / "not-there.pem"):
        monkeypatch.setenv("SSL_CERT_FILE", str(place))
        with pytest.raises(errors.ConfigurationError, match=f"SSL_CERT_FILE: .*{place.name}"):
            make_client(kind, api_key=KEY, base_url="https://127.0.0.1:1")


@pytest.mark.parametrize("make", ["http.client", "aiohttp"], indirect=True)
async def test_a_server_that_does_not_begin_tls_cannot_hang_a_call(make: Make, trusted: Authority) -> None:
    with RawServer(lambda connection: connection.hang()) as server:
        transport = make(server.url.replace("http:", "https:"), connect_timeout=BRIEF)
        with pytest.raises(errors.TimeoutError, match=r"no connection to .* within 0\.3 s") as caught:
            await result(transport.send(get()))
        assert caught.value.unsent


async def test_a_server_without_tls_is_a_network_error(make: Make, trusted: Authority) -> None:
    with RawServer(lambda connection: connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        with pytest.raises(errors.NetworkError) as caught:
            await result(make(server.url.replace("http:", "https:")).send(get()))
        assert caught.value.unsent


async def test_a_server_that_trickles_over_tls_cannot_hang_a_call(make: Make, trusted: Authority) -> None:
    def trickling(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\n")
        connection.trickle(b"x-filler: abc\r\n")

    with RawServer(trickling, tls=trusted.server_context()) as server:
        call = make(server.url)
        with pytest.raises(errors.TimeoutError, match="no complete answer"):
            await result(call.send(get(timeout=1.0)))


async def test_a_large_body_goes_over_tls(make: Make, trusted: Authority) -> None:
    with RawServer(answering(), tls=trusted.server_context()) as server:
        body = b"x" * 3_000_000
        await result(make(server.url).send(Request("POST", "/x", (), body, {}, PATIENT)))
        assert server.requests[0].endswith(body)
