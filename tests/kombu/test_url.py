"""The URL, its options, and who knows it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from celery import Celery
from kombu import Connection

from spooled import AuthenticationError, NetworkError
from spooled_contrib.kombu import Transport
from spooled_contrib.kombu._url import Address, Options, masked, parse
from spooled_contrib.server import EmbeddedServer
from tests.kombu.conftest import url_of
from tests.waiting import HOPELESS


@pytest.mark.parametrize(
    ("url", "base_url", "key"),
    [
        ("spooled://:sp_live_x@spooled.example.org", "https://spooled.example.org", "sp_live_x"),
        ("spooled://:sp_live_x@", "https://api.spooled.cloud", "sp_live_x"),
        ("spooled://", "https://api.spooled.cloud", None),
        ("spooled://:a%2Fb@h:8443/", "https://h:8443", "a/b"),
        ("spooled+http://:K7@127.0.0.1:8080", "http://127.0.0.1:8080", "K7"),
        ("http://:K7@[::1]:8080", "http://[::1]:8080", "K7"),
    ],
)
def test_addresses(url: str, base_url: str, key: str | None) -> None:
    address = parse(url)
    assert (address.base_url, address.api_key) == (base_url, key)
    assert key is None or key not in repr(address)


def test_options() -> None:
    address = parse("spooled://:k@h?lease=60&poll=0.5&redeliveries=2&prefix=dev-&transport=httpx")
    assert address.options == Options(lease=60, poll=0.5, redeliveries=2, prefix="dev-", transport="httpx")
    # kombu's and Celery's own options are left to them.
    assert address.with_options({"visibility_timeout": 3, "lease": 90}).options.lease == 90


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("spooled://:secret@h?leese=3", "no option 'leese'; did you mean 'lease'"),
        ("spooled://:secret@h?color=red", "no option 'color'; there are lease, poll"),
        ("spooled://:secret@h?lease=1", "option 'lease' must be from 5 to 3600, got '1'"),
        ("spooled://:secret@h?poll=soon", "option 'poll' must be a number, got 'soon'"),
        ("spooled://:secret@h?transport=curl", "must be auto, httpx or aiohttp, got 'curl'"),
        ("spooled://:secret@h/vhost", "has a path"),
        ("amqp://:secret@h", "must begin with spooled://"),
    ],
)
def test_mistakes(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse(url)
    assert "secret" not in str(caught.value)


def test_the_key_is_masked(server: EmbeddedServer) -> None:
    connection = Connection(url_of(server))
    assert connection.as_uri() == f"spooled+{server.url.replace('http://', 'http://:**@')}?poll=0.1"
    assert server.api_key in connection.as_uri(include_password=True)
    assert Connection("spooled://:sp_live_x@h").as_uri() == "spooled://:**@h"
    assert masked("spooled://h") == "spooled://h"


def test_a_wrong_key_and_an_unreachable_server_are_noticed_at_once(server: EmbeddedServer) -> None:
    wrong = url_of(server).replace(server.api_key, "sp_test_" + "x" * 40)
    with pytest.raises(AuthenticationError, match="Unknown API key"):
        Connection(wrong).connect()
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1:9"):
        Connection("spooled+http://:sp_test_somebody@127.0.0.1:9").connect()
    with pytest.raises(Exception, match="SPOOLED_API_KEY"):
        Connection("spooled+http://127.0.0.1:9").connect()
    assert NetworkError in Transport.connection_errors
    assert not issubclass(AuthenticationError, Transport.connection_errors)


def test_the_key_may_come_from_the_environment(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOOLED_API_KEY", server.api_key)
    with Connection(f"spooled+{server.url}") as connection:
        connection.connect()


@pytest.mark.parametrize("text", ["{dead};{live}", "{live}"])
def test_several_brokers_are_tried_one_after_the_other(server: EmbeddedServer, text: str) -> None:
    dead, live = "spooled+http://:sp_test_somebody@127.0.0.1:9", url_of(server).partition("?")[0]
    with Connection(text.format(dead=dead, live=live), transport_options={"poll": 0.1}) as connection:
        connection.ensure_connection(interval_start=0)
        connection.switch(live)
        with connection.SimpleQueue("failover") as queue:
            queue.put(1)
            assert queue.get(timeout=HOPELESS).payload == 1
        assert connection.as_uri() == live.replace(server.api_key, "**")
        with connection.clone() as clone:
            clone.connect()
            assert clone.as_uri() == connection.as_uri()


def test_kombu_hands_on_the_parts_of_another_broker() -> None:
    """Without a host it is Spooled Cloud, as in a URL."""
    connection = Connection("spooled://:sp_live_x@h")
    connection.switch("spooled://:sp%2Flive@")
    assert connection.transport.address() == Address("https://api.spooled.cloud", "sp/live", Options())
    connection.switch("spooled+http://:k@[::1]:8080")
    assert connection.transport.address() == Address("http://[::1]:8080", "k", Options())
    assert connection.clone().transport.address() == connection.transport.address()


def test_options_in_the_urls_of_several_brokers_are_refused_at_once(server: EmbeddedServer) -> None:
    with pytest.raises(ValueError, match="belong into transport_options"):
        Connection(f"{url_of(server)};{url_of(server)}").connect()


def test_by_broker_transport_without_any_import() -> None:
    """Not with spooled+http: kombu takes what is before the plus for the transport, and asks its own table."""
    program = """
import sys
from celery import Celery
app = Celery("app", broker="spooled://:sp_test_somebody@h", broker_transport="spooled_contrib.kombu:Transport")
assert "spooled_contrib.kombu" not in sys.modules
print(app.connection_for_write().transport.driver_type)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "spooled\n", done.stderr


def test_the_celery_command_knows_the_url(server: EmbeddedServer, tmp_path: Any) -> None:
    (tmp_path / "app.py").write_text(
        f"from celery import Celery\napp = Celery('app', broker={url_of(server)!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "app", "spooled"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("?poll=0.1: connected\n"), done.stderr
    assert server.api_key not in done.stdout


def test_celery_shows_it_without_the_key(server: EmbeddedServer) -> None:
    app = Celery("app", broker=url_of(server), set_as_current=False)
    assert server.api_key not in app.connection_for_write().as_uri()


def test_addresses_are_equal_by_what_they_say() -> None:
    assert parse("spooled://:k@h?lease=60") == Address("https://h", "k", Options(lease=60))
