"""`python -m benchmarks.celery_outage`: what a long outage of the server costs Celery's workers.

A server on a file, two Celery workers (threads and prefork) that hold prefetched tasks with acks_late. The server is
killed with SIGKILL while they work, and comes back later. Each task notes that it ran; at the end each must have run
once.
"""

from __future__ import annotations

import argparse
import collections
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from spooled_contrib.server import DEVELOPMENT_KEY

APP = """
import os, time
import spooled_contrib.kombu
from celery import Celery

app = Celery("app", broker=os.environ["BROKER"])
app.conf.update(task_ignore_result=True, task_acks_late=True)

@app.task
def work(number):
    file = os.open("notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{number}\\n".encode())
    os.close(file)
    time.sleep(0.1)
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.celery_outage", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--seconds", type=float, default=60, metavar="S", help="how long it is away (default: 60)"
    )
    parser.add_argument("--jobs", type=int, default=1200, metavar="N", help="tasks (default: 1200)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        counts = _run(Path(name), options.jobs, options.seconds)
    doubled = [number for number, times in counts.items() if times > 1]
    lost = options.jobs - len(counts)
    passed = not doubled and not lost
    print(f"{options.jobs} tasks, {options.seconds:g} s of outage: {lost} lost, {len(doubled)} run twice")
    print("passed" if passed else "FAILED")
    return 0 if passed else 1


def _run(folder: Path, jobs: int, seconds: float) -> collections.Counter[str]:
    (folder / "app.py").write_text(APP, encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {**os.environ, "BROKER": f"spooled+http://:{DEVELOPMENT_KEY}@127.0.0.1:{port}?poll=0.1"}

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def serve() -> subprocess.Popen[bytes]:
        return start("-m", "spooled", "server", "--port", port, "--db", "jobs.db")

    def ran() -> list[str]:
        notes = folder / "notes"
        return notes.read_text().split() if notes.exists() else []

    processes = [serve()]
    try:
        publish = "import time\nfrom app import work\n"
        publish += "time.sleep(2)\n"  # the server starts beside it
        publish += f"for number in range({jobs}): work.delay(number)"
        subprocess.run([sys.executable, "-c", publish], cwd=folder, env=environment, check=True)
        processes += [
            start("-m", "celery", "-A", "app", "worker", "-P", pool, "-c", "10", "-n", f"{pool}@outage")
            for pool in ("threads", "prefork")
        ]
        _wait(lambda: len(ran()) >= jobs // 6)
        os.killpg(processes[0].pid, signal.SIGKILL)
        processes[0].wait()
        print(f"killed the server after {len(ran())} tasks; back in {seconds:g} s", file=sys.stderr)
        time.sleep(seconds)
        processes[0] = serve()
        _wait(lambda: len(set(ran())) == jobs)
        time.sleep(40)  # longer than any lease: what would come back has come back
        return collections.Counter(ran())
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(condition: Callable[[], bool], limit: float = 300) -> None:
    give_up_at = time.monotonic() + limit
    while not condition():
        if time.monotonic() > give_up_at:
            raise SystemExit(f"FAILED: still waiting after {limit:g} s")
        time.sleep(0.1)


if __name__ == "__main__":
    raise SystemExit(main())
