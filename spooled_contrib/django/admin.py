"""Queues, jobs and dead letters in Django's admin. The data is Spooled's; each page asks for what it shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from spooled import SpooledClient
from spooled.errors import ConflictError, NotFoundError, SpooledError
from spooled_contrib.django._client import get_client
from spooled_contrib.django.models import DeadLetter, OutboxEntry, Queue, QueuedJob

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin  # not generic at run time

PAGE = 25
SHOWN = 10_000
"""Characters of a payload or result that are shown."""

MOST_QUEUES = 100
"""How many queues the server lists; it has no second page of them (contract api-v1 §4)."""

EVENTS = 500
"""Entries of a job's history that are shown (contract api-v1 §3.5)."""

STATES = ("pending", "scheduled", "processing", "completed", "deadletter", "cancelled")


@dataclass(frozen=True, slots=True)
class Action:
    """Something that can be done to what is selected.

    Attributes:
        name: In forms.
        label: On buttons.
        permission: What it takes.
        question: What is asked before; `{what}` is what was selected.
        run: Does it for one of them.
        done: What is said after; `{count}` is of how many.
    """

    name: str
    label: str
    permission: str
    question: str
    run: Callable[[SpooledClient, str], object]
    done: str


def _pause(client: SpooledClient, name: str) -> object:
    try:
        return client.queues.pause(name)
    except NotFoundError:
        # Only a queue with settings can be paused, and this one has lived without.
        client.queues.update_config(name)
        return client.queues.pause(name)


def _purge(client: SpooledClient, name: str) -> object:
    # One request deletes 10,000 at most.
    while client.jobs.dlq.purge(confirm=True, queue_name=name).purged_count:
        pass
    return None


PAUSE = Action(
    "pause", "Pause", "spooled.pause_queue", "Stop handing out the jobs of {what}?", _pause, "{count} paused."
)
RESUME = Action(
    "resume",
    "Resume",
    "spooled.pause_queue",
    "Hand out the jobs of {what} again?",
    lambda client, name: client.queues.resume(name),
    "{count} resumed.",
)
PURGE = Action(
    "purge",
    "Delete dead letters",
    "spooled.purge_deadletter",
    "Delete all dead letters of {what} for good? This cannot be undone.",
    _purge,
    "Dead letters of {count} deleted.",
)
RETRY = Action(
    "retry",
    "Retry",
    "spooled.retry_queuedjob",
    "Give {what} all retries again and run them as soon as possible?",
    lambda client, job_id: client.jobs.retry(job_id),
    "{count} will run again.",
)
CANCEL = Action(
    "cancel",
    "Cancel",
    "spooled.cancel_queuedjob",
    "Cancel {what}? Cancelled jobs never run.",
    lambda client, job_id: client.jobs.cancel(job_id),
    "{count} cancelled.",
)


