"""`celery spooled`: says which broker the app uses. Above all, Celery imports this file whenever its command starts."""

from __future__ import annotations

from typing import Any

import click
from celery import signals

import spooled_contrib.kombu  # noqa: F401 - makes spooled:// URLs known
from spooled_contrib.kombu import _stopping

# Here, because it has to be done before the pool's children are forked.
signals.worker_shutting_down.connect(_stopping.announce)


@click.command()
@click.pass_context
def spooled(ctx: Any) -> None:
    """Show how this app reaches Spooled."""
    app = ctx.obj.app
    with app.connection_for_write() as connection:
        connection.connect()
        click.echo(f"{connection.as_uri()}: connected")
