"""Mark Celery's tasks that have come back, in the process that runs them, before they begin."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

from spooled import SpooledError
from spooled_contrib.kombu._registry import Share, find
from spooled_contrib.kombu._results import HELD

logger = logging.getLogger("spooled.kombu")


_watching = False


def watch() -> None:
    """Have Celery tell of every task that begins, where there is Celery. Children of a pool inherit that."""
    global _watching
    signals: Any = sys.modules.get("celery.signals")
    # Once: the signal has a lock, and a process that is forked while another thread holds it never gets it.
    if signals is not None and not _watching:
        signals.task_prerun.connect(_begins, weak=False, dispatch_uid="spooled-kombu")
        _watching = True


def _begins(task: Any = None, **_: Any) -> None:
    properties = getattr(getattr(task, "request", None), "properties", None)
    held = properties.get(HELD) if isinstance(properties, Mapping) else None
    if not isinstance(properties, Mapping) or not held or not held.get("suspect"):
        return
    lease_id = properties["delivery_tag"]
    here = find(lease_id)
    try:
        (here[0] if here is not None else _share.manager).mark(held["job_id"], lease_id)
    except SpooledError as error:
        logger.warning("job %s begins, and that could not be marked: %s", held["job_id"], error)


def _address() -> Any:
    from celery import current_app

    return current_app.connection_for_read().transport.address()


_share = Share(_address)
