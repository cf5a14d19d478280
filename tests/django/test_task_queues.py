"""A backend with `QUEUES: []` takes any queue, as Django has it, and the worker works on them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.test import override_settings
from shop import tasks

from spooled_contrib.django._task_names import TaskResultStatus
from spooled_contrib.django.testing import drain_jobs
from tests.django.test_worker import Manage

pytestmark = pytest.mark.usefixtures("db")

OURS = "spooled_contrib.django.tasks.SpooledBackend"


@pytest.fixture
def named(spooled_django: Any) -> Iterator[None]:
    """A project whose settings name a queue that nothing declares."""
    queues = ["invoices", "gates", "sql", "broken", "night"]
    with override_settings(SPOOLED={**settings.SPOOLED, "QUEUES": queues}):
        yield


def test_the_queue_of_a_task_is_served(spooled_django: Any) -> None:
    result = tasks.ship.enqueue(3)
    drain_jobs()
    result.refresh()
    assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, 3)


def test_a_worker_finds_it_by_itself(
    tmp_path: Path, settings_of: dict[str, Any], spooled_django: Any
) -> None:
    """A process of its own, which has imported nothing of the project before."""
    manage = Manage(tmp_path, settings_of)
    listed = json.loads(manage("spooled_worker", "--list", "--json").stdout)
    assert {one["queue"] for one in listed if one["tasks"]} == {"default", "slow", "parcels"}
    result = tasks.ship.enqueue(3)
    manage("spooled_worker", "--burst", "--queue", "parcels")
    result.refresh()
    assert result.return_value == 3


def test_a_queue_that_only_the_settings_name(named: None) -> None:
    result = tasks.ship.using(queue_name="night").enqueue(4)
    drain_jobs()
    result.refresh()
    assert result.return_value == 4
    out = StringIO()
    call_command("spooled_status", "--json", stdout=out, skip_checks=True)
    counts = {one["queue"]: one["completed"] for one in json.loads(out.getvalue())["queues"]}
    assert (counts["night"], counts["parcels"], counts["default"]) == (1, 0, 0)


def test_a_backend_with_queues_takes_no_others(named: None) -> None:
    """Then what the settings name is not a queue of tasks."""
    configured = {"default": {"BACKEND": OURS, "QUEUES": ["default"]}}
    with override_settings(TASKS=configured):
        out = StringIO()
        call_command("spooled_status", "--json", stdout=out, skip_checks=True)
    queues = {one["queue"] for one in json.loads(out.getvalue())["queues"]}
    assert "default" in queues
    assert not queues & {"night", "parcels", "slow"}
