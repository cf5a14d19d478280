"""Results of Celery's tasks in Spooled: `result_backend = "spooled://"`.

The result of a task rides on its own job: the job is completed with it. So keeping results costs no request more where
tasks run in the worker's process, and one more with the prefork pool. What is no end of a run, or belongs to no job
that is held here, such as a state of the user's own or the failure of a chord's body, is a job that nobody runs.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from celery import states
from celery.backends import base as _base
from celery.backends.base import BaseBackend
from celery.exceptions import BackendStoreError, Retry
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import result_from_tuple
from celery.utils.functional import LRUCache
from kombu import serialization as _serialization

from spooled import AsyncSpooledClient, SpooledError, errors
from spooled_contrib.kombu._connection_manager import ConnectionManager
from spooled_contrib.kombu._registry import Share, find, find_rejected
from spooled_contrib.kombu._results import (
    HELD,
    Found,
    ResultRefusedError,
    content_of,
    decoded,
    failure,
    find_slot,
    is_refusal,
    is_stored,
    keep,
    look_up,
    newest,
    results_queue,
    shortened,
    stored,
)
from spooled_contrib.kombu._stopping import announced
from spooled_contrib.kombu._url import Address, masked, parse

logger = logging.getLogger("spooled.kombu")

serialization: Any = _serialization  # has no types

decompressed: Callable[[str | bytes], str | bytes] = getattr(
    _base, "decompress_payload", lambda content: content
)
"""Celery's own; before 5.7 it has none, and compresses no results."""

T = TypeVar("T")

