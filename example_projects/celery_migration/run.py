"""The shop on Spooled, on this machine: server, worker, beat, and an order.

python run.py [--pool threads]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from spooled_contrib.server import EmbeddedServer


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the shop on Spooled.")
    parser.add_argument("--pool", default="threads", help="Celery's pool: threads, prefork or solo")
    pool = parser.parse_args().pool
    data = Path("data")
    data.mkdir(exist_ok=True)
    with EmbeddedServer(db=str(data / "jobs.db")) as server:
        os.environ["SHOP_BROKER"] = f"spooled+{server.url.replace('http://', f'http://:{server.api_key}@')}"
        celery = [sys.executable, "-m", "celery", "-A", "shop.app"]
        quiet = {"stdout": subprocess.DEVNULL}
        processes = [
            subprocess.Popen([*celery, "worker", "--pool", pool, "-c", "4", "-l", "warning"], **quiet),
            subprocess.Popen([*celery, "beat", "-l", "warning"], **quiet),
        ]
        try:
            code = subprocess.run([sys.executable, "order.py"], check=False).returncode
            stock = data / "stock.txt"
            while not stock.exists():
                time.sleep(0.2)
            print("beat:      ", stock.read_text().splitlines()[-1])
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
    return code


if __name__ == "__main__":
    sys.exit(main())
