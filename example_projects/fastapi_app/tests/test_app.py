"""How an application with jobs is tested: the real queue, and nothing that runs by itself."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from app.mail.jobs import WelcomeMail, send_welcome
from app.mail.mailer import get_mailer
from app.main import app, spooled
from fastapi.testclient import TestClient
from PIL import Image
from spooled_contrib.server import EmbeddedServer


class FakeMailer:
    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    def send(self, to: str, subject: str, text: str, key: str) -> None:
        self.sent.append((to, text))


@pytest.fixture
def mailer() -> Iterator[FakeMailer]:
    """In place of the real one. Jobs see the application's overrides, as endpoints do."""
    fake = FakeMailer()
    app.dependency_overrides[get_mailer] = lambda: fake
    yield fake
    app.dependency_overrides.clear()


@pytest.fixture
def client(
    spooled_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    """The fixture `spooled_server` comes with the package: a fresh server in memory."""
    monkeypatch.setenv("APP_FOLDER", str(tmp_path))
    with spooled.testing(spooled_server), TestClient(app) as client:
        yield client


def a_picture() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (800, 400), "teal").save(data, "PNG")
    return data.getvalue()


def test_signing_up_twice_sends_one_mail(client: TestClient, mailer: FakeMailer) -> None:
    for _ in range(2):
        answer = client.post("/signup", json={"email": "ada@example.org", "name": "Ada"})
        assert answer.status_code == 202
    (job,) = spooled.drain_sync()
    assert job.result == {"sent_to": "ada@example.org"}
    ((to, text),) = mailer.sent
    assert to == "ada@example.org"
    assert "Hello Ada" in text


def test_what_is_no_address_is_refused(client: TestClient) -> None:
    assert client.post("/signup", json={"email": "ada", "name": "Ada"}).status_code == 422
    assert spooled.drain_sync() == []


def test_who_is_gone_gets_no_mail(client: TestClient, mailer: FakeMailer) -> None:
    # A job can also be enqueued by the test itself, as long as the application runs.
    send_welcome.enqueue_sync(WelcomeMail(user=404))
    (job,) = spooled.drain_sync()
    assert "user 404 is gone" in str(job.result)
    assert mailer.sent == []


def test_a_picture_gets_thumbnails(client: TestClient) -> None:
    image = client.post("/images", files={"file": ("teal.png", a_picture())}).json()["image"]
    assert client.get(f"/images/{image}").json() == {"status": "waiting", "thumbnails": {}}
    spooled.drain_sync()
    shown = client.get(f"/images/{image}").json()
    assert shown["status"] == "ready"
    # It is never made larger than it was.
    for size, expected in {"64": (64, 32), "256": (256, 128), "1024": (800, 400)}.items():
        one = shown["thumbnails"][size]
        assert (one["width"], one["height"]) == expected
        with Image.open(io.BytesIO(client.get(one["url"]).content)) as thumbnail:
            assert thumbnail.size == expected
    assert client.get(f"/images/{image}/65").status_code == 404


@pytest.mark.parametrize("data", [b"no picture", a_picture()[:200]], ids=["text", "half a picture"])
def test_what_cannot_be_read_is_not_tried_again(client: TestClient, data: bytes) -> None:
    image = client.post("/images", files={"file": ("broken.png", data)}).json()["image"]
    (job,) = spooled.drain_sync()
    assert job.status == "completed"
    assert "no picture that can be read" in str(job.result)
    assert client.get(f"/images/{image}").json() == {"status": "unreadable", "thumbnails": {}}
