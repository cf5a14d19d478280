"""The Celery app. One environment variable decides between Redis and Spooled."""

from __future__ import annotations

import os

import spooled_contrib.kombu  # noqa: F401 - makes spooled:// URLs known
from celery import Celery

# redis://localhost:6379/0, or spooled://:KEY@host: that is the migration.
URL = os.environ.get("SHOP_BROKER", "redis://localhost:6379/0")

app = Celery("shop", broker=URL, backend=URL, include=["shop.tasks"])
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=2,
    broker_connection_retry_on_startup=True,
    result_chord_retry_interval=0.5,
    beat_schedule={
        "stock-every-two-seconds": {"task": "shop.tasks.count_stock", "schedule": 2.0},
    },
    beat_schedule_filename=os.environ.get("SHOP_BEAT", "data/beat"),
)
