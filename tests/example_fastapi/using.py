"""What people do with the example: they sign up and upload pictures."""

from __future__ import annotations

import io

import httpx
from PIL import Image

from tests.waiting import wait_until

THUMBNAILS = {"64": (64, 32), "256": (256, 128), "1024": (1024, 512)}


def sign_up(http: httpx.Client, email: str, name: str = "You") -> str:
    """The mail's job."""
    answer = http.post("/signup", json={"email": email, "name": name})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job"])


def upload(http: httpx.Client) -> str:
    """The picture's id."""
    data = io.BytesIO()
    Image.new("RGB", (1600, 800), "teal").save(data, "PNG")
    answer = http.post("/images", files={"file": ("teal.png", data.getvalue())})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["image"])


def wait_for_thumbnails(http: httpx.Client, image: str) -> None:
    """Until they are there; each must then be whole, of the right size, and of the picture's colour."""
    wait_until(lambda: http.get(f"/images/{image}").json()["status"] == "ready", "the thumbnails are ready")
    thumbnails = http.get(f"/images/{image}").json()["thumbnails"]
    assert thumbnails.keys() == THUMBNAILS.keys()
    for size, expected in THUMBNAILS.items():
        shown = thumbnails[size]
        assert (shown["width"], shown["height"]) == expected
        answer = http.get(shown["url"])
        assert answer.headers["content-type"] == "image/jpeg"
        with Image.open(io.BytesIO(answer.content)) as picture:
            picture.load()
            assert (picture.format, picture.size) == ("JPEG", expected)
            pixel = picture.getpixel((0, 0))
            assert isinstance(pixel, tuple)
            assert all(abs(one - two) < 10 for one, two in zip(pixel, (0, 128, 128), strict=True))
