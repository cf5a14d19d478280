"""Each block of the README, run as pasted, in an empty virtual environment, with the package that `make wheel` builds.

Needs the package index and some minutes, so it runs by `make test-readme`, which CI does. Ports are the only thing that
is changed: several readers share this machine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.processes import Process
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(
        "SPOOLED_TEST_INSTALLS" not in os.environ,
        reason="installs from the package index: `make test-readme` runs it",
    ),
    pytest.mark.timeout(900),
]


@dataclass
class Section:
    """One heading's blocks: what is typed, and the files that are written."""

    commands: list[str] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


def read_sections() -> dict[str, Section]:
    """Return the README's blocks by heading.

    A console block's `$ ` lines are typed, and what follows one is its answer; a Python block is the file that its
    first line names.
    """
    sections: dict[str, Section] = {}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for heading, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE):
        section = sections[heading] = Section()
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", body, re.DOTALL | re.MULTILINE):
            if language == "console":
                for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                    command, _, answer = part.partition("\n")
                    section.commands.append(command)
                    section.answers[command] = answer
            elif language == "python":
                name = re.match(r"# ([\w./]+)", block)
                assert name, (
                    f"a Python block of {heading!r} does not begin with its file's name: {block[:60]!r}"
                )
                section.files[name[1]] = block
    return sections


README = read_sections()


class Reader:
    """Somebody who pastes: a folder with an empty virtual environment, and free ports instead of 8080 and 8000."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.ports = {"8080": str(free_port()), "8000": str(free_port())}
        checkout = folder / "checkout"
        shutil.copytree(wheels, checkout / "dist")
        _, find, enter = README["Install"].commands
        self.prelude = [f"cd {checkout}", find, enter]
        self.home = folder / "try" / "app"
        self.environment = outside()
        self.run(*self.prelude[:2], enter, prelude=False)
        # The next terminals go where the first one has been.
        self.prelude = [f"cd {checkout}", find, f". {folder}/try/bin/activate", f"cd {self.home}"]
        self.prelude += README["Ten lines"].commands[2:4]

    def _script(self, commands: tuple[str, ...], prelude: bool) -> str:
        script = "\n".join([*(self.prelude if prelude else []), *commands])
        script = script.replace("spooled server ", "spooled server --port 8080 ")
        script = script.replace("uvicorn main:app", "uvicorn main:app --port 8000")
        for shown, free in self.ports.items():
            script = script.replace(shown, free)
        return script

    def write(self, files: dict[str, str]) -> None:
        """Save a section's files; one that is there already gets the block at its end, as the README says."""
        for name, text in files.items():
            for shown, free in self.ports.items():
                text = text.replace(f":{shown}", f":{free}")
            path = self.home / name
            before = path.read_text(encoding="utf-8") if path.exists() else ""
            path.write_text(before + text, encoding="utf-8")

    def run(self, *commands: str, prelude: bool = True) -> str:
        """Type commands into a new terminal and return what they print."""
        done = subprocess.run(
            ["bash", "-e", "-c", self._script(commands, prelude)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{commands} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *commands: str) -> Process:
        """Type commands into a new terminal; the last one goes on."""
        script = self._script(commands, prelude=True)
        return Process(
            "-c",
            "import os, sys; os.execvp('bash', ['bash', '-e', '-c', sys.argv[1]])",
            script,
            environment=self.environment,
        )

    @contextmanager
    def server(self) -> Iterator[None]:
        """Run the server of the ten lines, as its section says."""
        with self.start(README["Ten lines"].commands[1]) as process:
            process.wait_for("http://")
            yield


def outside() -> dict[str, str]:
    """Return an environment in which no virtual environment is active and nothing is set up for Spooled."""
    inside = str(Path(sys.prefix) / "bin")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SPOOLED", "PYTHON", "PYTEST", "VIRTUAL_ENV", "DJANGO", "MAKE"))
    }
    environment["PATH"] = os.pathsep.join(
        one for one in os.environ["PATH"].split(os.pathsep) if one not in (inside, "")
    )
    # As in a terminal: what is printed can be read at once.
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built in a fresh checkout by the README's own command."""
    checkout = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, checkout / name)
    build = README["Install"].commands[0]
    made = subprocess.run(["bash", "-e", "-c", build], cwd=checkout, env=outside(), check=True, stdout=-1)
    assert re.fullmatch(rb"dist/spooled_contrib-\S+\.whl\n", made.stdout)
    return checkout / "dist"


@pytest.fixture
def reader(tmp_path: Path, wheels: Path) -> Reader:
    return Reader(tmp_path, wheels)


def test_no_block_goes_untried():
    tried = {"Two commands", "Install", "Ten lines", "FastAPI", "Django", "Celery"}
    assert {heading for heading, section in README.items() if section.commands or section.files} == tried
    # Each section's test takes these, in this order; a command more must be taken by it too.
    counts = {heading: len(README[heading].commands) for heading in sorted(tried)}
    assert counts == {
        "Celery": 3,
        "Django": 6,
        "FastAPI": 3,
        "Install": 3,
        "Ten lines": 6,
        "Two commands": 2,
    }


def test_the_ten_lines(reader: Reader):
    section = README["Ten lines"]
    install, _serve, _url, _key, work, enqueue = section.commands
    reader.run(install)
    reader.write(section.files)
    with reader.server():
        # The prelude of a terminal has typed the two exports.
        with reader.start(work) as worker:
            assert reader.run(enqueue) == section.answers[enqueue]
            worker.wait_for("to ada@example.org, attempt 1\n")
            wait_until(lambda: " completed " in reader.run("spooled jobs list"), "the job has completed")
        assert "emails" in reader.run("spooled queues stats emails")
    reader.run("python -c 'import watchfiles'")  # what `spooled dev` reloads with


def test_fastapi(reader: Reader):
    section = README["FastAPI"]
    install, serve, post = section.commands
    reader.run(install)
    reader.write(section.files)
    with reader.server(), reader.start(serve) as application:
        application.wait_for("Application startup complete")
        job_id = reader.run(post).strip('"')
        wait_until(
            lambda: '"sent_to"' in reader.run(f"spooled jobs show {job_id} --json"), "the job has its result"
        )


def test_django(reader: Reader):
    section = README["Django"]
    reader.run(*section.commands[:2])
    reader.write(section.files)
    with reader.server():
        migrate, enqueue, work, status = section.commands[2:]
        reader.run(migrate)
        reader.run(enqueue)
        reader.run(work)
        numbers = re.search(r"^invoices +(\d+) +(\d+) +(\d+) +(\d+)", reader.run(status), re.MULTILINE)
        assert numbers
        assert numbers.groups() == ("0", "0", "0", "1")  # pending, scheduled, processing, completed


def test_celery(reader: Reader):
    section = README["Celery"]
    install, work, call = section.commands
    reader.run(install)
    reader.write(section.files)
    with reader.server(), reader.start(work) as worker:
        worker.wait_for(".> celery ")
        assert reader.run(call) == section.answers[call]
