from __future__ import annotations

from tests.cli.conftest import Api, Cli


def test_schedules(cli: Cli, api: Api) -> None:
    assert cli("schedules", "list").out == "no schedules\n"
    assert cli("schedules", "list", "--json").json == {"schedules": []}
    body = {"name": "Report", "cron_expression": "0 9 * * *", "queue_name": "q", "payload_template": {}}
    made = api.http.post("/schedules", json=body).json()
    api.http.post(f"/schedules/{made['id']}/pause")
    lines = cli("schedules", "list").out.splitlines()
    assert lines[1].split()[:3] == [made["id"], "Report", "paused"]
    assert "0 9 * * *" in lines[1]
    assert cli("schedules", "list", "--queue", "other").out == "no schedules\n"
    found = cli("schedules", "list", "--queue", "q", "--json").json["schedules"]
    assert [each["id"] for each in found] == [made["id"]]


def test_workflows(cli: Cli, api: Api) -> None:
    assert cli("workflows", "list").out == "no workflows\n"
    body = {"name": "Import", "jobs": [{"key": "a", "queue_name": "q", "payload": 1}]}
    made = api.http.post("/workflows", json=body).json()
    lines = cli("workflows", "list").out.splitlines()
    assert lines[1].split()[:5] == [made["workflow_id"], "Import", "pending", "0/1", "0"]
    assert cli("workflows", "list", "--status", "failed", "--json").json == {"workflows": []}
    assert cli("workflows", "list", "--limit", "0").code == 2
