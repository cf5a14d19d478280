"""How an application with jobs is tested: the real queue, and nothing that runs by itself."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from app.main import app, spooled
from app.users import get_mailer
from fastapi.testclient import TestClient
from PIL import Image
from spooled_contrib.server import EmbeddedServer


class FakeMailer:
    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    def send(self, to: str, subject: str, text: str) -> None:
        self.sent.append((to, text))


@pytest.fixture
def mailer() -> Iterator[FakeMailer]:
    fake = FakeMailer()
    app.dependency_overrides[get_mailer] = lambda: fake
    yield fake
    app.dependency_overrides.clear()


@pytest.fixture
def client(
    spooled_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    monkeypatch.setenv("APP_FOLDER", str(tmp_path))
    with spooled.testing(spooled_server), TestClient(app) as client:
        yield client


def test_signing_up_twice_sends_one_mail(client: TestClient, mailer: FakeMailer) -> None:
    for _ in range(2):
        answer = client.post("/signup", json={"email": "ada@example.org", "name": "Ada"})
        assert answer.status_code == 202
    (job,) = spooled.drain_sync()
    assert job.result == {"sent_to": "ada@example.org"}
    ((to, text),) = mailer.sent
    assert to == "ada@example.org"
    assert "Hello Ada" in text


def test_a_picture_gets_thumbnails(client: TestClient) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (800, 400), "teal").save(picture, "PNG")
    image = client.post("/images", files={"file": ("teal.png", picture.getvalue())}).json()["image"]
    assert client.get(f"/images/{image}").json() == {"ready": False, "thumbnails": {}}
    spooled.drain_sync()
    assert client.get(f"/images/{image}").json()["thumbnails"] == {"64": [64, 32], "256": [256, 128]}
    with Image.open(io.BytesIO(client.get(f"/images/{image}/64").content)) as thumbnail:
        assert thumbnail.size == (64, 32)
    assert client.get(f"/images/{image}/65").status_code == 404


def test_what_is_no_picture_is_not_tried_again(client: TestClient) -> None:
    client.post("/images", files={"file": ("notes.txt", b"no picture")})
    (job,) = spooled.drain_sync()
    assert job.status == "completed"
    assert "no picture that can be read" in str(job.result)
