"""Schemathesis, bounded and always the same. `make fuzz` runs it for longer and differently each time."""

from __future__ import annotations

import os
import subprocess

from tests.server.fuzzing import ADMIN_KEY, KEY
from tests.server.fuzzing.__main__ import ROOT, command


def test_the_server_is_as_it_describes_itself(start_server):
    server = start_server(api_key=KEY, admin_key=ADMIN_KEY, allow_private_webhooks=True)
    run = subprocess.run(
        command(server.url, "--seed", "1", "--max-examples", "5", "--generation-deterministic"),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr
    assert "Stateful" in run.stdout
