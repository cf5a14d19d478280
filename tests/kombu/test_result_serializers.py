"""Results in each serializer; what is no text is kept as base64, and `result_accept_content` is honoured."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, group
from kombu.exceptions import ContentDisallowed
from kombu.pools import reset as reset_pools

from spooled_contrib.server import EmbeddedServer
from tests.kombu.conftest import needs, url_of
from tests.kombu.result_ways import Ways
from tests.waiting import HOPELESS, wait_until
from tests.worker.conftest import Outside

SERIALIZERS = [
    "json",
    "pickle",
    pytest.param("yaml", marks=needs("yaml").marks),
    pytest.param("msgpack", marks=needs("msgpack").marks),
]


@pytest.fixture
def apps() -> Iterator[list[Celery]]:
    made: list[Celery] = []
    yield made
    for app in made:
        app.backend.close()
        app.pool.force_close_all()
        app.close()
    reset_pools()


@pytest.mark.parametrize("way", ["threads", "prefork", "bridge"])
@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_results_are_read_in_every_serializer(
    apps: list[Celery], server: EmbeddedServer, tmp_path: Path, serializer: str, way: str
) -> None:
    conf = {
        "result_serializer": serializer,
        "accept_content": ["json"],
        "result_accept_content": ["json", serializer],
    }
    ways = Ways(tmp_path, url_of(server), **conf)
    apps.append(app := ways.app())
    with ways.run(way) as process:
        process.wait_for(" ready.")
        assert app.tasks["add"].delay(1, 2).get(timeout=HOPELESS) == 3, process.log
        failed = app.tasks["fail"].delay("broken")
        with pytest.raises(ValueError, match="broken"):
            failed.get(timeout=HOPELESS)
        steps = app.tasks["steps"].delay(3)
        wait_until(lambda: steps.info == {"step": 2}, process.log)
        (tmp_path / "open").touch()
        assert steps.get(timeout=HOPELESS) == 3
        assert app.tasks["retried"].delay(1).get(timeout=HOPELESS) == 1
        big = app.tasks["fail"].delay("long", 1_000_000)
        with pytest.raises(ValueError, match="characters are left out"):
            big.get(timeout=HOPELESS)
    saved: Any = group(app.tasks["add"].s(n) for n in range(2))()
    saved.save()
    assert [one.id for one in app.GroupResult.restore(saved.id, app=app).results] == [
        one.id for one in saved.results
    ]


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_reader_with_another_serializer(
    apps: list[Celery], server: EmbeddedServer, outside: Outside, tmp_path: Path, compression: str | None
) -> None:
    url = url_of(server)

    def app(**conf: Any) -> Celery:
        made = Celery("one", broker=url, backend="spooled://", set_as_current=False)
        made.conf.update(conf)
        apps.append(made)
        return made

    writer = app(result_serializer="pickle", result_accept_content=["pickle"], result_compression=compression)
    writer.backend.mark_as_done("one", {1, dt.date(2030, 1, 1)})
    assert writer.AsyncResult("one").get(timeout=HOPELESS) == {1, dt.date(2030, 1, 1)}
    with pytest.raises(ContentDisallowed):
        app().AsyncResult("one").get(timeout=HOPELESS)
    if compression is None:
        assert app(result_accept_content=["json", "pickle"]).AsyncResult("one").get(timeout=HOPELESS) == {
            1,
            dt.date(2030, 1, 1),
        }
