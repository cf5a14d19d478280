"""SPOOLED: what it may say, and what `manage.py check` says about it."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.core.checks import Error, run_checks
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from spooled.worker import JobContext, Middleware
from spooled_contrib.django import conf, job
from spooled_contrib.django._jobs import registry
from spooled_contrib.django.checks import DEVELOPMENT_KEY
from spooled_contrib.server import DEVELOPMENT_KEY as SERVERS_DEVELOPMENT_KEY

KEY = "sp_test_somebody"


class Counting(Middleware):
    pass


def ids(**spooled: Any) -> list[str]:
    with override_settings(SPOOLED=spooled):
        return [message.id for message in run_checks(tags=["spooled"])]


def test_good_settings_pass() -> None:
    assert ids(API_KEY=KEY, BASE_URL="https://spooled.example.org") == []


def test_settings_are_read_when_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(SPOOLED={"API_KEY": KEY, "CONCURRENCY": 3}):
        assert conf.current().concurrency == 3
    assert conf.current().concurrency == 5
    monkeypatch.setenv("SPOOLED_API_KEY", "sp_test_environment")
    monkeypatch.setenv("SPOOLED_BASE_URL", "http://127.0.0.1:1")
    assert (conf.current().api_key, conf.current().base_url) == ("sp_test_environment", "http://127.0.0.1:1")


def test_the_key_is_not_in_the_repr() -> None:
    assert KEY not in repr(conf.read({"API_KEY": KEY}))


@pytest.mark.parametrize(
    ("spooled", "message"),
    [
        ({"API_KEYS": KEY}, "SPOOLED has no setting 'API_KEYS'; did you mean 'API_KEY'?"),
        ({"COLOR": 1}, "no setting 'COLOR'; it may have API_KEY, BASE_URL"),
        ({"API_KEY": 5}, r"SPOOLED\['API_KEY'\] must be text, got int"),
        ({"QUEUES": {"a": {"CONCURENCY": 5}}}, "did you mean 'CONCURRENCY'"),
        ({"QUEUES": {"a": 5}}, r"SPOOLED\['QUEUES'\]\['a'\] must be a dictionary, got 5"),
        ({"QUEUES": {"a": {"CONCURRENCY": 0}}}, "whole number from 1 to 100, got 0"),
        ({"QUEUES": "a"}, "must be a dictionary or a list of names, got 'a'"),
        ({"CONCURRENCY": True}, "whole number from 1 to 100, got True"),
        ({"JOB_MODULES": "jobs"}, "must be a list of names, got 'jobs'"),
        ({"SHUTDOWN_TIMEOUT": "x"}, "must be a number of seconds, got 'x'"),
        ({"OUTBOX": 1}, "must be True or False, got 1"),
        ({"WORKER": {"poll_intervall": 1}}, "did you mean 'poll_interval'"),
        ({"CLIENT": 3}, "must be a dictionary, got 3"),
        ("text", "SPOOLED must be a dictionary, got str"),
    ],
)
def test_mistakes_are_named(spooled: Any, message: str) -> None:
    with override_settings(SPOOLED=spooled), pytest.raises(ImproperlyConfigured, match=message):
        conf.current()


def test_queues_and_middleware() -> None:
    settings = conf.read(
        {
            "QUEUES": {"a": {"CONCURRENCY": 7}, "b": {}},
            "MIDDLEWARE": ["tests.django.test_settings.Counting"],
        }
    )
    assert (settings.concurrency_of("a"), settings.concurrency_of("b")) == (7, None)
    assert type(settings.make_middleware()[0]).__name__ == "Counting"
    assert conf.read({"QUEUES": ["a"]}).queues == {"a": None}


def test_checks() -> None:
    assert ids(API_KEYS=KEY) == ["spooled.E001"]
    assert ids(MIDDLEWARE=["no.such.Thing"], API_KEY=KEY) == ["spooled.E001"]
    assert ids() == ["spooled.W002"]
    for address in ("spooled.example.org", "ftp://spooled", "http://", "http://x:y"):
        assert ids(API_KEY=KEY, BASE_URL=address) == ["spooled.E003"], address
    assert "spooled.E005" in ids(API_KEY=KEY, QUEUES=["invoices"])


def test_the_development_key_is_for_debugging_only() -> None:
    assert DEVELOPMENT_KEY == SERVERS_DEVELOPMENT_KEY
    assert ids(API_KEY=DEVELOPMENT_KEY) == ["spooled.W001"]
    with override_settings(DEBUG=True):
        assert ids(API_KEY=DEVELOPMENT_KEY) == []


def test_kept_connections_need_health_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    database = {"ENGINE": "django.db.backends.postgresql", "NAME": "x", "CONN_MAX_AGE": None}
    for health, expected in ((False, ["spooled.W003"]), (True, [])):
        monkeypatch.setattr(settings, "DATABASES", {"default": {**database, "CONN_HEALTH_CHECKS": health}})
        assert ids(API_KEY=KEY) == expected


def test_duplicate_handlers_are_found() -> None:
    @job("invoices", "make")
    def another(ctx: JobContext[Any]) -> None: ...

    try:
        with override_settings(SPOOLED={"API_KEY": KEY}):
            (message,) = run_checks(tags=["spooled"])
        assert message.id == "spooled.E004"
        assert "make_invoice and" in message.msg
        assert "another both take jobs of type 'make' of queue 'invoices'" in message.msg
    finally:
        registry._registry.pop(another.path)


def test_levels() -> None:
    with override_settings(SPOOLED={}):
        assert {type(message) for message in run_checks(tags=["spooled"])} == {CheckWarning}
    with override_settings(SPOOLED={"X": 1}):
        assert {type(message) for message in run_checks(tags=["spooled"])} == {Error}


def test_backends_options_are_checked() -> None:
    tasks = {
        "default": {
            "BACKEND": "spooled_contrib.django.tasks.SpooledBackend",
            "QUEUES": ["-bad"],
            "OPTIONS": {"RETRIES": 3},
        }
    }
    with override_settings(TASKS=tasks):
        from spooled_contrib.django.tasks import task_backends

        assert [message.id for message in task_backends["default"].check()] == [
            "spooled.E010",
            "spooled.E011",
        ]