class RemoteAdmin(_ModelAdmin):
    """Pages whose data comes from Spooled."""

    noun = "object"
    view_permission = ""
    remote_actions: tuple[Action, ...] = ()

    class Media:
        css = {"all": ("spooled/admin.css",)}

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        user: Any = request.user
        return bool(user.has_perm(self.view_permission))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        self._require_view(request)
        if request.method == "POST":
            return self._act(request, request.get_full_path())
        context: dict[str, Any] = {"title": str(self.opts.verbose_name_plural).capitalize()}
        self._fill(request, context, self.list_context)
        return self._page(request, f"spooled/admin/{self.opts.model_name}_list.html", context)

    def list_context(self, client: SpooledClient, request: HttpRequest) -> dict[str, Any]:
        """Return what the list shows."""
        raise NotImplementedError

    def allowed_actions(self, request: HttpRequest) -> list[Action]:
        """Those that this user may do."""
        user: Any = request.user
        return [action for action in self.remote_actions if user.has_perm(action.permission)]

    def _require_view(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _page(self, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
        return TemplateResponse(
            request,
            template,
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "media": self.media,
                "remote_actions": self.allowed_actions(request),
                **context,
            },
        )

    def _fill(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        ask: Callable[[SpooledClient, HttpRequest], dict[str, Any]],
    ) -> None:
        """Ask Spooled; when it does not answer, the page says so."""
        try:
            context.update(ask(get_client(), request))
        except (SpooledError, ImproperlyConfigured) as error:
            context["trouble"] = error.message if isinstance(error, SpooledError) else str(error)

    def _act(self, request: HttpRequest, back: str) -> HttpResponse:
        """Ask whether to do it, or do it."""
        selected = request.POST.getlist("selected")
        action = next(
            (one for one in self.remote_actions if one.name == request.POST.get("remote_action")), None
        )
        if action is None:
            messages.warning(request, "Choose what to do.")
            return HttpResponseRedirect(back)
        if action not in self.allowed_actions(request):
            raise PermissionDenied
        if not selected:
            messages.warning(request, f"Select at least one {self.noun}.")
            return HttpResponseRedirect(back)
        if request.POST.get("confirmed") != "yes":
            what = f"{self.noun} {selected[0]}" if len(selected) == 1 else f"{len(selected)} {self.noun}s"
            return self._page(
                request,
                "spooled/admin/confirm.html",
                {
                    "title": f"{action.label}: are you sure?",
                    "action": action,
                    "question": action.question.format(what=what),
                    "selected": selected,
                    "back": back,
                },
            )
        self._run(request, action, selected)
        return HttpResponseRedirect(back)

    def _run(self, request: HttpRequest, action: Action, selected: Sequence[str]) -> None:
        done = 0
        for one in selected:
            try:
                action.run(get_client(), one)
            except (ConflictError, NotFoundError) as error:
                messages.error(request, f"{self.noun} {one}: {error.message}")
            except (SpooledError, ImproperlyConfigured) as error:
                messages.error(request, f"{self.noun} {one}: {error}")
                break
            else:
                done += 1
        if done:
            count = f"1 {self.noun}" if done == 1 else f"{done} {self.noun}s"
            messages.success(request, action.done.format(count=count))


@admin.register(Queue)
class QueueAdmin(RemoteAdmin):
    """Queues with their numbers, which follow what happens."""

    noun = "queue"
    view_permission = "spooled.view_queue"
    remote_actions = (PAUSE, RESUME, PURGE)

    class Media:
        js = ("spooled/admin.js",)

    def get_urls(self) -> list[Any]:
        numbers = path(
            "numbers/", self.admin_site.admin_view(self.numbers_view), name="spooled_queue_numbers"
        )
        return [numbers, *super().get_urls()]

    def list_context(self, client: SpooledClient, request: HttpRequest) -> dict[str, Any]:
        start = _whole(request.GET.get("o"))
        queues = client.queues.list()
        rows = []
        for queue in queues[start : start + PAGE]:
            stats = client.jobs.get_stats(queue.queue_name)
            rows.append(
                {
                    "name": queue.queue_name,
                    "enabled": queue.enabled,
                    "counts": [(state, getattr(stats, state)) for state in STATES],
                }
            )
        return {
            "rows": rows,
            "states": STATES,
            "cut_at": len(queues) if len(queues) >= MOST_QUEUES else None,
            **_pages(request, start, len(queues) > start + PAGE),
        }

    def numbers_view(self, request: HttpRequest) -> HttpResponse:
        """Return the numbers as JSON, for the page to refresh itself."""
        self._require_view(request)
        context: dict[str, Any] = {}
        self._fill(request, context, self.list_context)
        if "trouble" in context:
            return JsonResponse({"trouble": context["trouble"]}, status=503)
        rows = {row["name"]: {**dict(row["counts"]), "paused": not row["enabled"]} for row in context["rows"]}
        return JsonResponse({"queues": rows})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        query = urlencode({"queue": object_id})
        return HttpResponseRedirect(f"{reverse('admin:spooled_queuedjob_changelist')}?{query}")


class JobListAdmin(RemoteAdmin):
    """What lists of jobs have in common."""

    noun = "job"
    view_permission = "spooled.view_queuedjob"

    def list_context(self, client: SpooledClient, request: HttpRequest) -> dict[str, Any]:
        start = _whole(request.GET.get("o"))
        filters = {name: request.GET.get(name, "").strip() for name in ("queue", "status", "q")}
        asked: dict[str, Any] = {"limit": PAGE, "offset": start}
        if filters["queue"]:
            asked["queue_name"] = filters["queue"]
        if filters["q"]:
            asked["q"] = filters["q"]
        jobs = self.ask(client, asked, filters["status"])
        queues = {queue.queue_name for queue in client.queues.list()}
        if filters["queue"]:
            # It may be one beyond those that the server lists.
            queues.add(filters["queue"])
        return {
            "jobs": jobs,
            "queues": sorted(queues),
            "states": STATES,
            "filters": filters,
            **_pages(request, start, not jobs.is_last(PAGE)),
        }

    def ask(self, client: SpooledClient, asked: dict[str, Any], status: str) -> Any:
        """One page of jobs."""
        raise NotImplementedError


@admin.register(QueuedJob)
class QueuedJobAdmin(JobListAdmin):
    """Jobs: filters, search, and one job with everything about it."""

    remote_actions = (RETRY, CANCEL)

    def ask(self, client: SpooledClient, asked: dict[str, Any], status: str) -> Any:
        if status in STATES:
            asked["status"] = status
        return client.jobs.list(**asked)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        self._require_view(request)
        if request.method == "POST":
            return self._act(request, request.get_full_path())

        def ask(client: SpooledClient, _: HttpRequest) -> dict[str, Any]:
            job = client.jobs.get(object_id)
            history = client.jobs.history(object_id, limit=EVENTS)
            return {
                "job": job,
                "payload": _shown(job.payload),
                "result": None if job.result is None else _shown(job.result),
                "history": [(event, _shown(event.details, 500)) for event in history],
                "history_cut_at": None if history.is_last(EVENTS) else EVENTS,
            }

        context: dict[str, Any] = {"title": "Job", "subtitle": object_id}
        possible = {"deadletter": RETRY, "failed": RETRY, "pending": CANCEL, "scheduled": CANCEL}
        try:
            self._fill(request, context, ask)
        except ValueError as error:
            raise Http404(str(error)) from error
        if "job" not in context and "not found" in context.get("trouble", "").lower():
            raise Http404(f"there is no job {object_id}")
        if "job" in context:
            fitting = possible.get(context["job"].status)
            context["remote_actions"] = [one for one in self.allowed_actions(request) if one is fitting]
        return self._page(request, "spooled/admin/job.html", context)


@admin.register(DeadLetter)
class DeadLetterAdmin(JobListAdmin):
    """Jobs that have failed for good."""

    remote_actions = (RETRY,)

    def ask(self, client: SpooledClient, asked: dict[str, Any], status: str) -> Any:
        return client.jobs.dlq.list(**asked)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:spooled_queuedjob_change", args=[object_id]))


class RefusedFilter(admin.SimpleListFilter):
    """Rows that the server has refused, or the others."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("refused", _("refused")), ("waiting", _("waiting"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[OutboxEntry]) -> QuerySet[OutboxEntry]:
        if self.value() == "refused":
            return queryset.exclude(last_error="")
        if self.value() == "waiting":
            return queryset.filter(last_error="")
        return queryset


@admin.register(OutboxEntry)
class OutboxEntryAdmin(_ModelAdmin):
    """Rows that wait to be sent, and rows that the server refuses, with its reason."""

    list_display = ("id", "created_at", "queue", "attempts", "next_attempt_at", "last_error")
    list_filter = (RefusedFilter,)
    search_fields = ("idempotency_key", "last_error")
    ordering = ("id",)
    actions = ("send_again", "delete_selected")

    @admin.display(description=_("queue"))
    def queue(self, entry: OutboxEntry) -> str:
        parameters: object = entry.parameters
        return str(parameters.get("queue_name", "")) if isinstance(parameters, dict) else ""

    @admin.action(description=_("Send again"), permissions=["send_again"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[OutboxEntry]) -> None:
        """Have the worker send refused rows at once, as if they were new."""
        again = queryset.exclude(last_error="")
        chosen = list(again)
        again.update(attempts=0, last_error="", next_attempt_at=None)
        for entry in chosen:
            self.log_change(request, entry, "Send again.")
        count = len(chosen)
        text = ngettext("%d entry will be sent again.", "%d entries will be sent again.", count) % count
        if count:
            messages.success(request, text)
        else:
            messages.warning(request, _("No refused entry is selected."))

    @admin.action(description=_("Drop: delete without sending"), permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: Any) -> Any:
        """Delete rows with Django's own confirmation and log entries, which know the action by this name."""
        return delete_selected(self, request, queryset)

    def has_send_again_permission(self, request: HttpRequest) -> bool:
        """Return whether the user has the model's permission to change."""
        user: Any = request.user
        return bool(user.has_perm("spooled.change_outboxentry"))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _whole(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else 0


def _pages(request: HttpRequest, start: int, more: bool) -> dict[str, Any]:
    """Links to the pages before and after."""

    def link(offset: int) -> str:
        query = request.GET.copy()
        query["o"] = str(offset)
        return f"?{query.urlencode()}"

    return {
        "first": start + 1,
        "previous": link(max(0, start - PAGE)) if start else None,
        "next": link(start + PAGE) if more else None,
    }


def _shown(value: object, limit: int = SHOWN) -> str:
    """JSON for people, cut when it is long. The template escapes it."""
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True, default=str)
    return text if len(text) <= limit else f"{text[:limit]}\n… {len(text) - limit:,} more characters"
