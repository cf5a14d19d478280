"""`celery spooled`: says which broker the app uses. Above all, Celery imports this file whenever its command starts."""

from __future__ import annotations

from typing import Any

import click

import spooled_contrib.kombu  # noqa: F401 - makes spooled:// URLs known


@click.command()
@click.pass_context
def spooled(ctx: Any) -> None:
    """Show how this app reaches Spooled."""
    app = ctx.obj.app
    with app.connection_for_write() as connection:
        connection.connect()
        click.echo(f"{connection.as_uri()}: connected")
