"""Dramatiq over Redis, in this process, as its command would run one worker process."""

from __future__ import annotations

import signal

import dramatiq
from _meter import Meter, read_config
from _peer import drive
from dramatiq.brokers.redis import RedisBroker

CONFIG = read_config()
METER = Meter(CONFIG)
broker = RedisBroker(url=CONFIG["url"])
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name="bench")
def nothing(number: int) -> None:
    METER.tick(number)


def work() -> None:
    worker = dramatiq.Worker(broker, worker_threads=CONFIG["concurrency"])
    worker.start()
    signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    drive(CONFIG, nothing.send, work)
