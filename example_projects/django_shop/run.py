"""Everything on this machine: a Spooled server, the shop, and its worker.

python run.py [--port 8000]
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from spooled_contrib.server import EmbeddedServer


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the shop with everything it needs.")
    parser.add_argument("--port", type=int, default=8000, help="the shop's port (default: 8000)")
    port = parser.parse_args().port
    data = Path(os.environ.setdefault("SHOP_DATA", str(Path("data").resolve())))
    data.mkdir(parents=True, exist_ok=True)
    manage = [sys.executable, "manage.py"]
    with EmbeddedServer(db=str(data / "jobs.db")) as server:
        os.environ |= {"SPOOLED_API_KEY": server.api_key, "SPOOLED_BASE_URL": server.url}
        for command in (["migrate", "-v0"], ["fill_shop"], ["start_reports"]):
            subprocess.run([*manage, *command], check=True)
        print(f"The shop: http://127.0.0.1:{port}/   Admin: http://127.0.0.1:{port}/admin/", flush=True)
        processes = [
            subprocess.Popen([*manage, "runserver", "--noreload", str(port)]),
            subprocess.Popen([*manage, "spooled_worker"]),
        ]
        # Ctrl-C reaches them from the terminal; a SIGTERM is passed on.
        signal.signal(signal.SIGTERM, lambda *_: [process.terminate() for process in processes])
        for process in processes:
            while process.poll() is None:
                try:
                    process.wait()
                except KeyboardInterrupt:
                    continue  # they have heard it too, and finish what they do
    return 0


if __name__ == "__main__":
    sys.exit(main())
