"""The page's files reach those who install the package."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "spooled_contrib" / "server" / "page"


def test_the_wheel_has_the_page(tmp_path: Path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {Path(name).name for name in archive.namelist() if "/server/page/" in name}
    assert packed == {path.name for path in PAGE.iterdir()}
    assert {"index.html", "login.html", "page.css", "app.js"} <= packed


def test_whatever_a_file_names_is_there():
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r'(?:/page/|from "\./)([a-z-]+\.[a-z]+)"', text):
            assert (PAGE / name).is_file(), f"{path.name} names {name}"


def test_no_text_can_become_markup():
    for path in PAGE.glob("*.js"):
        found = re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|javascript:",
            path.read_text(encoding="utf-8"),
        )
        assert found is None, f"{path.name}: {found}"
