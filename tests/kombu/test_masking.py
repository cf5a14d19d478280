"""The API key is in no output, no log, no message and no database."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, _state
from kombu import Connection
from kombu.pools import connections, producers
from kombu.pools import reset as reset_pools

from spooled_contrib.kombu._masking import Masked, blank_out, reveal
from spooled_contrib.kombu._url import masked, parse
from spooled_contrib.server import EmbeddedServer
from tests.kombu.conftest import url_of
from tests.kombu.test_celery import Project
from tests.waiting import HOPELESS

KEY = "sp_test_a-key-that-is-found-nowhere-else-0123456789"
ODD_KEY = "a key/with@odd?letters#0123456789"
ODD_QUOTED = "a%20key%2Fwith%40odd%3Fletters%230123456789"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(db=str(tmp_path / "jobs.db"), api_key=KEY) as running:
        yield running


@pytest.mark.parametrize(
    "url",
    [
        f"spooled://:{KEY}@h",
        f"spooled+http://:{KEY}@127.0.0.1:9?lease=60",
        f"spooled://{KEY}@h",
        f"spooled://somebody:{KEY}@h:443/",
        f"spooled://:{KEY}@a;spooled://:{KEY}@b",
        f"spooled+http://:{KEY}@a;spooled+http://{KEY}@b",
        [f"spooled://:{KEY}@a", f"spooled+http://:{KEY}@b"],
        f"spooled://h?api_key={KEY}",
        f"spooled://{KEY}",
        f"spooled://:{KEY}",
    ],
    ids=str,
)
def test_nothing_that_a_connection_tells_has_the_key(url: Any) -> None:
    connection = Connection(url)
    pooled = connection.Pool(2).acquire()
    assert KEY not in f"{pooled.info()} {pooled!r} {vars(pooled.transport)}"
    for one in (connection, connection.clone(), copy.copy(connection)):
        told = f"{one.info()} {one!r} {one.as_uri()} {one.transport!r} {one.clone().info()}"
        assert KEY not in told
        assert KEY not in str(vars(one.transport))
        assert KEY.encode() not in pickle.dumps(one.info())
        assert KEY.encode() not in pickle.dumps(one)


def test_the_key_may_be_a_part_of_its_own() -> None:
    for connection in (
        Connection("spooled://h?lease=60", password=KEY),
        Connection("spooled+http://127.0.0.1:9", userid=KEY),
        Connection("spooled://h", password=lambda: KEY),
    ):
        assert KEY not in f"{connection.info()} {connection.clone().info()} {connection!r}"
        assert connection.transport.address().api_key == KEY
        assert connection.clone().transport.address() == connection.transport.address()


def test_clones_and_pools_still_reach_the_server(server: EmbeddedServer) -> None:
    connection = Connection(url_of(server))
    connection.connect()
    with connection.clone() as clone, clone.clone() as again:
        assert again.connect()
    pool = connection.Pool(2)
    with pool.acquire() as pooled:
        assert pooled.connect()
    pool.force_close_all()
    connection.close()
    # A connection finds its pool again, whether or not its key is hidden by now.
    fresh, used = Connection(url_of(server)), Connection(url_of(server))
    assert used.info()
    assert connections[fresh] is connections[used]
    assert producers[used] is producers[Connection(url_of(server))]
    assert connections[used] is not connections[Connection(url_of(server).replace(KEY, KEY[::-1]))]
    reset_pools()


def test_the_next_of_several_brokers_gets_its_key(server: EmbeddedServer) -> None:
    live = url_of(server).partition("?")[0]
    dead = live.replace(KEY, "another-key-0123456789").replace(server.url.rpartition(":")[2], "9")
    connection = Connection([dead, live], transport_options={"poll": 0.1})
    for one in (connection, connection.clone().clone()):
        one.ensure_connection(interval_start=0, max_retries=3)
        assert one.transport.address().api_key == KEY
        assert KEY not in f"{one.info()}"
        one.close()


@pytest.mark.parametrize(
    "url",
    [
        f"spooled://:{ODD_KEY}@h",
        f"spooled://{ODD_KEY}@h",
        f"spooled://:{KEY}",
        f"spooled://{KEY}",
        f"spooled://:{KEY}@h:{KEY}",
        f"spooled://:{KEY}@h/{KEY}@h",
        f"spooled://:{KEY}@[::1",
        f"spooled://:{KEY}\u2100@h",
        f"spooled://h?api_key={KEY}",
        f"spooled://h?{KEY}",
        f"spooled://h?{KEY}=1",
        f"spooled://h?leese={KEY}",
        f"amqp://:{KEY}@h",
    ],
    ids=str,
)
def test_no_error_has_the_key(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse(url)
    error: BaseException | None = caught.value
    while error is not None:
        for piece in (KEY, "odd", "letters"):
            assert piece not in str(error)
            assert piece not in masked(url)
        assert error.__suppress_context__ or error.__context__ is None
        error = error.__cause__


def test_a_key_in_percent_encoding() -> None:
    connection = Connection(f"spooled://:{ODD_QUOTED}@h")
    assert connection.transport.address().api_key == ODD_KEY
    for piece in (ODD_KEY, ODD_QUOTED):
        assert piece not in str(connection.info())


def test_a_masked_url_is_not_taken_for_a_key() -> None:
    restored = pickle.loads(pickle.dumps(Connection(f"spooled://:{KEY}@h")))
    with pytest.raises(ValueError, match="was printed or pickled"):
        restored.transport.address()


@pytest.mark.parametrize("name", ["api_key", "key", "token", "password"])
def test_a_key_among_the_options_is_refused(name: str) -> None:
    connection = Connection("spooled://h", transport_options={name: KEY})
    with pytest.raises(ValueError, match="the key stands in front of the host") as caught:
        connection.info()
    assert KEY not in str(caught.value)


def test_what_is_masked_is_what_it_stands_for() -> None:
    text = Masked("**", KEY)
    assert (str(text), repr(text), f"{text}", text.encode()) == ("**", "'**'", "**", b"**")
    assert reveal(text) == reveal(copy.deepcopy(text)) == KEY
    assert text == KEY
    assert text != "**"
    assert text != Masked("**", "another")
    assert {text: 1}[KEY] == 1
    assert (reveal(None), reveal("plain"), reveal(lambda: "asked")) == ("", "plain", "asked")


def test_bodies_with_a_key_keep_their_length() -> None:
    body = pickle.dumps({"url": f"spooled://:{ODD_QUOTED}@h", "key": KEY, "other": "text"})
    blanked = pickle.loads(blank_out(body, [KEY, ODD_KEY]))
    assert blanked == {"url": f"spooled://:{'*' * len(ODD_QUOTED)}@h", "key": "*" * len(KEY), "other": "text"}
    assert blank_out('{"ok": "pong"}', ["o"]) == '{"ok": "pong"}'
    assert blank_out(f'"{KEY}"', [KEY]) == f'"{"*" * len(KEY)}"'


PREFIXED = """
import os
import spooled_contrib.kombu
from celery import Celery, _state

