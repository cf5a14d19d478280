"""Results in each serializer; what is no text is kept as base64, and `result_accept_content` is honoured."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery.backends.base
import pytest
from celery import Celery, group
from kombu.exceptions import ContentDisallowed
from kombu.pools import reset as reset_pools

from spooled_contrib.server import EmbeddedServer
from tests.kombu.conftest import needs, url_of
from tests.kombu.result_ways import PATIENCE, Ways
from tests.waiting import wait_until

YAML, MSGPACK = needs("yaml"), needs("msgpack")
SERIALIZERS = [
    "json",
    "pickle",
    pytest.param("yaml", marks=YAML.marks),
    pytest.param("msgpack", marks=MSGPACK.marks),
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


@pytest.mark.parametrize("way", ["prefork", "bridge"])
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
        ways.wait_until_ready(process)
        assert app.tasks["add"].delay(1, 2).get(timeout=PATIENCE) == 3, process.log
        failed = app.tasks["fail"].delay("broken")
        with pytest.raises(ValueError, match="broken"):
            failed.get(timeout=PATIENCE)
        steps = app.tasks["steps"].delay(3)
        wait_until(lambda: steps.info == {"step": 2}, process.log)
        (tmp_path / "open").touch()
        assert steps.get(timeout=PATIENCE) == 3
        assert app.tasks["retried"].delay(1).get(timeout=PATIENCE) == 1
        big = app.tasks["fail"].delay("long", 1_000_000)
        with pytest.raises(ValueError, match="characters are left out"):
            big.get(timeout=PATIENCE)
    saved: Any = group(app.tasks["add"].s(n) for n in range(2))()
    saved.save()
    assert [one.id for one in app.GroupResult.restore(saved.id, app=app).results] == [
        one.id for one in saved.results
    ]


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_reader_with_another_serializer(
    apps: list[Celery], server: EmbeddedServer, compression: str | None
) -> None:
    url = url_of(server)

    def app(**conf: Any) -> Celery:
        made = Celery("one", broker=url, backend="spooled://", set_as_current=False)
        made.conf.update(conf)
        apps.append(made)
        return made

    if compression and not hasattr(celery.backends.base, "decompress_payload"):
        pytest.skip("this Celery compresses no results")
    writer = app(result_serializer="pickle", result_accept_content=["pickle"], result_compression=compression)
    writer.backend.mark_as_done("one", {1, dt.date(2030, 1, 1)})
    assert writer.AsyncResult("one").get(timeout=PATIENCE) == {1, dt.date(2030, 1, 1)}
    with pytest.raises(ContentDisallowed):
        app().AsyncResult("one").get(timeout=PATIENCE)
    reader = app(result_accept_content=["json", "pickle"])
    assert reader.AsyncResult("one").get(timeout=PATIENCE) == {1, dt.date(2030, 1, 1)}
