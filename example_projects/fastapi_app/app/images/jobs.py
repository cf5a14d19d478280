"""Jobs that work on pictures."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageOps
from pydantic import BaseModel
from spooled.worker import Discard, JobContext
from spooled_contrib.fastapi import JobRouter

from app.dependencies import StoreDep

jobs = JobRouter()

SIZES = (64, 256, 1024)


class MakeThumbnails(BaseModel):
    """What the job is given. It names the picture and does not hold it: payloads are for small things."""

    image: str
    sizes: tuple[int, ...] = SIZES


@jobs.job("images", "thumbnails", concurrency=2, timeout_seconds=120)
def make_thumbnails(ctx: JobContext[MakeThumbnails], store: StoreDep) -> dict[str, int]:
    image = ctx.payload.image
    # A disk that cannot be read may work at the next attempt, so that error is left to the worker's retries.
    data = store.original(image).read_bytes()
    try:
        picture = open_picture(data)
    except ValueError as error:
        # This one will never work. The commit is needed because what is raised rolls back.
        store.set_unreadable(image)
        store.commit()
        raise Discard(f"{image} is no picture that can be read") from error
    made = {size: save_thumbnail(picture, size, store.thumbnail(image, size)) for size in ctx.payload.sizes}
    store.set_thumbnails(image, made)
    return {"thumbnails": len(made)}


def open_picture(data: bytes) -> Image.Image:
    """The picture, decoded and the right way up.

    Raises:
        ValueError: It is none.
    """
    try:
        picture = Image.open(io.BytesIO(data))
        # Phones store how they were held instead of turning the picture.
        return ImageOps.exif_transpose(picture).convert("RGB")
    except (
        OSError,
        SyntaxError,
        Image.DecompressionBombError,
    ) as error:  # all of them Pillow's for a bad file
        raise ValueError("no picture") from error


def save_thumbnail(picture: Image.Image, size: int, path: Path) -> tuple[int, int]:
    """Write a copy that fits into a square of this size, and return its width and height."""
    thumbnail = picture.copy()
    thumbnail.thumbnail((size, size))
    # It gets its name only when it is complete, so a job that is killed here leaves nothing that looks finished, and
    # the next attempt does the same once more without harm.
    unfinished = path.with_suffix(".unfinished")
    thumbnail.save(unfinished, "JPEG")
    unfinished.replace(path)
    return thumbnail.size
