"""Schedules in words and types (contract section 6)."""

from __future__ import annotations

from typing import Final

from spooled_contrib.server._api import schedule_routes
from spooled_contrib.server._api.openapi import schedule_replies as replies
from spooled_contrib.server._api.openapi.operation import Empty, Link, Operation, Query, returns
from spooled_contrib.server._api.openapi.parameters import BOOLEAN, Integer, ShortText, page

_ID: Final = {"id": "$response.body#/id"}

OPERATIONS: Final[dict[str, Operation]] = {
    "GET /api/v1/schedules": returns(
        "List schedules, the newest first",
        list[replies.Schedule],
        query=(
            Query("queue_name", ShortText, "Only those of this queue"),
            Query("is_active", BOOLEAN, "Only those that are active, or paused"),
            *page(100, 500),
        ),
    ),
    "POST /api/v1/schedules": returns(
        "Make jobs again and again",
        replies.ScheduleCreated,
        status=201,
        body=schedule_routes.NewScheduleBody,
        errors=(403,),
        links={
            "get": Link("GET /api/v1/schedules/{id}", _ID),
            "trigger": Link("POST /api/v1/schedules/{id}/trigger", _ID),
            "history": Link("GET /api/v1/schedules/{id}/history", _ID),
            "pause": Link("POST /api/v1/schedules/{id}/pause", _ID),
            "resume": Link("POST /api/v1/schedules/{id}/resume", _ID),
            "delete": Link("DELETE /api/v1/schedules/{id}", _ID),
        },
    ),
    "GET /api/v1/schedules/{id}": returns("One schedule", replies.Schedule),
    "PUT /api/v1/schedules/{id}": returns(
        "Change a schedule; what is left out, or null, keeps its value",
        replies.Schedule,
        body=schedule_routes.ScheduleChangeBody,
        errors=(403,),
    ),
    "DELETE /api/v1/schedules/{id}": returns("Delete a schedule; its jobs stay", Empty, status=204),
    "POST /api/v1/schedules/{id}/pause": returns("Make no more jobs", replies.Schedule),
    "POST /api/v1/schedules/{id}/resume": returns(
        "Make jobs again, from the next time on", replies.Schedule, errors=(403,)
    ),
    "POST /api/v1/schedules/{id}/trigger": returns(
        "Make a job now, also while paused", replies.ScheduleTriggered, errors=(413,)
    ),
    "GET /api/v1/schedules/{id}/history": returns(
        "The runs of a schedule, the newest first",
        list[replies.ScheduleRun],
        query=[Query("limit", Integer, "50 unless told; moved into 1 to 500")],
    ),
}
