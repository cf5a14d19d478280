"""What endpoints and jobs share.

Both may depend on an HTTPConnection: it has the application and what the lifespan has yielded. A Request would be
refused at the job's decorator, because no request is there when a job runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from app.settings import Settings
from app.store import Store


def get_settings(conn: HTTPConnection) -> Settings:
    settings: Settings = conn.state.settings
    return settings


SettingsDep = Annotated[Settings, Depends(get_settings)]


def get_store(settings: SettingsDep) -> Iterator[Store]:
    """A connection for one request or one job. What was done is kept if nothing was raised."""
    store = Store(settings.folder)
    try:
        yield store
        store.commit()
    finally:
        store.close()


StoreDep = Annotated[Store, Depends(get_store)]
