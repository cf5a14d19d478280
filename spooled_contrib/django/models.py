"""One table, for the outbox; and names for the admin, whose data is Spooled's and in no database here."""

from __future__ import annotations

import datetime as dt

from django.db import models


class OutboxEntry(models.Model):
    """A job that is enqueued because its transaction has committed. The worker sends it and deletes the row."""

    created_at: models.DateTimeField[dt.datetime, dt.datetime] = models.DateTimeField(auto_now_add=True)
    idempotency_key: models.CharField[str, str] = models.CharField(max_length=255, unique=True)
    parameters = models.JSONField()
    attempts: models.PositiveIntegerField[int, int] = models.PositiveIntegerField(default=0)
    last_error: models.TextField[str, str] = models.TextField(blank=True, default="")

    class Meta:
        verbose_name = "outbox entry"
        verbose_name_plural = "outbox entries"
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.idempotency_key} for {self.parameters.get('queue_name')}"


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
