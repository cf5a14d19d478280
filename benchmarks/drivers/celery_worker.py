"""Celery over Redis, or over Spooled."""

from __future__ import annotations

from _meter import Meter, read_config
from _peer import drive
from celery import Celery

CONFIG = read_config()
METER = Meter(CONFIG, forks=CONFIG["pool"] == "prefork")
BROKER, KEY = CONFIG["url"], CONFIG["key"]
if BROKER.startswith("http"):
    import spooled_contrib.kombu  # noqa: F401 - makes its URLs known

    BROKER = f"spooled+{BROKER.replace('://', f'://:{KEY}@')}"
app = Celery("bench", broker=BROKER)
app.conf.update(
    task_ignore_result=True,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=4,
)


@app.task(name="bench.nothing")
def nothing(number: int) -> None:
    METER.tick(number)


def work() -> None:
    slots = "1" if CONFIG["pool"] == "solo" else str(CONFIG["concurrency"])
    options = ["--pool", CONFIG["pool"], "--concurrency", slots, "--loglevel", "ERROR"]
    app.worker_main(["worker", *options, "--without-gossip", "--without-mingle"])


if __name__ == "__main__":
    drive(CONFIG, nothing.delay, work)
