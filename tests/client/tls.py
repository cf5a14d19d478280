"""An authority of the tests' own, and a certificate that it has signed for this machine."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="makes certificates with openssl, which is not installed"
)

_LEAF = """
subjectAltName=DNS:localhost,IP:127.0.0.1
basicConstraints=CA:FALSE
keyUsage=digitalSignature,keyEncipherment
authorityKeyIdentifier=keyid
subjectKeyIdentifier=hash
"""


class Authority:
    """Signs certificates.

    Attributes:
        file: The authority's own certificate, which a client has to trust.
        folder: Where it is, under the name that OpenSSL looks for.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.folder = folder / "trusted"
        self.file = folder / "ca.pem"
        self._openssl(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem "
            "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign"
        )
        (folder / "leaf.cnf").write_text(_LEAF)
        self._openssl("req -newkey rsa:2048 -nodes -subj /CN=server -keyout key.pem -out request.csr")
        self._openssl(
            "x509 -req -in request.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile leaf.cnf -out cert.pem"
        )
        name = self._openssl("x509 -hash -noout -in ca.pem").strip()
        self.folder.mkdir()
        (self.folder / f"{name}.0").write_bytes(self.file.read_bytes())

    def server_context(self) -> ssl.SSLContext:
        """Return a context for a server called `localhost` or `127.0.0.1`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / "cert.pem", self._folder / "key.pem")
        return context

    def _openssl(self, arguments: str) -> str:
        done = subprocess.run(
            ["openssl", *arguments.split()], cwd=self._folder, check=True, capture_output=True, text=True
        )
        return done.stdout


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return an authority that nobody trusts yet."""
    return Authority(tmp_path_factory.mktemp("authority"))