_DERIVED = frozenset({states.PENDING, states.RECEIVED})
"""States that the job itself tells."""

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds between two attempts to store something while the server is away."""

LAST_PATIENCE = 5.0
"""Seconds to wait for a server that is away, once the worker has been told to end."""

SHORTEST_LOOK = 0.02
"""Seconds between the first two looks for a result; later ones are as long as `interval`."""

WINDOW = 20
"""Tasks that have not ended and are looked at before a pause."""

LARGE = 262_144
"""Characters of a result from which on the task waits until the server has taken it: it may be refused."""

_completion: ContextVar[str | None] = ContextVar("spooled_ending", default=None)


@contextmanager
def _ends(task_id: str) -> Iterator[None]:
    """Mark what is stored for this task as the end of its run, with which its job is completed."""
    token = _completion.set(task_id)
    try:
        yield
    finally:
        _completion.reset(token)


class SpooledBackend(BaseBackend):  # type: ignore[misc] # Celery has no types
    """See the module. The URL is that of the broker, and taken from it when it says nothing but `spooled://`."""

    supports_autoexpire = True
    supports_native_join = True
    supports_result_compression = True
    persistent = True

    def __init__(self, app: Any, expires: Any = None, url: str | None = None, **options: Any) -> None:
        super().__init__(app, **options)
        self.url = url
        # In seconds: a number would be taken for days.
        seconds = self.prepare_expires(expires)
        self._expires = None if seconds is None else dt.timedelta(seconds=seconds)
        self._share = Share(self._address)
        self._records = LRUCache(limit=1000)

    # --- storing ----------------------------------------------------------------------------------------------

    def on_task_call(self, producer: Any, task_id: str) -> Any:  # noqa: ARG002 - Celery's signature
        keep(task_id)
        return {}

    def mark_as_done(self, task_id: str, *args: Any, **kwargs: Any) -> Any:
        with _ends(task_id):
            return super().mark_as_done(task_id, *args, **kwargs)

    def mark_as_failure(self, task_id: str, *args: Any, **kwargs: Any) -> Any:
        with _ends(task_id):
            return super().mark_as_failure(task_id, *args, **kwargs)

    def mark_as_revoked(self, task_id: str, *args: Any, **kwargs: Any) -> Any:
        with _ends(task_id):
            return super().mark_as_revoked(task_id, *args, **kwargs)

    def mark_as_retry(self, task_id: str, exc: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(exc, Retry):
            # Nobody has sent the task again: its run was cancelled, and its message comes back.
            return super().mark_as_retry(task_id, exc, *args, **kwargs)
        with _ends(task_id):
            return super().mark_as_retry(task_id, exc, *args, **kwargs)

    def on_chord_part_return(self, request: Any, state: str, result: Any, **_: Any) -> None:
        """Store the result of a chord's part that ignores results: the chord waits for it."""
        # Not the attribute: where the message says nothing, the class of the request says False.
        ignored = vars(request).get("ignore_result")
        if ignored is None:
            task = self.app.tasks.get(getattr(request, "task", None))
            ignored = task is not None and task.ignore_result
        if ignored:
            self.store_result(request.id, result, state, request=request)

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
        if isinstance(traceback, str):
            traceback = shortened(traceback)
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        value = self._value(meta)
        if _completion.get() == task_id and self._complete(task_id, state, request, value):
            self._drop_record(task_id)
        else:
            self._record(f"state:{task_id}", {**value, "state": state})
        return result

    def _value(self, meta: Any) -> dict[str, Any]:
        return stored(self.encode(meta), self.content_type)

    def _complete(self, task_id: str, state: str, request: Any, value: dict[str, Any]) -> bool:
        """Complete the job of the request; False when there is none that is held for it."""
        properties = getattr(request, "properties", None)
        held = properties.get(HELD) if isinstance(properties, Mapping) else None
        size = len(value["celery"])

        def instead(error: BaseException) -> dict[str, Any]:
            if state in self.EXCEPTION_STATES:
                return self._shorter(task_id, state, value, error)
            return failure(task_id, ResultRefusedError.of(size, error))

        if not held or not isinstance(properties, Mapping):
            here = find_rejected(task_id)
            if here is None:
                return False
            here[0].complete(here[1], value, instead)
            return True
        lease_id = properties["delivery_tag"]
        mine = find_slot(lease_id)
        if mine is not None:
            mine.put(value, instead)
            return True
        here = find(lease_id)
        if here is not None and (size < LARGE or state in self.EXCEPTION_STATES):
            here[0].complete(here[1], value, instead)
            return True
        worker_id, job_id = held["worker_id"], held["job_id"]

        def send(content: object) -> Any:
            return self._until_stored(
                lambda client: client.jobs.complete(
                    job_id, worker_id=worker_id, lease_id=lease_id, result=content
                ),
                task_id,
                state,
            )

        try:
            try:
                send(value)
            except SpooledError as error:
                if not is_refusal(error):
                    raise
                if state not in self.EXCEPTION_STATES:
                    raise ResultRefusedError.of(size, error) from error
                send(instead(error))
        except (errors.NotFoundError, errors.ConflictError) as error:
            job = self._until_stored(lambda client: client.jobs.get(job_id), task_id, state)
            if is_stored(job.result):
                # Celery tells a time limit twice: as itself, and by the child that it has killed. The first counts.
                return True
            logger.warning("the result of job %s came too late: %s", job_id, error)
            return False
        if here is not None:
            here[0].settled(here[1])
        return True

    def _shorter(
        self, task_id: str, state: str, value: Mapping[str, Any], error: BaseException
    ) -> dict[str, Any]:
        """Return a failure that was refused as one whose texts are cut."""
        try:
            meta = self._decoded(*content_of(value))
        except Exception:
            return failure(task_id, ResultRefusedError.of(len(value["celery"]), error))
        described = meta["result"]
        if isinstance(described, BaseException):  # the serializer keeps exceptions as they are
            described = {
                "exc_type": type(described).__qualname__,
                "exc_module": type(described).__module__,
                "exc_message": [str(described)],
            }
        words = described.get("exc_message") if isinstance(described, Mapping) else described
        texts = words if isinstance(words, list | tuple) else [words]
        short = [shortened(word if isinstance(word, str) else repr(word), 2048) for word in texts[:10]]
        kept = {
            "exc_type": (described or {}).get("exc_type", "Exception"),
            "exc_module": (described or {}).get("exc_module", "builtins"),
            "exc_message": short,
        }
        return {
            "celery": {
                "status": state,
                "result": kept,
                "traceback": shortened(str(meta.get("traceback") or "")) or None,
                "children": [],
                "date_done": meta.get("date_done"),
                "task_id": task_id,
            }
        }

    def _record(self, tag: str, value: dict[str, Any]) -> None:
        """Keep it as a job that nobody runs, in the place of the one that this process has kept before."""
        expires = dt.datetime.now(dt.UTC) + (self._expires or dt.timedelta(days=365))
        key = f"{tag[:200]}:{uuid.uuid4()}"
        made = self._until_stored(
            lambda client: client.jobs.create(
                queue_name=self._queue,
                payload=value,
                tags=[tag],
                expires_at=expires,
                max_retries=0,
                idempotency_key=key,
            ),
            tag.partition(":")[2],
            value.get("state", "group"),
        )
        self._drop_record(tag.partition(":")[2])
        if "state" in value:
            self._records[tag.partition(":")[2]] = made.id

    def _drop_record(self, task_id: str) -> None:
        """Cancel the record of this task that this process has made: jobs that wait count for the plan."""
        job_id = self._records.pop(task_id, None)
        if job_id is not None:
            self._manager.begin(lambda client: client.jobs.cancel(job_id))

    def _until_stored(
        self, attempt: Callable[[AsyncSpooledClient], Coroutine[Any, Any, T]], task_id: str, state: str
    ) -> T:
        """Try until the server takes it, as acks are; at most `result_backend_max_retries` times more.

        Raises:
            SpooledError: The server refuses it.
            BackendStoreError: There are no retries left, or the worker ends.
        """

        async def work(client: AsyncSpooledClient) -> T:
            pause, retries = FIRST_PAUSE, 0
            give_up_at: float | None = None
            while True:
                try:
                    answer = await attempt(client)
                except SpooledError as error:
                    if not error.is_retryable():
                        raise
                    if retries >= self.max_retries:
                        raise BackendStoreError(
                            f"{state} of task {task_id} was not stored in {retries + 1} attempts: {error}",
                            task_id=task_id,
                            state=state,
                        ) from error
                    if announced():
                        # A warm shutdown waits for this task.
                        give_up_at = give_up_at or time.monotonic() + LAST_PATIENCE
                        if time.monotonic() >= give_up_at:
                            raise BackendStoreError(
                                f"{state} of task {task_id} was not stored before the worker ended: {error}",
                                task_id=task_id,
                                state=state,
                            ) from error
                        pause = min(pause, 0.5)
                    # Once for an outage, and not for each attempt.
                    level = logging.DEBUG if retries else logging.WARNING
                    logger.log(level, "storing %s of task %s failed; trying again: %s", state, task_id, error)
                    wait = max(random.uniform(pause / 2, pause), error.server_wait or 0.0)  # noqa: S311
                else:
                    if retries:
                        logger.info("%s of task %s is stored, after %d retries", state, task_id, retries)
                    return answer
                retries += 1
                await asyncio.sleep(wait)
                pause = min(LONGEST_PAUSE, pause * 2)

        return self._manager.call(work)

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        """Whether `result_backend_always_retry` repeats what failed with this. Storing is repeated without it."""
        return isinstance(exc, SpooledError) and exc.is_retryable()

    # --- reading ----------------------------------------------------------------------------------------------

    def _get_task_meta_for(self, task_id: str) -> Any:
        def read(client: AsyncSpooledClient) -> Coroutine[Any, Any, Found]:
            return look_up(client, task_id, claimed=states.PENDING)

        if self.app.current_worker_task is None:
            found = self._manager.call(read)
        else:
            # A chord waits in a task. It must not fail because the server is away for a moment.
            found = self._until_stored(read, task_id, "a look at the result")
        return self.meta_from_decoded(dict(decoded(found, self._decoded)))

    def _decoded(self, content: str | bytes, content_type: str) -> Any:
        """Decode what was stored, also by an app with another `result_serializer`, if its type is accepted."""
        if content_type == self.content_type:
            return self.decode(content)
        content = decompressed(content)
        return serialization.loads(
            content,
            content_type=content_type,
            content_encoding="binary" if isinstance(content, bytes) else "utf-8",
            accept=self.accept,
        )

    def wait_for_pending(
        self,
        result: Any,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,  # noqa: ARG002 - Celery's signature
        on_message: Callable[[Any], object] | None = None,
        on_interval: Callable[[], object] | None = None,
        callback: Callable[..., object] | None = None,
        propagate: bool = True,
    ) -> Any:
        self._ensure_not_eager()
        for _, meta in self.get_many(
            [result.id], timeout=timeout, interval=interval, on_message=on_message, on_interval=on_interval
        ):
            result._maybe_set_cache(meta)
        return result.maybe_throw(propagate=propagate, callback=callback)

    def get_many(
        self,
        task_ids: Iterable[str],
        timeout: float | None = None,
        interval: float | None = 0.5,
        no_ack: bool = True,  # noqa: ARG002 - Celery's signature
        on_message: Callable[[Any], object] | None = None,
        on_interval: Callable[[], object] | None = None,
        max_iterations: int | None = None,
        **options: Any,  # noqa: ARG002 - Celery's signature
    ) -> Iterator[tuple[str, Any]]:
        """Yield the tasks that have ended, as they do. Looks often at first, then every `interval` seconds.

        Raises:
            CeleryTimeoutError: One has not ended within `timeout` seconds.
        """
        longest = 0.5 if interval is None else interval
        give_up_at = None if timeout is None else time.monotonic() + timeout
        left = deque(dict.fromkeys(task_ids))
        pause, looks = SHORTEST_LOOK, 0
        while left:
            # Each look goes on where the last one ended, so that a large group costs no request for each of its tasks.
            unready = 0
            for _ in range(len(left)):
                task_id = left.popleft()
                meta = self.get_task_meta(task_id)
                if meta["status"] in states.READY_STATES:
                    if on_message is not None:
                        on_message({"task_id": task_id, **meta})
                    yield task_id, meta
                    continue
                left.append(task_id)
                unready += 1
                if unready >= WINDOW and max_iterations is None:
                    break
            looks += 1
            if not left or (max_iterations is not None and looks >= max_iterations):
                return
            if on_interval is not None:
                on_interval()
            now = time.monotonic()
            if give_up_at is not None and now >= give_up_at:
                raise CeleryTimeoutError("The operation timed out.")
            nap = min(pause, longest)
            time.sleep(nap if give_up_at is None else min(nap, give_up_at - now))
            pause = min(longest, pause * 1.5)

    def _forget(self, task_id: str) -> None:
        """Results go when their jobs do; a server deletes finished jobs after its retention."""

    def _save_group(self, group_id: str, result: Any) -> Any:
        self._record(f"group:{group_id}", self._value({"result": result.as_tuple()}))
        return result

    def _restore_group(self, group_id: str) -> Any:
        job = self._manager.call(lambda client: newest(client, f"group:{group_id}"))
        if job is None or job.status != "pending":
            return None
        meta = self._decoded(*content_of(job.payload))
        return {**meta, "result": result_from_tuple(meta["result"], self.app)}

    def _delete_group(self, group_id: str) -> None:
        job = self._manager.call(lambda client: newest(client, f"group:{group_id}"))
        if job is not None and job.status == "pending":
            job_id = job.id
            self._manager.call(lambda client: client.jobs.cancel(job_id))

    # --- connection -------------------------------------------------------------------------------------------

    def _address(self) -> Address:
        # One that was pickled without the key has no URL: the app knows it.
        url = self.url or self.app.conf.result_backend or ""
        if url.partition("://")[2].strip("/") == "":
            brokers = self.app.conf.broker_write_url or self.app.conf.broker_url
            # Of several, results are read from the first.
            url = (brokers if isinstance(brokers, str) else brokers[0]).partition(";")[0]
        return parse(url)

    @property
    def _manager(self) -> ConnectionManager:
        return self._share.manager

    @property
    def _queue(self) -> str:
        return results_queue(self._manager.options.prefix)

    def close(self) -> None:
        """Let go of the connection; the backend can be used again."""
        self._share.release()

    def as_uri(self, include_password: bool = False) -> str:
        url = self.url or "spooled://"
        shown = f"spooled+{url}" if url.startswith("http") else url
        return shown if include_password else masked(shown)

    def __reduce__(self, args: Any = (), kwargs: Any = None) -> Any:
        # A result that is pickled takes its backend along, into a job: the key must not go with it.
        url = self.url if self.url is None or masked(self.url) == self.url else None
        return super().__reduce__(args, {**(kwargs or {}), "expires": self._expires, "url": url})
