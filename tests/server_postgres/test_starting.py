"""What is said when a database cannot be used: one line, with what to do, and without the password."""

from __future__ import annotations

import socket
import sys

import psycopg
import pytest

from spooled_contrib.server import EmbeddedServer, StorageUnavailableError
from spooled_contrib.server._settings import ServerSettings
from spooled_contrib.server._storage.postgres.connecting import Address, check_version

SECRET = "pa55word"


def refused(db):
    with pytest.raises(StorageUnavailableError) as caught:
        EmbeddedServer(db=db).start()
    message = str(caught.value)
    assert SECRET not in message
    assert "\n" not in message
    return message


def test_nobody_answers():
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        message = refused(f"postgresql://ann:{SECRET}@127.0.0.1:{port}/jobs")
    assert f"cannot use the database postgresql://ann@127.0.0.1:{port}/jobs" in message
    assert "Check that it runs" in message


def test_a_database_that_does_not_exist(postgres):
    message = refused(postgres.url.replace("/postgres?", "/missing?"))
    assert '"missing" does not exist' in message


def test_a_url_that_is_none():
    assert "cannot read the database URL" in refused(f"postgresql://ann:{SECRET}%zz@localhost/jobs")


def test_a_wrong_password_is_told_as_such():
    error = psycopg.OperationalError('FATAL: password authentication failed for user "ann"')
    told = Address(f"postgresql://ann:{SECRET}@localhost/jobs").explain(error)
    assert "Check the user and the password" in str(told)
    assert SECRET not in str(told)


def test_a_schema_that_does_not_exist(postgres):
    assert "no schema" in refused(f"{postgres.url}&options=-csearch_path%3Dnowhere")


def test_a_user_who_may_not_create_tables(postgres, db):
    schema = db.rpartition("%3D")[2]
    postgres.ask("DROP ROLE IF EXISTS guest")
    postgres.ask("CREATE ROLE guest LOGIN")
    postgres.ask(f"GRANT USAGE ON SCHEMA {schema} TO guest")
    assert "GRANT CREATE ON SCHEMA" in refused(db.replace("//postgres:@", "//guest@"))
    postgres.ask(f"REVOKE USAGE ON SCHEMA {schema} FROM guest")
    postgres.ask("DROP ROLE guest")


@pytest.mark.parametrize("table", ["meta (name text, value text)", "meta (x int)", "jobs (x int)"])
def test_tables_of_somebody_else_are_not_touched(postgres, db, table):
    postgres.ask(f"CREATE TABLE {table}", url=db)
    if not table.startswith("jobs"):
        postgres.ask("CREATE TABLE jobs (y int)", url=db)
    assert "not made by this version" in refused(db)


def test_a_newer_schema_is_refused(postgres, db):
    with EmbeddedServer(db=db):
        pass
    postgres.ask("UPDATE meta SET value = '999' WHERE name = 'schema_version'", url=db)
    assert "schema 999" in refused(db)


def test_an_old_postgresql_is_refused():
    address = Address("postgresql://localhost/jobs")
    check_version(address, 140_000)
    with pytest.raises(StorageUnavailableError, match="is PostgreSQL 13; at least version 14"):
        check_version(address, 130_016)


def test_no_representation_holds_a_secret():
    settings = ServerSettings(
        db=f"postgres://ann:{SECRET}@h1,h2:5433/jobs?password={SECRET}", api_key=f"{SECRET}-key"
    )
    for text in (repr(settings), settings.shown_db, repr(Address(settings.db))):
        assert SECRET not in text
    assert settings.shown_db == "postgres://ann@h1,h2:5433/jobs"


def test_without_the_driver_the_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("spooled_contrib.server._storage.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert 'pip install "spooled-contrib[postgres]"' in refused("postgresql://localhost/jobs")


def test_a_restart_finds_everything(db):
    with EmbeddedServer(db=db) as first:
        key = first.api_key
    with EmbeddedServer(db=db) as second:
        assert second.api_key == key