class Settings:
    # As in Django's settings. Celery takes a broker's URL under such a name for a text like any other.
    CELERY_BROKER_URL = os.environ["BROKER"]
    CELERY_BROKER_READ_URL = os.environ["BROKER"]
    CELERY_RESULT_BACKEND = os.environ["BROKER"]
    CELERY_TASK_SERIALIZER = {serializer!r}
    CELERY_ACCEPT_CONTENT = ["json", "pickle"]

app = Celery("app")
app.config_from_object(Settings, namespace="CELERY")

@app.task
def add(one, two):
    return one + two
"""
PLAIN = """
import os
import spooled_contrib.kombu
from celery import Celery, _state

# Two brokers: the second is among the alternates.
app = Celery("app", broker=os.environ["BROKER"] + ";" + os.environ["BROKER"], backend="spooled://")

@app.task
def add(one, two):
    return one + two
"""


@pytest.fixture
def app() -> Iterator[Celery]:
    made = Celery("asking", set_as_current=False)
    yield made
    made.backend.close()
    made.close()
    reset_pools()


def test_what_celery_prints_about_an_app_has_no_key() -> None:
    app = Celery(
        "app",
        broker=f"spooled://:{KEY}@a;spooled://:{KEY}@b",
        backend=f"spooled://:{KEY}@a",
        set_as_current=False,
    )
    told = f"{app.bugreport()} {app.conf.humanize()} {app.conf.table(censored=True)} {app!r}"
    told += f"{app.connection()!r} {app.connection().as_uri()} {app.backend.as_uri()} {app.backend!r}"
    assert "spooled" in told
    assert KEY not in told


def test_a_result_that_is_pickled_leaves_the_key_behind(
    server: EmbeddedServer, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.conf.update(broker_url="spooled://:another-key@elsewhere", result_backend=url_of(server))
    pickled = pickle.dumps(app.AsyncResult("unknown"))
    assert KEY.encode() not in pickled
    monkeypatch.setattr(_state._tls, "current_app", app)
    restored = pickle.loads(pickled)
    assert restored.state == "PENDING"
    restored.backend.close()


@pytest.mark.parametrize(
    "program", [PLAIN, PREFIXED.format(serializer="json"), PREFIXED.format(serializer="pickle")],
    ids=["several brokers", "prefixed settings", "pickle"],
)  # fmt: skip
def test_a_worker_shows_and_stores_no_key(
    server: EmbeddedServer, tmp_path: Path, program: str, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    serializer = "pickle" if "pickle" in program.partition("CONTENT")[0] else "json"
    conf = {"task_serializer": serializer, "accept_content": ["json", "pickle"]}
    app.conf.update(conf, broker_url=url_of(server), result_backend=url_of(server))
    monkeypatch.setenv("C_FORCE_ROOT", "1")  # where tests run as root: Celery refuses pickles there
    project = Project(tmp_path, url_of(server).partition("?")[0])
    (tmp_path / "app.py").write_text(program, encoding="utf-8")
    with project.worker("prefork", "-n", "one@test", "-E", "-l", "debug") as running:
        running.wait_for("one@test ready")
        app.send_task("app.add", (1, 2)).get(timeout=HOPELESS)
        inspect = app.control.inspect(["one@test"], timeout=HOPELESS)
        answers = [inspect.stats()]
        if app.conf.task_serializer == "json":
            answers += [inspect.conf(), inspect.report(), inspect.active_queues()]
        assert all(answer and answer["one@test"] for answer in answers), running.log
        said = str(answers)
        running.terminate()
        assert running.wait() == 0, running.log
    assert KEY not in said
    assert KEY not in running.log
    server.stop()
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("jobs.db*"))
    assert b"app.add" in stored
    assert KEY.encode() not in stored


def test_a_wrong_key_is_not_shown(server: EmbeddedServer) -> None:
    wrong = "sp_test_" + "wrong" * 8
    app = Celery("app", broker=url_of(server).replace(KEY, wrong), set_as_current=False)
    with (
        pytest.raises(Exception, match="Unknown API key") as caught,
        app.connection_for_write() as connection,
    ):
        connection.connect()
    assert wrong not in repr(caught.value)
