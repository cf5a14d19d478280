"""A FastAPI application with an in-app worker, for `benchmarks.app_latency`."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI

from spooled_contrib.fastapi import Spooled

spooled = Spooled()
app = FastAPI(lifespan=spooled.lifespan)
app.include_router(spooled.router, prefix="/spooled")


@spooled.job("latency", concurrency=10)
async def five_milliseconds(payload: dict[str, int]) -> None:
    await asyncio.sleep(0.005)


@app.get("/io")
async def io() -> dict[str, int]:
    """Ten milliseconds of waiting, as for a database."""
    await asyncio.sleep(0.01)
    return {"answer": 42}


@app.get("/bare")
async def bare() -> dict[str, int]:
    """Nothing but FastAPI."""
    return {"answer": 42}
