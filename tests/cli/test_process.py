"""What only a process of its own can show."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from spooled_contrib.server import EmbeddedServer
from tests.cli.conftest import Api, Spawn
from tests.waiting import HOPELESS


def test_a_command_as_a_process(spawn: Spawn, api: Api) -> None:
    created = spawn("jobs", "create", "q", "-", "--json", stdin='{"n": 1}').finish()
    assert (created.code, created.err) == (0, "")
    assert api.job(created.json["id"])["payload"] == {"n": 1}


def test_exit_codes_reach_the_shell(spawn: Spawn) -> None:
    assert spawn("job").finish().code == 2
    assert spawn("jobs", "show", "nope").finish().code == 1
    assert spawn("jobs", "list", SPOOLED_API_KEY="sp_test_wrong-wrong-wrong").finish().code == 3


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_seen_enough_is_no_error(server: EmbeddedServer, api: Api, unbuffered: str) -> None:
    api.enqueue()
    settings = {
        "SPOOLED_API_KEY": server.api_key,
        "SPOOLED_BASE_URL": server.url,
        "PYTHONUNBUFFERED": unbuffered,
    }
    # The reader's end is closed before the first byte is written.
    code = "import sys; sys.stdin.readline(); from spooled.cli import main; sys.exit(main(['jobs', 'list']))"
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **settings},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stdin.write(b"go\n")
    process.stdin.close()
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(HOPELESS), said) == (141, b"")


def test_a_terminal_without_unicode_gets_escapes(spawn: Spawn, api: Api) -> None:
    job_id = api.enqueue("日本", {"to": "größer"})
    result = spawn("jobs", "show", job_id, PYTHONIOENCODING="ascii").finish()
    assert (result.code, result.err) == (0, "")
    assert "\\u65e5\\u672c" in result.out
