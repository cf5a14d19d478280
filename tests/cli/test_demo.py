"""The demo, as a process of its own; and its proof, which has to notice what is wrong."""

from __future__ import annotations

import copy
import signal
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from spooled import Job, JobSummary
from spooled_contrib.server.demo._ledger import Ledger, prove
from spooled_contrib.server.demo._modules import STANDARD_LIBRARY, measure, standard_library_files
from spooled_contrib.server.demo._work import RETRIES, Planned
from tests.cli.conftest import Spawn

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def test_the_demo_proves_that_nothing_was_lost(spawn: Spawn) -> None:
    result = spawn("demo", "--limit", "40", "--json").finish()
    assert (result.code, result.err) == (0, "")
    summary = result.json
    assert summary["proven"] is True
    assert (summary["enqueued"], summary["completed"], summary["dead"]) == (43, 40, 3)
    assert summary["retried"] == 3 * RETRIES
    errors = [letter["last_error"].split(":")[0] for letter in summary["dead_letters"]]
    assert sorted(errors) == ["FileNotFoundError", "KeyError", "SyntaxError"]
    assert all(check["holds"] for check in summary["proof"])
    assert len(summary["largest"]) == 10


def test_the_demo_for_people(spawn: Spawn) -> None:
    result = spawn("demo", "--limit", "12").finish()
    assert (result.code, result.err) == (0, "")
    for text in (
        "pending",
        "Largest modules",
        "Dead letters",
        "a file that is not Python",
        "all accounted for",
    ):
        assert text in result.out
    assert "\x1b" not in result.out


def test_ctrl_c_ends_it_quietly(spawn: Spawn) -> None:
    process = spawn("demo")
    process.wait_for("pending")
    process.send(signal.SIGINT)
    result = process.finish()
    assert (result.code, result.err) == (130, "")


def test_enough_files_and_none_that_is_broken_on_purpose() -> None:
    files = standard_library_files()
    assert len(files) > 300
    assert "json/decoder.py" in files
    assert not [file for file in files if "site-packages" in file or "badsyntax" in file]


def test_what_is_counted(tmp_path: object) -> None:
    counts = measure(STANDARD_LIBRARY / "json" / "__init__.py")
    assert counts["functions"] == 5
    assert counts["classes"] == 0
    assert counts["imports"] == 3


def job(
    job_id: str, path: str, status: str, retries: int = 0, error: str | None = None
) -> tuple[JobSummary, Job]:
    common = {"id": job_id, "queue_name": "stdlib", "status": status, "created_at": NOW, "last_error": error}
    return JobSummary(**common, attempt=retries), Job(**common, retry_count=retries, payload={"path": path})  # type: ignore[arg-type]


def sound() -> tuple[Ledger, dict[str, str], dict[str, Planned], dict[str, int]]:
    """A run in which everything went as it should."""
    enqueued = {"1": "json/decoder.py", "2": "json/encoder.py"}
    planned = {"3": Planned("broken", {"path": "x"}, "KeyError")}
    ledger = Ledger()
    for job_id, path in enqueued.items():
        summary, full = job(job_id, path, "completed")
        ledger.completed.append(summary)
        ledger.jobs[job_id] = full
        ledger.modules[path] = measure(STANDARD_LIBRARY / path)
    summary, full = job("3", "x", "deadletter", RETRIES, "KeyError: 'path'")
    ledger.dead.append(summary)
    ledger.jobs["3"] = full
    ledger.statistics = {"pending": 0, "completed": 2, "deadletter": 1, "total": 3}
    return ledger, enqueued, planned, ledger.totals


def lose_a_job(ledger: Ledger) -> None:
    ledger.completed.pop()


def list_a_job_twice(ledger: Ledger) -> None:
    ledger.completed.append(ledger.completed[0])


def leave_a_job(ledger: Ledger) -> None:
    ledger.other.append(ledger.completed.pop())


def lie_in_the_statistics(ledger: Ledger) -> None:
    ledger.statistics["completed"] = 3


def kill_another_job(ledger: Ledger) -> None:
    ledger.dead.append(ledger.completed.pop())


def change_an_error(ledger: Ledger) -> None:
    ledger.dead[0] = job("3", "x", "deadletter", RETRIES, "OSError")[0]


def run_a_job_again(ledger: Ledger) -> None:
    ledger.completed[0] = job("1", "json/decoder.py", "completed", 1)[0]


def swap_payloads(ledger: Ledger) -> None:
    ledger.jobs["1"], ledger.jobs["2"] = ledger.jobs["2"], ledger.jobs["1"]


def lose_a_result(ledger: Ledger) -> None:
    ledger.modules.popitem()


def swap_results(ledger: Ledger) -> None:
    one, two = ledger.modules
    ledger.modules[one], ledger.modules[two] = ledger.modules[two], ledger.modules[one]


def test_a_sound_run_is_proven() -> None:
    assert [check.statement for check in prove(*sound()) if not check.holds] == []


@pytest.mark.parametrize(
    "damage",
    [
        lose_a_job,
        list_a_job_twice,
        leave_a_job,
        lie_in_the_statistics,
        kill_another_job,
        change_an_error,
        run_a_job_again,
        swap_payloads,
        lose_a_result,
        swap_results,
    ],
)
def test_the_proof_notices(damage: Callable[[Ledger], None]) -> None:
    ledger, enqueued, planned, handled = sound()
    handled = copy.copy(handled)
    damage(ledger)
    broken = [check for check in prove(ledger, enqueued, planned, handled) if not check.holds]
    assert broken
    assert all(check.found for check in broken)
