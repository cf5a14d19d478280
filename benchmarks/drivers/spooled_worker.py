"""Drives this library's worker and the official SDK's: the two share names and options, so one script serves both."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import random
import signal
import sys
import threading
import time
import warnings
from typing import Any
from urllib.parse import urlsplit

from _meter import WARM_UP, Meter, Times, publish, read_config, tell

CONFIG = read_config()
KEY = CONFIG["key"]
QUEUE = "bench"


class Server:
    """Plain HTTP to the server, so that filling a queue costs the same whichever library is measured."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.netloc, timeout=60)

    def post(self, path: str, body: object) -> None:
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        self._connection.request("POST", path, json.dumps(body), headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{path}: {response.status} {answer[:200]!r}")

    def fill(self, jobs: int) -> None:
        for start in range(0, jobs, 100):
            batch = [{"payload": {"n": n}} for n in range(start, min(start + 100, jobs))]
            self.post("/api/v1/jobs/bulk", {"queue_name": QUEUE, "jobs": batch})

    def enqueue(self, number: int) -> None:
        self.post("/api/v1/jobs", {"queue_name": QUEUE, "payload": {"n": number}})


def accepted(options: dict[str, Any]) -> dict[str, Any]:
    """The options without those that this version of the worker does not have yet."""
    import spooled.worker

    wanted = dict(options)
    for name in ("transport", "wakeups"):
        if name in wanted:
            try:
                spooled.SpooledWorker(spooled.SpooledClient(api_key=KEY), QUEUE, **{name: wanted[name]})
            except TypeError:
                del wanted[name]
                tell(lacks=name)
    return wanted


def work_threaded(meter: Meter) -> None:
    from spooled import SpooledClient, SpooledWorker

    client = SpooledClient(api_key=KEY, base_url=CONFIG["url"])
    worker = SpooledWorker(client, QUEUE, **accepted(CONFIG["options"]))
    worker.process(lambda ctx: meter.tick(ctx.payload["n"]))
    # In a thread, because the official SDK's stop() cannot be called while its start() is interrupted.
    stop = threading.Thread(target=worker.stop)
    signal.signal(signal.SIGTERM, lambda *_: stop.start())
    tell(ready=True)
    worker.start()


async def work_async(meter: Meter) -> None:
    from spooled import AsyncSpooledClient, AsyncSpooledWorker

    async with AsyncSpooledClient(api_key=KEY, base_url=CONFIG["url"]) as client:
        worker = AsyncSpooledWorker(client, QUEUE, **accepted(CONFIG["options"]))

        @worker.process
        async def handle(ctx: Any) -> None:
            meter.tick(ctx.payload["n"])

        stopping = []
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: stopping.append(asyncio.ensure_future(worker.stop())))
        tell(ready=True)
        await worker.start()
        await asyncio.gather(*stopping)


def publish_threaded() -> None:
    from spooled import SpooledClient

    client = SpooledClient(api_key=KEY, base_url=CONFIG["url"])
    publish(
        CONFIG["jobs"], lambda number: client.jobs.create({"queue_name": QUEUE, "payload": {"n": number}})
    )


async def publish_async() -> None:
    from spooled import AsyncSpooledClient

    async with AsyncSpooledClient(api_key=KEY, base_url=CONFIG["url"]) as client:
        times = Times()
        for number in range(WARM_UP + CONFIG["jobs"]):
            with times:
                await client.jobs.create({"queue_name": QUEUE, "payload": {"n": number}})
        times.tell()


def produce() -> None:
    server = Server(CONFIG["direct"])
    for number in range(CONFIG["jobs"]):
        time.sleep(random.uniform(*CONFIG["interval"]))
        server.enqueue(number)
        tell(job=number, at=time.monotonic())


def main() -> None:
    for package in CONFIG.get("without", ()):
        sys.modules[package] = None  # type: ignore[assignment] # as if it were not installed
    logging.basicConfig(level=logging.ERROR)
    warnings.simplefilter("ignore")
    if CONFIG["mode"] == "produce":
        produce()
        return
    if CONFIG["mode"] == "publish":
        publish_threaded() if CONFIG["kind"] == "threaded" else asyncio.run(publish_async())
        return
    if CONFIG["mode"] == "drain":
        server = Server(CONFIG["direct"])
        server.fill(CONFIG["jobs"])
        if CONFIG["bare"]:
            server.post("/api/v1/stub", None)  # what filling cost is not the worker's
    meter = Meter(CONFIG)
    if CONFIG["kind"] == "threaded":
        work_threaded(meter)
    else:
        asyncio.run(work_async(meter))


if __name__ == "__main__":
    main()
