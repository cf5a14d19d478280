"""The application: `uvicorn app.main:app`. Its workers: `spooled worker app.main:spooled`."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException
from spooled_contrib.fastapi import Spooled

from app import users
from app.dependencies import SettingsDep
from app.images import jobs as image_jobs
from app.images import routes as image_routes
from app.mail import jobs as mail_jobs
from app.settings import Settings
from app.store import Store


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """What requests and jobs find in their state. `spooled worker` enters it too, in its own process."""
    settings = Settings.read()
    Store.prepare(settings.folder)
    yield {"settings": settings}


def admins_only(settings: SettingsDep, x_admin_token: Annotated[str, Header()] = "") -> None:
    expected = settings.admin_token
    if not expected or not secrets.compare_digest(x_admin_token.encode(), expected.encode()):
        raise HTTPException(403, "for admins only")


# Nothing is read or connected here, only when the lifespan begins. So importing this module costs nothing.
spooled = Spooled(statistics=Depends(admins_only))
spooled.include_router(mail_jobs.jobs)
spooled.include_router(image_jobs.jobs)

# Our lifespan around Spooled's: what it opens is there before the first job, and until the last has ended.
app = FastAPI(title="Pictures", lifespan=spooled.wrap(lifespan))
app.include_router(users.router)
app.include_router(image_routes.router)
app.include_router(spooled.router, prefix="/spooled")
