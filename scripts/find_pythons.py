"""Print the Python interpreters of this machine that the project supports, oldest first: `3.11 /usr/bin/python3.11`.

Looks for `python3` and `python3.N` on the PATH, and beside the one that runs this, where version managers keep their
others. With `--ends`, prints the oldest and the newest only. Runs on older Pythons too, so that make can always ask it.
"""

import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)

TELL = "import sys; print(sys.version_info[0], sys.version_info[1], sys.version_info[3], sys.executable)"


def candidates():
    for name in ["python3", *(f"python3.{minor}" for minor in range(OLDEST[1], OLDEST[1] + 10))]:
        path = shutil.which(name)
        if path:
            yield path
    yield from sorted(map(str, Path(sys.base_prefix).parent.glob("*/bin/python3")), reverse=True)


def main():
    found = {}
    for path in candidates():
        # Version managers put scripts on the PATH that may run anything, or nothing.
        told = subprocess.run(
            [path, "-c", TELL], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
        )
        words = told.stdout.decode().strip().split(" ", 3)
        if told.returncode or len(words) != 4 or words[2] != "final":
            continue
        version = int(words[0]), int(words[1])
        if version >= OLDEST:
            found.setdefault(version, words[3])
    if not found:
        sys.exit(f"no Python from {OLDEST[0]}.{OLDEST[1]} on was found on this machine")
    versions = sorted(found)
    if "--ends" in sys.argv[1:]:
        versions = sorted({versions[0], versions[-1]})
    for version in versions:
        print(f"{version[0]}.{version[1]} {found[version]}")


if __name__ == "__main__":
    main()
