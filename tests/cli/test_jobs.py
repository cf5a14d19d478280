from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spooled_contrib.server import EmbeddedServer
from tests.cli.conftest import Api, Cli


def test_nothing_there_is_said(cli: Cli) -> None:
    assert cli("jobs", "list").out == "no jobs\n"
    assert cli("jobs", "list", "--queue", "q").out == "no such jobs\n"
    assert cli("jobs", "list", "--json").json == {"jobs": [], "limit": 50, "offset": 0, "has_more": False}


def test_create_sends_everything(cli: Cli, api: Api) -> None:
    before = datetime.now(UTC)
    result = cli(
        *("jobs", "create", "emails", '{"to": "ada"}', "--priority", "-5", "--max-retries", "7"),
        *(
            "--timeout",
            "10m",
            "--delay",
            "1h",
            "--expires",
            "2d",
            "--idempotency-key",
            "k",
            "--tag",
            "a",
            "--json",
        ),
    )
    assert result.code == 0
    assert result.json["created"] is True
    job = api.job(result.json["id"])
    assert job["queue_name"] == "emails"
    assert job["payload"] == {"to": "ada"}
    assert (job["priority"], job["max_retries"], job["timeout_seconds"]) == (-5, 7, 600)
    assert (job["status"], job["idempotency_key"], job["tags"]) == ("scheduled", "k", ["a"])
    start = datetime.fromisoformat(job["scheduled_at"])
    assert before + timedelta(hours=1) <= start <= datetime.now(UTC) + timedelta(hours=1)
    assert datetime.fromisoformat(job["expires_at"]) > start


def test_create_at_a_time_with_named_tags(cli: Cli, api: Api) -> None:
    result = cli("jobs", "create", "q", "--at", "2100-01-01T00:00Z", "--tag", "k=v", "--tag", "e=", "--json")
    job = api.job(result.json["id"])
    assert job["payload"] == {}
    assert job["tags"] == {"k": "v", "e": ""}
    assert datetime.fromisoformat(job["scheduled_at"]) == datetime(2100, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["null", "[]", '"x"', "-1.5", '{"ü": "日本"}'])
def test_a_payload_may_be_any_json(cli: Cli, api: Api, text: str) -> None:
    import json

    result = cli("jobs", "create", "q", text, "--json")
    assert api.job(result.json["id"])["payload"] == json.loads(text)


