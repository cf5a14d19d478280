"""The application: `uvicorn app.main:app`. Its workers: `spooled worker app.main:spooled`."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException
from spooled_contrib.fastapi import Spooled
from starlette.requests import HTTPConnection

from app import images, users
from app.settings import Settings
from app.store import Store


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """What requests and jobs share. The worker enters it too, in its own process."""
    settings = Settings()
    settings.folder.mkdir(parents=True, exist_ok=True)
    store = Store(settings.folder / "app.db")
    store.create_tables()
    store.close()
    yield {"settings": settings, "folder": settings.folder}


def admins_only(conn: HTTPConnection, x_admin_token: Annotated[str, Header()] = "") -> None:
    expected = conn.state.settings.admin_token
    if not expected or not secrets.compare_digest(x_admin_token.encode(), expected.encode()):
        raise HTTPException(403, "for admins only")


spooled = Spooled(statistics=Depends(admins_only))
spooled.include_router(users.jobs)
spooled.include_router(images.jobs)

app = FastAPI(title="Pictures", lifespan=spooled.wrap(lifespan))
app.include_router(users.router)
app.include_router(images.router)
app.include_router(spooled.router, prefix="/spooled")
