"""Taskiq over a Redis list, its receiver in this process."""

from __future__ import annotations

import asyncio

from _meter import Meter, read_config
from _peer import drive
from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker

CONFIG = read_config()
METER = Meter(CONFIG)
# The Redis client's own time-out is shorter than the wait for a job, and would end an idle receiver.
broker = ListQueueBroker(url=CONFIG["url"], socket_timeout=None)
loop = asyncio.new_event_loop()


@broker.task(task_name="bench.nothing")
async def nothing(number: int) -> None:
    METER.tick(number)


def enqueue(number: int) -> None:
    loop.run_until_complete(nothing.kiq(number))


def work() -> None:
    broker.is_worker_process = True
    loop.run_until_complete(
        run_receiver_task(broker, max_async_tasks=CONFIG["concurrency"], run_startup=True)
    )


if __name__ == "__main__":
    drive(CONFIG, enqueue, work)
