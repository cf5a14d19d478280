from __future__ import annotations

import pytest

from tests.cli.conftest import Api, Cli


def test_nothing_there_is_said(cli: Cli) -> None:
    assert cli("queues", "list").out == "no queues: the first job makes one\n"
    assert cli("queues", "stats").out == "no queues: the first job makes one\n"
    assert cli("workers", "list").out == "no workers\n"
    assert cli("queues", "list", "--json").json == {"queues": []}
    assert cli("queues", "stats", "--json").json == {"queues": []}
    assert cli("workers", "list", "--json").json == {"workers": []}


def test_pause_and_resume(cli: Cli, api: Api) -> None:
    api.enqueue("emails")
    paused = cli("queues", "pause", "emails", "--reason", "mail server down")
    assert paused.code == 0
    assert "queue emails is paused" in paused.out
    assert api.http.post("/jobs/claim", json={"queue_name": "emails", "worker_id": "w"}).json()["jobs"] == []
    assert cli("queues", "list").out.splitlines()[1].split()[:2] == ["emails", "paused"]
    assert cli("queues", "list", "--json").json["queues"][0]["enabled"] is False

    assert "queue emails is active again" in cli("queues", "resume", "emails").out
    assert cli("queues", "list").out.splitlines()[1].split()[:2] == ["emails", "active"]
    assert cli("queues", "pause", "emails", "--json").json["paused"] is True
    assert cli("queues", "resume", "emails", "--json").json["resumed"] is True


def test_stats_of_all_or_of_some(cli: Cli, api: Api) -> None:
    api.enqueue("a")
    api.enqueue("a")
    api.kill("b")
    rows = {line.split()[0]: line.split() for line in cli("queues", "stats").out.splitlines()[1:]}
    assert rows["a"][1:5] == ["2", "0", "0", "0"]
    assert rows["b"][1:5] == ["0", "0", "0", "1"]
    assert set(rows) == {"a", "b"}
    stats = cli("queues", "stats", "b", "--json").json["queues"]
    assert [(one["queue_name"], one["pending_jobs"], one["jobs"]["deadletter"]) for one in stats] == [
        ("b", 0, 1)
    ]


@pytest.mark.parametrize("action", ["resume", "pause"])
def test_a_bad_queue_name(cli: Cli, action: str) -> None:
    result = cli("queues", action, "no spaces")
    assert result.code in (1, 2)
    assert result.error


def test_workers(cli: Cli, api: Api) -> None:
    for name in ("w1", "w2"):
        body = {"queue_name": "q", "hostname": "host", "worker_id": name, "max_concurrency": 3}
        assert api.http.post("/workers/register", json=body).status_code == 201
    api.http.post("/workers/w2/deregister")
    lines = cli("workers", "list").out.splitlines()
    assert lines[1].split()[:5] == ["w1", "q", "healthy", "0/3", "host"]
    assert lines[2] == "(1 offline; shown with --all)"
    assert {worker["id"] for worker in cli("workers", "list", "--all", "--json").json["workers"]} == {
        "w1",
        "w2",
    }
