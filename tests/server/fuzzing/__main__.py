"""Run Schemathesis against a server of its own, in another process."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.server.fuzzing import ADMIN_KEY, KEY

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def command(url: str, *options: str) -> list[str]:
    """What fuzzes the server at `url`."""
    schemathesis = Path(sys.executable).with_name("schemathesis")
    return [
        str(schemathesis),
        "--config-file",
        str(HERE / "schemathesis.toml"),
        "run",
        f"{url}/openapi.json",
        "--header",
        f"Authorization: Bearer {KEY}",
        "--checks",
        "all",
        "--no-color",
        *options,
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.server.fuzzing", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="what to repeat (default: another one each time)")
    arguments = parser.parse_args()
    server = subprocess.Popen(
        [
            str(Path(sys.executable).with_name("spooled")),
            "server",
            "--port",
            "0",
            "--api-key",
            KEY,
            "--allow-private-webhooks",
        ],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "SPOOLED_SERVER_ADMIN_KEY": ADMIN_KEY},
    )
    try:
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["url"]
        seed = () if arguments.seed is None else ("--seed", str(arguments.seed))
        options = ("--max-time", str(arguments.seconds), "--max-examples", "1000", *seed)
        return subprocess.run(
            command(url, *options), cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
        ).returncode
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
