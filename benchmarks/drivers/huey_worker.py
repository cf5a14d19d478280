"""Huey over Redis, its consumer with threads in this process."""

from __future__ import annotations

from _meter import Meter, read_config
from _peer import drive
from huey import RedisHuey

CONFIG = read_config()
METER = Meter(CONFIG)
queue = RedisHuey("bench", url=CONFIG["url"], results=False)


@queue.task()
def nothing(number: int) -> None:
    METER.tick(number)


def work() -> None:
    queue.create_consumer(workers=CONFIG["concurrency"], periodic=False).run()


if __name__ == "__main__":
    drive(CONFIG, nothing, work)
