"""Lists of more than the server gives at once: all of it, or a line that says so."""

from __future__ import annotations

import httpx
import pytest

from spooled import SpooledClient
from spooled.cli import _schedules
from tests.cli.conftest import Api, Cli


def enqueue_many(api: Api, count: int, queue: str = "q") -> list[str]:
    ids: list[str] = []
    for start in range(0, count, 100):
        jobs = [{"payload": n} for n in range(start, min(count, start + 100))]
        answer = api.http.post("/jobs/bulk", json={"queue_name": queue, "jobs": jobs}).json()
        ids += [one["job_id"] for one in answer["succeeded"]]
    return ids


@pytest.mark.parametrize("count", [99, 101])
def test_queues(cli: Cli, api: Api, count: int) -> None:
    for n in range(count):
        api.enqueue(f"queue-{n:03}")
    enqueue_many(api, 3, "queue-050")
    said = (
        "spooled: the first 100 by name; the server lists no more: see others with spooled queues stats QUEUE"
    )
    for command in ("list", "stats"):
        shown, document = cli("queues", command), cli("queues", command, "--json")
        lines = shown.out.splitlines()
        assert (shown.code, shown.err, document.code) == (0, "", 0)
        assert len(document.json["queues"]) == min(count, 100)
        if count > 100:
            assert (f"spooled: {lines.pop()}", document.error) == (said, said)
        else:
            assert document.err == ""
        assert len(lines) == 1 + min(count, 100)
        if command == "stats":
            assert lines[1].split()[:2] == ["queue-050", "4"]
    # One that is not in the list.
    assert cli("queues", "stats", f"queue-{count - 1:03}").out.splitlines()[1].split()[1] == "1"


@pytest.mark.parametrize("count", [99, 101])
def test_workers(cli: Cli, api: Api, count: int) -> None:
    for n in range(count):
        worker = {"queue_name": "q", "hostname": "h", "worker_id": f"w-{n:03}"}
        assert api.http.post("/workers/register", json=worker).status_code == 201
    shown, document = cli("workers", "list"), cli("workers", "list", "--json")
    assert len(document.json["workers"]) == min(count, 100)
    said = "the 100 that were seen last; the server lists no more"
    assert shown.out.endswith(f"{said}\n") is (count > 100)
    assert document.err == (f"spooled: {said}\n" if count > 100 else "")


def test_workers_that_are_hidden_count(cli: Cli, api: Api) -> None:
    for n in range(101):
        api.http.post("/workers/register", json={"queue_name": "q", "hostname": "h", "worker_id": f"w-{n}"})
        api.http.post(f"/workers/w-{n}/deregister")
    assert cli("workers", "list").out.splitlines() == [
        "no workers",
        "(100 offline; shown with --all)",
        "the 100 that were seen last; the server lists no more",
    ]


@pytest.mark.parametrize("count", [6, 7, 12, 13])
def test_schedules(cli: Cli, api: Api, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(_schedules, "_PAGE", 6)
    for n in range(count):
        schedule = {
            "name": f"s-{n:02}",
            "queue_name": "q",
            "cron_expression": "0 9 * * 1-5",
            "payload_template": {},
        }
        assert api.http.post("/schedules", json=schedule).status_code == 201
    shown, document = cli("schedules", "list"), cli("schedules", "list", "--json")
    names = [each["name"] for each in document.json["schedules"]]
    assert names == [f"s-{n:02}" for n in reversed(range(count))]
    assert (len(shown.out.splitlines()), shown.err, document.err) == (count + 1, "", "")


@pytest.mark.parametrize(("count", "whole"), [(499, True), (500, False), (700, False)])
def test_schedules_of_an_older_server(count: int, whole: bool) -> None:
    """It knows no offset, and gives 500 at most. A full page may be all, which it cannot say."""
    names = ("id", "organization_id", "name", "cron_expression", "timezone", "queue_name")
    times = dict.fromkeys(("created_at", "updated_at"), "2030-01-01T00:00:00Z")
    listed = [{**dict.fromkeys(names, str(n)), **times} for n in range(count)][:500]
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=listed))
    with SpooledClient(
        api_key="sp_test_0123456789", base_url="http://spooled.test", transport=transport
    ) as client:
        found, all_of_them = _schedules._read_all(client, None)
    assert (len(found), all_of_them) == (min(count, 500), whole)


def test_workflows(cli: Cli, api: Api) -> None:
    for n in range(3):
        workflow = {"name": f"flow {n}", "jobs": [{"key": "a", "queue_name": "q", "payload": {}}]}
        assert api.http.post("/workflows", json=workflow).is_success
    assert cli("workflows", "list", "--limit", "2").out.endswith("there may be more: --offset 2\n")
    rest = cli("workflows", "list", "--limit", "2", "--offset", "2", "--json")
    assert ([each["name"] for each in rest.json["workflows"]], rest.err) == (["flow 0"], "")
    assert "may be more" in cli("workflows", "list", "--limit", "2", "--json").error
    assert "may be more" not in cli("workflows", "list", "--limit", "4").out
    assert cli("workflows", "list", "--limit", "0").code == 2


@pytest.mark.parametrize("count", [100, 150, 201])
def test_jobs(cli: Cli, api: Api, count: int) -> None:
    ids = enqueue_many(api, count)
    every = cli("jobs", "list", "--all", "--json").json
    assert ([job["id"] for job in every["jobs"]], every["has_more"], every["limit"]) == (ids, False, None)
    assert (
        len(cli("jobs", "list", "--queue", "q", "--status", "pending", "--all").out.splitlines()) == count + 1
    )
    last = cli("jobs", "list", "--limit", "100").out.splitlines()[-1]
    assert (last == "there are more: --offset 100") is (count > 100)
    assert cli("jobs", "list", "--all", "--queue", "none").out == "no such jobs\n"


@pytest.mark.parametrize("option", [("--limit", "5"), ("--offset", "1"), ("--order", "priority")])
def test_all_is_all(cli: Cli, option: tuple[str, str]) -> None:
    refused = cli("jobs", "list", "--all", *option)
    assert refused.code == 2
    assert "--all lists everything, oldest first" in refused.error


def test_dead_letters_of_several_pages_are_retried(cli: Cli, api: Api) -> None:
    """As the help of `spooled jobs retry` does it."""
    for _ in range(101):
        api.kill()
    listed = cli("jobs", "list", "--status", "deadletter", "--all", "--json").json["jobs"]
    assert cli("jobs", "retry", *[job["id"] for job in listed]).code == 0
    assert api.http.get("/jobs/stats").json()["deadletter"] == 0
