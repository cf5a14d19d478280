"""Results of Celery's tasks in Spooled: `result_backend = "spooled://"`.

The result of a task rides on its own job: the job is completed with it. So keeping results costs no request more where
tasks run in the worker's process, and one more with the prefork pool. What belongs to no job that is held here, such as
a state of the user's own or the failure of a chord's body, is kept as a job that nobody runs.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping
from typing import Any

from celery import states
from celery.backends.base import BaseBackend
from celery.result import result_from_tuple

from spooled import errors
from spooled.models import Job
from spooled_contrib.kombu._courier import Courier
from spooled_contrib.kombu._registry import Share, find
from spooled_contrib.kombu._results import HELD, latest, newest, results_queue
from spooled_contrib.kombu._url import Address, masked, parse

logger = logging.getLogger("spooled.kombu")

_DERIVED = frozenset({states.PENDING, states.RECEIVED})
"""States that the job itself tells."""


class SpooledBackend(BaseBackend):  # type: ignore[misc] # Celery has no types
    """See the module. The URL is that of the broker, and taken from it when it says nothing but `spooled://`."""

    supports_autoexpire = True
    persistent = True

    def __init__(self, app: Any, expires: Any = None, url: str | None = None, **options: Any) -> None:
        super().__init__(app, **options)
        self.url = url
        self._expires = self.prepare_expires(expires, dt.timedelta)
        self._share = Share(self._address)

    # --- storing ----------------------------------------------------------------------------------------------

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        **_: Any,
    ) -> Any:
        if state in _DERIVED:
            return result
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        value = {"celery": self.encode(meta)}
        if state not in states.READY_STATES or not self._complete(request, value):
            self._record([f"id:{task_id}"], value)
        return result

    def _complete(self, request: Any, value: dict[str, Any]) -> bool:
        """Complete the job of the request; False when there is none that is held for it."""
        properties = getattr(request, "properties", None)
        held = properties.get(HELD) if isinstance(properties, Mapping) else None
        if not held or not isinstance(properties, Mapping):
            return False
        lease_id = properties["delivery_tag"]
        here = find(lease_id)
        if here is not None:
            courier, delivery = here
            courier.complete(delivery, value)
            return True
        try:
            self._courier.call(
                lambda client: client.jobs.complete(
                    held["job_id"], worker_id=held["worker_id"], lease_id=lease_id, result=value
                )
            )
        except (errors.NotFoundError, errors.ConflictError) as error:
            job = self._courier.call(lambda client: client.jobs.get(held["job_id"]))
            if isinstance(job.result, Mapping) and "celery" in job.result:
                # Celery tells a time limit twice: as itself, and by the child that it has killed. The first counts.
                return True
            logger.warning("the result of job %s came too late: %s", held["job_id"], error)
            return False
        return True

    def _record(self, tags: list[str], value: dict[str, Any]) -> None:
        expires = dt.datetime.now(dt.UTC) + (self._expires or dt.timedelta(days=365))
        self._courier.call(
            lambda client: client.jobs.create(
                queue_name=self._queue, payload=value, tags=tags, expires_at=expires, max_retries=0
            )
        )

    # --- reading ----------------------------------------------------------------------------------------------

    def _get_task_meta_for(self, task_id: str) -> Any:
        return self.meta_from_decoded(
            dict(latest(self._courier, task_id, self.decode, claimed=states.PENDING))
        )

    def _newest(self, tag: str) -> Job | None:
        return newest(self._courier, tag)

    def _forget(self, task_id: str) -> None:
        """Results go when their jobs do; a server deletes finished jobs after its retention."""

    def _save_group(self, group_id: str, result: Any) -> Any:
        self._record([f"group:{group_id}"], {"celery": self.encode({"result": result.as_tuple()})})
        return result

    def _restore_group(self, group_id: str) -> Any:
        job = self._newest(f"group:{group_id}")
        if job is None or job.status != "pending":
            return None
        meta = self.decode(job.payload["celery"])
        return {**meta, "result": result_from_tuple(meta["result"], self.app)}

    def _delete_group(self, group_id: str) -> None:
        job = self._newest(f"group:{group_id}")
        if job is not None and job.status == "pending":
            job_id = job.id
            self._courier.call(lambda client: client.jobs.cancel(job_id))

    # --- connection -------------------------------------------------------------------------------------------

    def _address(self) -> Address:
        url = self.url or ""
        if url.partition("://")[2].strip("/") == "":
            brokers = self.app.conf.broker_write_url or self.app.conf.broker_url
            # Of several, results are read from the first.
            url = (brokers if isinstance(brokers, str) else brokers[0]).partition(";")[0]
        return parse(url)

    @property
    def _courier(self) -> Courier:
        return self._share.courier

    @property
    def _queue(self) -> str:
        return results_queue(self._courier)

    def close(self) -> None:
        """Let go of the connection; the backend can be used again."""
        self._share.let_go()

    def as_uri(self, include_password: bool = False) -> str:
        url = self.url or "spooled://"
        shown = f"spooled+{url}" if url.startswith("http") else url
        return shown if include_password else masked(shown)

    def __reduce__(self, args: Any = (), kwargs: Any = None) -> Any:
        return super().__reduce__(args, {**(kwargs or {}), "expires": self._expires, "url": self.url})
