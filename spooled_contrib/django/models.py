"""One table, for the outbox; and names for the admin, whose data is Spooled's and in no database here."""

from __future__ import annotations

import datetime as dt

from django.db import models


class OutboxEntry(models.Model):
    """A job that is enqueued because its transaction has committed. The worker sends it and deletes the row.

    Attributes:
        created_at: When it was enqueued.
        idempotency_key: The job's, to look for; `parameters` has it as it is sent.
        key_digest: The SHA-256 of the key in hexadecimal. It carries the uniqueness, because a database may take keys
            for the same that differ in case, accents or trailing spaces. None in rows that an older release writes.
        parameters: What `client.jobs.create` is called with.
        attempts: How often it was refused.
        last_error: Why; empty as long as it was not.
        next_attempt_at: Not to be sent before: the end of the back-off, or of a sender's claim. None: at once.
        claimed_by: The claim of the sender that is sending it.
    """

    created_at: models.DateTimeField[dt.datetime, dt.datetime] = models.DateTimeField(auto_now_add=True)
    idempotency_key: models.CharField[str, str] = models.CharField(max_length=255)
    key_digest: models.CharField[str | None, str | None] = models.CharField(
        max_length=64, unique=True, null=True, editable=False
    )
    parameters = models.JSONField()
    attempts: models.PositiveIntegerField[int, int] = models.PositiveIntegerField(default=0)
    last_error: models.TextField[str, str] = models.TextField(blank=True, default="")
    # Columns that an older release does not know may be NULL: its processes write rows until they are replaced.
    next_attempt_at: models.DateTimeField[dt.datetime | None, dt.datetime | None] = models.DateTimeField(
        null=True
    )
    claimed_by: models.CharField[str | None, str | None] = models.CharField(
        max_length=32, null=True, editable=False
    )

    class Meta:
        verbose_name = "outbox entry"
        verbose_name_plural = "outbox entries"
        ordering = ("id",)

    def __str__(self) -> str:
        return self.idempotency_key


class Queue(models.Model):
    """A queue, for the admin. There is no table."""

    name: models.CharField[str, str] = models.CharField(max_length=100, primary_key=True)

    class Meta:
        managed = False
        default_permissions = ()
        permissions = (
            ("view_queue", "Can see queues and their numbers"),
            ("pause_queue", "Can pause and resume queues"),
        )
        verbose_name_plural = "queues"


class QueuedJob(models.Model):
    """A job, for the admin. There is no table."""

    id: models.CharField[str, str] = models.CharField(max_length=100, primary_key=True)

    class Meta:
        managed = False
        default_permissions = ()
        permissions = (
            ("view_queuedjob", "Can see jobs, with payloads and results"),
            ("retry_queuedjob", "Can retry dead jobs"),
            ("cancel_queuedjob", "Can cancel waiting jobs"),
        )
        verbose_name = "job"
        verbose_name_plural = "jobs"


class DeadLetter(models.Model):
    """A job that has failed for good, for the admin. There is no table."""

    id: models.CharField[str, str] = models.CharField(max_length=100, primary_key=True)

    class Meta:
        managed = False
        default_permissions = ()
        permissions = (("purge_deadletter", "Can delete dead jobs"),)
        verbose_name = "dead letter"
        verbose_name_plural = "dead letters"
