"""Webhooks over TLS: the connection goes to a checked address, the certificate is asked for the name."""

from __future__ import annotations

import shutil
import ssl
import subprocess

import pytest

from spooled.clock import ManualClock

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for `hooks.example.test`, with its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=hooks -keyout key.pem -out cert.pem"
    )
    name = ["-addext", "subjectAltName=DNS:hooks.example.test"]
    subprocess.run([*command.split(), *name], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def secure(receiver, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    names = []
    context.sni_callback = lambda socket, name, context: names.append(name)
    receiver.secure(context)
    return receiver, names


@pytest.fixture
def api(start_server, connect, monkeypatch):
    """A server for which every name leads to this machine."""
    api = connect(start_server(clock=ManualClock(), allow_private_webhooks=True))

    async def getaddrinfo(self, host, port, **options):
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(type(api.server._loop), "getaddrinfo", getaddrinfo, raising=False)
    return api


def result(api, url):
    return api.post(f"/outgoing-webhooks/{api.hook(url, 'job.created')}/test").json()


def test_a_trusted_certificate_for_the_name_is_accepted(api, secure, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    receiver, names = secure
    answer = result(api, f"https://hooks.example.test:{receiver.port}/")
    assert answer["success"] is True, answer
    assert names == ["hooks.example.test"]
    assert receiver.only.headers["host"] == f"hooks.example.test:{receiver.port}"


def test_a_certificate_for_another_name_is_not(api, secure, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    receiver, _ = secure
    answer = result(api, f"https://other.example.test:{receiver.port}/")
    assert answer["success"] is False
    assert "certificate" in answer["error"].lower()
    assert receiver.requests == []


def test_a_certificate_that_nobody_vouches_for_is_not(api, secure):
    receiver, _ = secure
    answer = result(api, f"https://hooks.example.test:{receiver.port}/")
    assert answer["success"] is False
    assert receiver.requests == []
