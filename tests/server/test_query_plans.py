"""Statements that run all the time find their rows through an index, however many rows there are."""

from __future__ import annotations

import pytest

from spooled.clock import ManualClock
from spooled_contrib.server._events import Hub
from spooled_contrib.server._rules import quotas, schedule_runs, workflows
from spooled_contrib.server._storage.sqlite import SqliteStorage


class Explaining:
    """A `Tx` that writes down how each statement of a rule would be executed."""

    def __init__(self, tx, plans):
        self._tx, self._plans = tx, plans
        self.now = tx.now

    def select(self, sql, params=()):
        self._plans += [row[3] for row in self._tx.select(f"EXPLAIN QUERY PLAN {sql}", params)]
        return self._tx.select(sql, params)

    def select_one(self, sql, params=()):
        return next(iter(self.select(sql, params)), None)


@pytest.mark.parametrize(
    ("rule", "index"),
    [
        (lambda tx: schedule_runs.find_due(tx, 0), "schedules_due"),
        (workflows.sweep, "workflows_live"),
        (lambda tx: workflows.count_jobs(tx, "w"), "jobs_by_workflow"),
        (lambda tx: workflows.edges_of(tx, "w"), "jobs_by_workflow"),
        (lambda tx: quotas.workflows(tx, "o"), "workflows_live"),
        (lambda tx: quotas.schedules(tx, "o"), "schedules_by_organization"),
    ],
)
async def test_an_index_leads_to_the_rows(rule, index):
    storage = SqliteStorage(":memory:", clock=ManualClock(), hub=Hub())
    await storage.open()
    plans: list[str] = []
    await storage.read(lambda tx: rule(Explaining(tx, plans)))
    await storage.close()
    assert any(index in plan for plan in plans), plans
    assert not any(plan.startswith("SCAN") and "INDEX" not in plan for plan in plans), plans
