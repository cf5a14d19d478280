"""The realtime contract, section 2: the WebSocket. A real client over a real socket."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as connect_socket

from spooled_contrib.server._api import sockets, subscriptions
from spooled_contrib.server._events import Hub, Subscription
from tests.waiting import HOPELESS

PATH = "/api/v1/ws"


class Listener:
    """One WebSocket. Pings that the server sends by itself are read past, unless they are asked for."""

    def __init__(self, raw):
        self.raw = raw

    def command(self, **members):
        self.raw.send(json.dumps(members))

    def next_envelope(self):
        return json.loads(self.raw.recv(timeout=HOPELESS))

    def next_event(self):
        """(type, data) of the next event that is no Ping."""
        while (envelope := self.next_envelope())["type"] == "Ping":
            pass
        return envelope["type"], envelope["data"]

    def next_job(self):
        return self.next_event()[1]["job_id"]

    def settle(self):
        """Wait until the server has taken every command that was sent: it takes them in order."""
        self.command(cmd="ping")
        assert self.next_envelope()["type"] == "Ping"

    def closing_code(self):
        """Read to the end; the code with which the server closed."""
        try:
            while True:
                self.raw.recv(timeout=HOPELESS)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None


def url_of(api, **params):
    query = f"?{urlencode(params)}" if params else ""
    return api.server.url.replace("http://", "ws://") + PATH + query


@contextmanager
def opened(api, *, headers=None, **params):
    if headers is None:
        headers = {"authorization": f"Bearer {api.key}"}
    with connect_socket(
        url_of(api, **params), additional_headers=headers, proxy=None, close_timeout=1
    ) as raw:
        listener = Listener(raw)
        assert listener.next_envelope()["type"] == "Ping"
        yield listener


def refused(api, *, headers=None, **params):
    """(status, code) of a handshake that was refused."""
    if headers is None:
        headers = {"authorization": f"Bearer {api.key}"}
    with pytest.raises(InvalidStatus) as caught:
        connect_socket(url_of(api, **params), additional_headers=headers, proxy=None)
    response = caught.value.response
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-api-version"] == "1"
    return response.status_code, json.loads(response.body)["code"]


class TestTheCredential:
    @pytest.mark.parametrize("name", ["token", "api_key"])
    def test_may_be_a_query_parameter(self, api, name):
        with opened(api, headers={}, **{name: api.key}) as listener:
            assert listener.raw.response.headers["x-api-version"] == "1"
            assert listener.raw.response.headers["x-request-id"]

    def test_may_be_an_access_token_but_no_refresh_token(self, api):
        tokens = api.post("/auth/login", {"api_key": api.key}).json()
        with opened(api, headers={}, token=tokens["access_token"]) as listener:
            job_id = api.create()
            assert listener.next_job() == job_id
        assert refused(api, headers={}, token=tokens["refresh_token"]) == (401, "UNAUTHORIZED")

    def test_is_read_from_the_header_before_the_query(self, api):
        assert refused(api, headers={"authorization": "Bearer wrong-key-1"}, token=api.key) == (
            401,
            "UNAUTHORIZED",
        )

    @pytest.mark.parametrize("headers", [{}, {"authorization": "Basic x"}, {"x-api-key": "sp_test_x"}])
    def test_is_needed(self, api, headers):
        assert refused(api, headers=headers) == (401, "UNAUTHORIZED")

    def test_ends_the_connection_when_it_is_revoked(self, api):
        made = api.post("/api-keys", {"name": "k"}).json()
        with opened(api.with_key(made["key"])) as listener:
            api.delete(f"/api-keys/{made['id']}")
            api.create()
            assert listener.closing_code() == sockets.POLICY_VIOLATION

    def test_ends_the_connection_when_nothing_happens_either(self, api, monkeypatch):
        monkeypatch.setattr(sockets, "KEY_CHECK_SECONDS", 0.05)
        made = api.post("/api-keys", {"name": "k"}).json()
        with opened(api.with_key(made["key"])) as listener:
            api.delete(f"/api-keys/{made['id']}")
            assert listener.closing_code() == sockets.POLICY_VIOLATION

    def test_that_expires_ends_the_connection(self, timed):
        made = timed.post("/api-keys", {"name": "k", "expires_at": "2026-01-01T00:01:00Z"}).json()
        with opened(timed.with_key(made["key"])) as listener:
            timed.server.advance(61)
            timed.create()
            assert listener.closing_code() == sockets.POLICY_VIOLATION

    def test_of_a_session_that_is_logged_out_ends_the_connection(self, api):
        token = api.post("/auth/login", {"api_key": api.key}).json()["access_token"]
        with opened(api, headers={}, token=token) as listener:
            out = api.bare("POST", "/api/v1/auth/logout", headers={"authorization": f"Bearer {token}"})
            assert out.status_code == 204
            api.create()
            assert listener.closing_code() == sockets.POLICY_VIOLATION

    def test_is_not_written_to_any_log(self, api, caplog):
        caplog.set_level(logging.DEBUG)
        with opened(api, headers={}, token=api.key) as listener:
            listener.settle()
        refused(api, headers={}, token="sp_test_not-a-key-at-all")
        assert not [
            record
            for record in caplog.records
            if record.name.startswith(("uvicorn", "spooled"))
            and ("token=" in record.getMessage() or record.levelno >= logging.WARNING)
        ]


class TestEvents:
    def test_have_the_envelope_of_the_contract(self, timed):
        with opened(timed) as listener:
            job_id = timed.create(priority=3)
            assert listener.next_envelope() == {
                "type": "JobCreated",
                "data": {
                    "job_id": job_id,
                    "queue_name": "mail",
                    "priority": 3,
                    "timestamp": "2026-01-01T00:00:00Z",
                },
            }

    def test_tell_what_happens_to_a_job(self, api):
        with opened(api) as listener:
            api.create()
            api.complete(api.claim_one(), result={"ok": True})
            api.bury()
            kinds = [listener.next_event()[0] for _ in range(5)]
        assert kinds == ["JobCreated", "JobCompleted", "JobCreated", "JobStatusChange", "JobFailed"]

    def test_stay_within_the_organization(self, api, stranger):
        with opened(api) as listener:
            stranger.create()
            mine = api.create()
            assert listener.next_job() == mine

    def test_of_other_queues_are_kept_from_a_scoped_key(self, api):
        with opened(api.scoped("mine")) as listener:
            api.create("other")
            mine = api.create("mine")
            assert listener.next_job() == mine

    def test_follow_the_scope_of_the_key_when_it_changes(self, api):
        made = api.post("/api-keys", {"name": "k", "queues": ["a"]}).json()
        with opened(api.with_key(made["key"])) as listener:
            first = api.create("a")
            assert listener.next_job() == first
            api.put(f"/api-keys/{made['id']}", {"queues": ["b"]})
            listener.command(cmd="subscribe", queue="a")  # out of scope by now
            listener.command(cmd="subscribe", queue="b")
            listener.settle()
            api.create("a")
            second = api.create("b")
            assert listener.next_job() == second


class TestTheFilterInTheUrl:
    def test_takes_a_queue_a_job_or_kinds_of_events(self, api):
        first, second = api.create("a"), api.create("b")
        with (
            opened(api, queue="b") as by_queue,
            opened(api, job_id=first) as by_job,
            opened(api, events="JOB.COMPLETED, job.failed") as by_kind,
        ):
            for queue in ("a", "b"):
                api.complete(api.claim_one(queue))
                api.create(queue)
            assert by_queue.next_job() == second
            assert by_job.next_job() == first
            assert [by_kind.next_job() for _ in range(2)] == [first, second]

    @pytest.mark.parametrize("queue", ["a b", "", "x" * 101])
    def test_refuses_a_queue_that_cannot_be(self, api, queue):
        assert refused(api, queue=queue) == (400, "BAD_REQUEST")

    def test_refuses_a_queue_out_of_scope(self, api):
        assert refused(api.scoped("mine"), queue="other") == (403, "ACCESS_DENIED")


class TestCommands:
    @pytest.mark.parametrize("spell", [str.lower, str.capitalize])
    def test_in_both_spellings_change_the_filter(self, api, spell):
        with opened(api) as listener:
            listener.command(cmd=spell("subscribe"), queue="b")
            listener.command(cmd=spell("ping"))
            assert listener.next_envelope()["type"] == "Ping"
            api.create("a")
            wanted = api.create("b")
            assert listener.next_job() == wanted
            listener.command(cmd=spell("unsubscribe"))
            listener.settle()
            wanted = api.create("a")
            assert listener.next_job() == wanted

    def test_overwrite_only_the_given_member(self, api):
        with opened(api, queue="a") as listener:
            job_id = api.create("a")
            assert listener.next_job() == job_id
            listener.command(cmd="subscribe", job_id=job_id)
            listener.settle()
            api.create("a")
            api.delete(f"/jobs/{job_id}")
            assert listener.next_job() == job_id
            listener.command(cmd="subscribe", queue="b")  # still with the job: nothing can match both
            listener.settle()
            api.create("b")
            listener.command(cmd="unsubscribe", queue="another", job_id=job_id)  # clears the job only
            listener.settle()
            api.create("a")
            wanted = api.create("b")
            assert listener.next_job() == wanted

    def test_out_of_scope_or_malformed_are_passed_over(self, api):
        with opened(api.scoped("mine"), queue="mine") as listener:
            listener.command(cmd="subscribe", queue="other")
            listener.command(cmd="subscribe", queue="not a queue")
            listener.command(cmd="subscribe", queue=7)
            listener.command(cmd="dance")
            listener.command(queue="mine")
            for text in ("", "null", "[]", "nonsense", "[" * 5000, '{"cmd":"subscribe","queue":"\\ud800"}'):
                listener.raw.send(text)
            listener.raw.send(b"\x00\xff")
            listener.settle()
            mine = api.create("mine")
            assert listener.next_job() == mine


class TestKeepingAlive:
    def test_a_ping_is_answered_with_an_event(self, timed):
        with opened(timed) as listener:
            for _ in range(3):
                listener.command(cmd="ping")
            for _ in range(3):
                assert listener.next_envelope() == {
                    "type": "Ping",
                    "data": {"timestamp": "2026-01-01T00:00:00Z"},
                }

    def test_a_ping_of_the_protocol_gets_a_pong(self, api):
        with opened(api) as listener:
            assert listener.raw.ping().wait(timeout=HOPELESS)

    def test_the_server_pings_now_and_then(self, api, monkeypatch):
        monkeypatch.setattr(sockets, "PING_SECONDS", 0.05)
        with opened(api, events="job.created", queue="quiet") as listener:
            assert [listener.next_envelope()["type"] for _ in range(3)] == ["Ping"] * 3


class TestManyConnections:
    def test_are_limited_for_an_organization_and_apart_from_streams(
        self, api, stranger, monkeypatch, eventually
    ):
        monkeypatch.setattr(subscriptions, "LISTENERS_PER_ORGANIZATION", 3)
        with ExitStack() as stack:
            stack.enter_context(api.http.stream("GET", "/events"))
            for _ in range(3):
                stack.enter_context(opened(api))
            assert refused(api) == (429, "RATE_LIMIT_EXCEEDED")
            with opened(stranger):
                pass

        def lets_in_again():
            try:
                with opened(api):
                    return True
            except InvalidStatus:
                return False

        assert eventually(lets_in_again)

    def test_a_hundred_are_allowed(self, api):
        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(opened(api))
            assert refused(api) == (429, "RATE_LIMIT_EXCEEDED")

    def test_end_when_the_server_stops(self, start_server, connect):
        server = start_server()
        api = connect(server)
        with opened(api) as listener:
            server.stop()
            assert listener.closing_code() in (sockets.GOING_AWAY, 1012)

    def test_one_that_does_not_read_stops_nobody(self, api):
        with opened(api) as deaf, opened(api, queue="marker") as other:
            for _ in range(30):
                api.post("/jobs/bulk", {"queue_name": "mail", "jobs": [{"payload": 1}] * 100})
            marker = api.create("marker")
            assert other.next_job() == marker
            assert deaf.next_event()[0] == "JobCreated"
        assert api.get("/jobs/stats").json()["total"] == 3001


class TestWithoutAHandshake:
    def test_the_path_says_what_it_speaks(self, api):
        response = api.get("/ws")
        assert response.status_code == 426
        assert response.json()["code"] == "ERROR"
        assert response.headers["upgrade"] == "websocket"

    @pytest.mark.parametrize(
        "changed",
        [
            {"sec-websocket-key": "short"},
            {"sec-websocket-key": "not base64 at all!!"},
            {"sec-websocket-version": "8"},
            {"upgrade": "h2c"},
            {"x-long": "x" * 9000},
            {f"x-many-{number}": "x" for number in range(150)},
        ],
    )
    def test_a_bad_handshake_is_refused_in_json(self, api, changed):
        headers = {
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
            **changed,
        }
        response = api.http.get("/ws", headers=headers)
        assert (response.status_code, response.json()["code"]) == (426, "ERROR")

    def test_another_path_is_no_websocket(self, api):
        headers = {
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
        assert api.http.get("/jobs", headers=headers).status_code == 200
        assert api.http.post("/ws", headers=headers, json={}).status_code == 405
        assert api.http.get("/nowhere", headers=headers).status_code == 404


async def test_a_client_that_is_gone_when_something_is_sent_is_no_error():
    async def receive():
        if received:
            await asyncio.Event().wait()
        received.append({"type": "websocket.connect"})
        return received[0]

    async def send(message):
        sent.append(message["type"])
        if message["type"] == "websocket.send":
            raise ConnectionResetError

    received, sent, hub = [], [], Hub()
    call = SimpleNamespace(services=SimpleNamespace(hub=hub, now=0))
    await sockets.Socket(call, Subscription("org", None, carrier="socket"), None)({}, receive, send)
    assert sent == ["websocket.accept", "websocket.send"]
    assert not hub.listening
