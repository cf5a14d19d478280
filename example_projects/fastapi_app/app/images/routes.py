"""Uploading pictures, and looking at what became of them."""

from __future__ import annotations

import secrets

from fastapi import APIRouter, HTTPException, Request, UploadFile
from fastapi.responses import FileResponse
from pydantic import BaseModel

from app.dependencies import StoreDep
from app.images.jobs import MakeThumbnails, make_thumbnails
from app.store import Status

router = APIRouter(prefix="/images", tags=["images"])

LIMIT = 10 * 1024 * 1024


class Uploaded(BaseModel):
    image: str
    job: str


class Thumbnail(BaseModel):
    url: str
    width: int
    height: int


class ImageStatus(BaseModel):
    status: Status
    thumbnails: dict[int, Thumbnail]


@router.post("", status_code=202)
def upload(file: UploadFile, store: StoreDep) -> Uploaded:
    data = file.file.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise HTTPException(413, f"a picture may have {LIMIT} bytes")
    # The name is ours: what the client calls its file never becomes part of a path.
    image = secrets.token_hex(8)
    store.original(image).write_bytes(data)
    store.add_image(image, file.filename or "")
    store.commit()
    job = make_thumbnails.enqueue_sync(MakeThumbnails(image=image), idempotency_key=f"thumbnails-{image}")
    return Uploaded(image=image, job=job.id)


@router.get("/{image}")
def show(image: str, store: StoreDep, request: Request) -> ImageStatus:
    status = store.image_status(image)
    if status is None:
        raise HTTPException(404, "no such picture")
    thumbnails = {
        size: Thumbnail(
            url=str(request.url_for("thumbnail", image=image, size=size)), width=width, height=height
        )
        for size, (width, height) in store.thumbnails(image).items()
    }
    return ImageStatus(status=status, thumbnails=thumbnails)


@router.get("/{image}/{size}")
def thumbnail(image: str, size: int, store: StoreDep) -> FileResponse:
    # Only what the database knows becomes part of a path.
    if size not in store.thumbnails(image):
        raise HTTPException(404, "no such thumbnail")
    return FileResponse(store.thumbnail(image, size), media_type="image/jpeg")
