"""A real MariaDB for tests, from Debian's packages, in a folder of its own."""

from __future__ import annotations

import contextlib
import getpass
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.waiting import HOPELESS, wait_until

SERVER = shutil.which("mariadbd", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
INSTALL = shutil.which("mariadb-install-db")

MISSING = SERVER is None or INSTALL is None


@contextlib.contextmanager
def running_mariadb() -> Iterator[str]:
    """Run a server with an empty database `test`, for user `root` without a password; yield its socket's path."""
    assert SERVER is not None, "no MariaDB (Debian: apt install mariadb-server)"
    assert INSTALL is not None, "no mariadb-install-db beside it"
    user = getpass.getuser()
    # Not pytest's directory: the path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="spooled-maria-") as directory:
        folder = Path(directory)
        data, socket, log = folder / "data", folder / "socket", folder / "log"
        with log.open("wb") as output:
            subprocess.run(
                [
                    INSTALL,
                    "--no-defaults",
                    f"--datadir={data}",
                    f"--user={user}",
                    "--auth-root-authentication-method=normal",
                ],
                check=True,
                stdout=output,
                stderr=output,
            )
            # What Debian's own configuration and most of the world have: case and accents do not count.
            server = subprocess.Popen(
                [
                    SERVER,
                    "--no-defaults",
                    f"--datadir={data}",
                    f"--socket={socket}",
                    f"--pid-file={folder / 'pid'}",
                    f"--user={user}",
                    "--skip-networking",
                    "--skip-log-bin",
                    "--innodb-flush-log-at-trx-commit=0",
                    "--innodb-buffer-pool-size=32M",
                    "--character-set-server=utf8mb4",
                    "--collation-server=utf8mb4_general_ci",
                ],
                stdout=output,
                stderr=output,
            )
        try:
            wait_until(lambda: socket.exists() or server.poll() is not None, "MariaDB listens")
            assert server.poll() is None, log.read_text(errors="replace")
            yield str(socket)
        finally:
            server.terminate()
            server.wait(HOPELESS)