def test_a_payload_from_a_file_or_standard_input(
    cli: Cli, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "payload.json"
    file.write_text('{"from": "file"}', encoding="utf-8")
    assert api.job(cli("jobs", "create", "q", f"@{file}", "--json").json["id"])["payload"] == {"from": "file"}
    monkeypatch.setattr("sys.stdin", io.StringIO('{"from": "stdin"}'))
    assert api.job(cli("jobs", "create", "q", "-", "--json").json["id"])["payload"] == {"from": "stdin"}


def test_bad_payloads_name_their_source(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "payload.json"
    file.write_bytes(b"\xff")
    assert f"{file} is not UTF-8 text" in cli("jobs", "create", "q", f"@{file}").error
    file.write_text("{", encoding="utf-8")
    assert f"{file} is not JSON" in cli("jobs", "create", "q", f"@{file}").error
    assert "No such file" in cli("jobs", "create", "q", f"@{tmp_path}/none").error
    assert "put quotes around it" in cli("jobs", "create", "q", "{to: ada}").error
    assert "nested too deeply" in cli("jobs", "create", "q", "[" * 100_000).error


def test_the_same_key_creates_nothing(cli: Cli) -> None:
    first = cli("jobs", "create", "q", "--idempotency-key", "k", "--json").json
    again = cli("jobs", "create", "other", "--idempotency-key", "k")
    assert again.code == 0
    assert again.out == f"job {first['id']} exists with this idempotency key; nothing was created\n"


def test_a_bad_queue_name_is_refused(cli: Cli) -> None:
    result = cli("jobs", "create", "no spaces", "{}")
    assert result.code == 2
    assert "'no spaces'" in result.error


def test_list_filters(cli: Cli, api: Api) -> None:
    plain = api.enqueue("q", {"job_type": "mail"}, tags=["a"], priority=1)
    later = api.enqueue("q", scheduled_at="2100-01-01T00:00:00Z", priority=9)
    other = api.enqueue("r")
    dead = api.kill("dead")

    def ids(*options: str) -> list[str]:
        return [job["id"] for job in cli("jobs", "list", "--json", *options).json["jobs"]]

    assert ids() == [dead, other, later, plain]
    assert ids("--queue", "q") == [later, plain]
    assert ids("--status", "scheduled") == [later]
    assert set(ids("--status", "scheduled", "--status", "deadletter")) == {later, dead}
    assert set(ids("--status", "scheduled,deadletter")) == {later, dead}
    assert ids("--job-type", "mail") == [plain]
    assert ids("--tag", "a") == [plain]
    assert ids("--order", "created_at:asc")[0] == plain
    assert ids("--order", "priority")[:2] == [later, plain]
    assert ids("--limit", "1", "--offset", "1") == [other]


def test_list_is_a_table_that_says_when_there_is_more(cli: Cli, api: Api) -> None:
    ids = [api.enqueue("emails", {"job_type": "mail"}) for _ in range(3)]
    lines = cli("jobs", "list", "--limit", "2").out.splitlines()
    assert lines[0].split() == ["ID", "QUEUE", "STATUS", "RUN", "PRIO", "AGE", "TYPE"]
    assert lines[1].split()[:5] == [ids[2], "emails", "pending", "1/4", "0"]
    assert lines[3] == "there are more: --offset 2"
    assert len(lines) == 4


def test_a_narrow_terminal_never_loses_an_id(cli: Cli, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = api.kill("a-queue-with-quite-a-long-name", error="E" * 300)
    for columns in (200, 100, 60, 30):
        monkeypatch.setenv("COLUMNS", str(columns))
        out = cli("jobs", "list").out
        assert job_id in out
        if columns >= 100:
            assert max(map(len, out.splitlines())) <= columns


def test_what_others_wrote_cannot_drive_the_terminal(cli: Cli, api: Api) -> None:
    job_id = api.kill("q", error="\x1b]0;title\x07\x1b[2J\u202e", payload={"x\x1b[31m": "\x9b2J"})
    for command in (
        ("jobs", "list"),
        ("jobs", "show", job_id, "--history"),
        ("jobs", "list", "--json"),
        ("jobs", "show", job_id, "--json", "--history"),
    ):
        out = cli(*command).out
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(out)
    assert "\\x1b]0;title" in cli("jobs", "list").out
    assert cli("jobs", "show", job_id, "--json").json["last_error"] == "\x1b]0;title\x07\x1b[2J\u202e"


def test_show(cli: Cli, api: Api) -> None:
    job_id = api.kill("q", error="ValueError: no\nsecond line", payload={"to": "ada"}, tags={"k": "v"})
    out = cli("jobs", "show", job_id).out
    assert [line.split(maxsplit=1) for line in out.splitlines()[:4]] == [
        ["id", job_id],
        ["queue", "q"],
        ["status", "deadletter"],
        ["run", "1 of 1"],
    ]
    assert 'payload\n  {\n    "to": "ada"\n  }\n' in out
    assert "last error\n  ValueError: no\n  second line\n" in out
    assert "history" not in out
    assert "history\nWHEN" in cli("jobs", "show", job_id, "--history").out
    document = cli("jobs", "show", job_id, "--json", "--history").json
    assert document["status"] == "deadletter"
    assert document["history"][0]["event_type"] == "created"


def test_show_of_an_unknown_id(cli: Cli) -> None:
    result = cli("jobs", "show", "nope")
    assert (result.code, result.out) == (1, "")
    assert "there is no job nope" in result.error


def test_an_id_is_not_a_path(cli: Cli) -> None:
    result = cli("jobs", "show", "../queues?x")
    assert result.code in (1, 2)
    assert result.error


def test_retry_and_cancel_go_on_after_a_failure(cli: Cli, api: Api) -> None:
    dead, waiting = api.kill("dead"), api.enqueue("q")
    result = cli("jobs", "retry", "nope", waiting, dead)
    assert result.code == 1
    assert result.out == f"job {dead} is pending\n"
    assert [line.split(":")[1].strip() for line in result.err.splitlines()] == ["job nope", f"job {waiting}"]
    assert api.job(dead)["status"] == "pending"

    result = cli("jobs", "cancel", waiting, waiting, "--json")
    assert result.code == 1
    assert result.json["done"] == [{"id": waiting, "status": "cancelled"}]
    assert [failure["id"] for failure in result.json["failed"]] == [waiting]
    assert cli("jobs", "cancel", dead).code == 0


@pytest.mark.parametrize("place", [0, 1, 2])
def test_connection_options_work_everywhere(
    offline: Cli, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    monkeypatch.setenv("SPOOLED_API_KEY", "sp_test_of-some-other-server")
    argv = ["jobs", "list"]
    argv[place:place] = ["--api-key", server.api_key, "--base-url", server.url, "--timeout", "20", "--json"]
    result = offline(*argv)
    assert result.code == 0
    assert result.json["jobs"] == []


def test_a_refused_key_has_its_own_exit_code_and_is_never_shown(cli: Cli) -> None:
    for command in (["list"], ["create", "q"], ["cancel", "x"]):
        result = cli("--api-key", "sp_test_wrong-wrong-wrong", "jobs", *command)
        assert (result.code, result.out) == (3, "")
        assert "refuses the API key" in result.error
        assert "wrong-wrong" not in result.err


def test_an_unreachable_server_has_its_own_exit_code(cli: Cli) -> None:
    result = cli("jobs", "list", "--base-url", "http://127.0.0.1:9")
    assert result.code == 4
    assert result.error.startswith("spooled: cannot reach http://127.0.0.1:9")
