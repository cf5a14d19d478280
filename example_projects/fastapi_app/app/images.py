"""Pictures, and the thumbnails that are made of them."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, UploadFile
from fastapi.responses import FileResponse
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel
from spooled.worker import Discard, JobContext
from spooled_contrib.fastapi import JobRouter

from app.store import Folder, StoreDep

router = APIRouter(prefix="/images", tags=["images"])
jobs = JobRouter()

SIZES = (64, 256)
LIMIT = 10 * 1024 * 1024


class Thumbnails(BaseModel):
    """What the job is given."""

    image: str
    sizes: tuple[int, ...] = SIZES


class Uploaded(BaseModel):
    image: str
    job: str


class ImageStatus(BaseModel):
    ready: bool
    thumbnails: dict[int, tuple[int, int]]


def get_pictures(folder: Folder) -> Path:
    pictures = folder / "images"
    pictures.mkdir(exist_ok=True)
    return pictures


Pictures = Annotated[Path, Depends(get_pictures)]


@jobs.job("images", "thumbnails", concurrency=2, timeout_seconds=120)
def make_thumbnails(ctx: JobContext[Thumbnails], store: StoreDep, pictures: Pictures) -> dict[str, int]:
    image = ctx.payload.image
    made = {}
    try:
        with Image.open(pictures / image) as original:
            for size in ctx.payload.sizes:
                thumbnail = original.convert("RGB")
                thumbnail.thumbnail((size, size))
                # Under its name only when it is complete, so that running twice does no harm.
                unfinished = pictures / f"{image}-{size}.unfinished"
                thumbnail.save(unfinished, "JPEG")
                unfinished.replace(pictures / f"{image}-{size}.jpg")
                made[size] = thumbnail.size
    except UnidentifiedImageError as error:
        # No retry will make a picture of it.
        raise Discard(f"{image} is no picture that can be read") from error
    store.set_thumbnails(image, made)
    return {"thumbnails": len(made)}


@router.post("", status_code=202)
def upload(file: UploadFile, store: StoreDep, pictures: Pictures) -> Uploaded:
    data = file.file.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise HTTPException(413, f"a picture may have {LIMIT} bytes")
    image = secrets.token_urlsafe(12)
    (pictures / image).write_bytes(data)
    store.add_image(image, file.filename or "")
    store.commit()
    # The payload is small: it names the picture, and does not hold it.
    job = make_thumbnails.enqueue_sync(Thumbnails(image=image), idempotency_key=f"thumbnails-{image}")
    return Uploaded(image=image, job=job.id)


@router.get("/{image}")
def status(image: str, store: StoreDep) -> ImageStatus:
    if not store.has_image(image):
        raise HTTPException(404, "no such picture")
    thumbnails = store.thumbnails(image)
    return ImageStatus(ready=bool(thumbnails), thumbnails=thumbnails)


@router.get("/{image}/{size}")
def thumbnail(image: str, size: int, store: StoreDep, pictures: Pictures) -> FileResponse:
    # Only what the database knows becomes part of a path.
    if size not in store.thumbnails(image):
        raise HTTPException(404, "no such thumbnail")
    return FileResponse(pictures / f"{image}-{size}.jpg", media_type="image/jpeg")
