"""kombu's transport: connections and channels on a manager."""

from __future__ import annotations

import logging
import sys
import time
from asyncio import gather
from collections.abc import Callable, Mapping
from queue import Empty
from typing import Any, ClassVar
from urllib.parse import quote

from kombu.transport import virtual

from spooled import AsyncSpooledClient, __version__, errors
from spooled_contrib.kombu._begin import watch
from spooled_contrib.kombu._bindings import Binding
from spooled_contrib.kombu._connection_manager import ConnectionManager
from spooled_contrib.kombu._delivery import Delivery
from spooled_contrib.kombu._envelope import Message, message_of, task_fields, transient
from spooled_contrib.kombu._events import EVENTS
from spooled_contrib.kombu._hub_waker import HubWaker
from spooled_contrib.kombu._masking import blank_out, hide_key, reveal
from spooled_contrib.kombu._names import to_spooled
from spooled_contrib.kombu._prefetcher import Prefetcher
from spooled_contrib.kombu._redelivery import allowance, limited, requeues_when_lost
from spooled_contrib.kombu._registry import Share, keys_in_use
from spooled_contrib.kombu._results import HELD, REJECTED, failure, job_of, wants_result
from spooled_contrib.kombu._routing import Unroutable, matching
from spooled_contrib.kombu._url import Address, masked, parse

logger = logging.getLogger("spooled.kombu")

CONTROL_POLL = 0.3
"""Longest pause in seconds between two looks for remote control: `inspect` waits for a second only."""

_TRIED = "spooled_tried"
"""Member of a message that is about to be sent: the delivery tag of a try that has failed."""

UNLIMITED = 100
"""How many messages are fetched ahead for a consumer without a prefetch limit."""

_BaseChannel: Any = virtual.Channel
_BaseTransport: Any = virtual.Transport
_BaseQoS: Any = virtual.QoS
_BaseMessage: Any = virtual.Message


class QoS(_BaseQoS):  # type: ignore[misc] # kombu has no types
    """Counts what is unacked. Messages go back by way of their leases, never by being published again."""

    restore_at_shutdown = False

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: ARG002 - the channel has done it
        self._quick_ack(delivery_tag)


class ReceivedMessage(_BaseMessage):  # type: ignore[misc] # kombu has no types
    """A message that tells its channel when it cannot be decoded."""

    def decode(self) -> Any:
        try:
            return super().decode()
        except Exception as error:
            self.channel.cannot_decode(self.delivery_tag, error)
            raise


class Channel(_BaseChannel):  # type: ignore[misc] # kombu has no types
    """A channel whose queues are Spooled's."""

    QoS = QoS
    do_restore = False
    supports_fanout = True

    def __init__(self, connection: Transport, **options: Any) -> None:
        super().__init__(connection, **options)
        self._held: dict[str, Delivery] = {}
        self._prefetcher: Prefetcher | None = None
        self._without_ack: set[str] = set()
        self._temporary: set[str] = set()

    # --- publishing -------------------------------------------------------------------------------------------

    def encode_body(self, body: Any, encoding: str | None = None) -> tuple[Any, str | None]:
        """Text stays text, so that people can read it in Spooled; bytes become base64."""
        if isinstance(body, str):
            return body, "utf-8"
        return super().encode_body(body, encoding)  # type: ignore[no-any-return]

    def prepare_message(
        self,
        body: Any,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
    ) -> Message:
        """Return the message; one that is prepared again, because publishing it has failed, keeps its delivery tag."""
        message: Message = super().prepare_message(
            body, priority, content_type, content_encoding, headers, properties
        )
        # kombu's retries pass the same properties each time, and `_inplace_augment_message` adds the tag to them. The
        # server knows a message by its tag, so a new one would make a second job of it.
        message[_TRIED] = (properties or {}).get("delivery_tag")
        return message

    def _inplace_augment_message(self, message: Message, exchange: str, routing_key: str) -> None:
        tried = message.pop(_TRIED, None)
        super()._inplace_augment_message(message, exchange, routing_key)
        if tried is not None:
            message["properties"]["delivery_tag"] = tried

    def basic_publish(
        self,
        message: Message,
        exchange: str,
        routing_key: str,
        mandatory: bool = False,
        timeout: float | None = None,
        **_: Any,
    ) -> None:
        """Send a message; wait when the server asks to, within the time-out.

        Raises:
            ChannelError: Nobody gets it; see `Unroutable`.
            SpooledError: The server could not be reached, or has refused it.
        """
        if not exchange:
            self._inplace_augment_message(message, exchange, routing_key)
            self._send({routing_key: True}, message, timeout)
            return
        known = self.state.exchanges.get(exchange) or {}
        if exchange == EVENTS or known.get("type") == "fanout" or not known.get("durable", True):
            # Broadcasts, replies and events.
            message["body"] = blank_out(message["body"], keys_in_use())
        self._inplace_augment_message(message, exchange, routing_key)
        if exchange == EVENTS:
            self._manager.events.post(
                message, lambda bindings: set(matching(bindings, exchange, routing_key))
            )
            return
        queues = self._route(exchange, routing_key)
        if not queues and self.deadletter_queue:
            queues = {self.deadletter_queue: True}
        if queues:
            self._send(queues, message, timeout)
            return
        bindings = self._manager.bindings.lookup(exchange)
        kind = known.get("type") or (bindings[0].kind if bindings else None)
        self.connection.unroutable.tell(
            message, exchange, routing_key, kind=kind, durable=known.get("durable", True), mandatory=mandatory
        )

    def _send(self, queues: Mapping[str, bool], message: Message, timeout: float | None = None) -> None:
        jobs = [self._job(queue, message, lasting) for queue, lasting in queues.items()]

        async def create(client: AsyncSpooledClient) -> None:
            # Each has an idempotency key, so that all may be sent again when one has failed.
            await gather(*(client.jobs.create(**job) for job in jobs))

        self._manager.call(create, timeout)

    def _put(self, queue: str, message: Message, **_: Any) -> None:
        self._send({queue: True}, message)

    def _job(self, queue: str, message: Message, lasting: bool) -> dict[str, Any]:
        redeliveries = self._options.redeliveries
        if lasting:
            return job_of(self._name(queue), limited(message, redeliveries), allowance(redeliveries))
        return job_of(self._name(queue), transient(message), redeliveries)

    # --- exchanges and their bindings, which all processes share ----------------------------------------------

    def _route(self, exchange: str, routing_key: str) -> dict[str, bool]:
        """Return the queues that get a message, each with whether it outlives its consumer."""
        found: dict[str, bool] = {}
        for fresh in (False, True):
            bindings = self._manager.bindings.lookup(exchange, fresh=fresh)
            found = matching([*bindings, *self.connection.implied.get(exchange, ())], exchange, routing_key)
            if found:
                break
        return found

    def _lookup(self, exchange: str, routing_key: str, default: str | None = None) -> Any:  # noqa: ARG002
        return set(self._route(exchange, routing_key)) if exchange else {routing_key}

    def _queue_bind(self, exchange: str, routing_key: str, pattern: Any, queue: str) -> None:  # noqa: ARG002
        known = self.state.exchanges[exchange]
        lasting = known["durable"] and not known["auto_delete"] and queue not in self.connection.temporary
        binding = Binding(routing_key, queue, known["type"], lasting)
        if not lasting:
            self._temporary.add(queue)
        elif known["type"] == "direct" and exchange == routing_key == queue:
            # As Celery names all that it makes by itself. A producer declares it too, for which one request is a lot;
            # others hear of it from its consumers.
            self.connection.implied[exchange] = [binding]
            return
        try:
            self._manager.bindings.bind(exchange, binding)
        except BaseException:
            super().queue_unbind(queue, exchange, routing_key)  # so that it is not taken for done
            raise

    def queue_unbind(
        self, queue: str, exchange: str | None = None, routing_key: str = "", *args: Any, **options: Any
    ) -> None:
        """Take a binding back, for all processes."""
        super().queue_unbind(queue, exchange, routing_key, *args, **options)
        self.connection.implied.pop(queue, None)
        self._manager.bindings.unbind(queue, exchange or "amq.direct", routing_key)

    def exchange_delete(self, exchange: str, *args: Any, **options: Any) -> None:
        """Forget an exchange, and its bindings in all processes."""
        if exchange in self.state.exchanges:
            super().exchange_delete(exchange, *args, **options)
        self.connection.implied.pop(exchange, None)
        self._manager.bindings.unbind(None, exchange)

    # --- consuming --------------------------------------------------------------------------------------------

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[..., Any], consumer_tag: str, **options: Any
    ) -> Any:
        if no_ack:
            self._without_ack.add(queue)
        for binding in self.connection.implied.get(queue, ()):
            self._manager.bindings.bind(queue, binding)
        answer = super().basic_consume(queue, no_ack, callback, consumer_tag, **options)
        self._manager.notify()
        return answer

    def basic_qos(self, *args: Any, **options: Any) -> None:
        super().basic_qos(*args, **options)
        self._manager.notify()

    def basic_cancel(self, consumer_tag: str) -> Any:
        answer = super().basic_cancel(consumer_tag)
        if self._prefetcher is not None:
            kept = [self._name(queue) for queue in self._active_queues]
            self._prefetcher.set_demand(kept, 0)
            for delivery in self._prefetcher.discard(kept):
                self._manager.requeue(delivery)
        return answer

    def deliver(self) -> bool:
        """Hand one message to its consumer; False when there is none now."""
        if not self._consumers:
            return False
        if self._prefetcher is None:
            is_control = self._temporary.issuperset(self._active_queues)
            self._prefetcher = self._manager.open_prefetcher(CONTROL_POLL if is_control else None)
        estimate = self.qos.can_consume_max_estimate()
        names = {self._name(queue): queue for queue in self._active_queues}
        self._prefetcher.set_demand(list(names), UNLIMITED if estimate is None else estimate)
        if estimate == 0:
            return False
        delivery = self._prefetcher.get()
        if delivery is None:
            return False
        queue = names.get(delivery.queue_name)
        if queue is None:
            self._manager.requeue(delivery)
            return False
        message = self._hold(delivery)
        if queue in self._without_ack:
            self._settle(delivery.tag)
        self.connection._deliver(message, queue)
        return True

    def _get(self, queue: str, timeout: float | None = None) -> Message:  # noqa: ARG002 - kombu's signature
        delivery = self._manager.fetch(self._name(queue))
        if delivery is None:
            raise Empty
        return self._hold(delivery)

    def basic_get(self, queue: str, no_ack: bool = False, **options: Any) -> Any:
        message = super().basic_get(queue, no_ack=no_ack, **options)
        if message is not None and no_ack:
            self._settle(message.delivery_tag)
        return message

    def drain_events(self, timeout: float | None = None, callback: Any = None) -> None:  # noqa: ARG002
        if not self.deliver():
            raise Empty

    def _hold(self, delivery: Delivery) -> Message:
        self._held[delivery.tag] = delivery
        message = message_of(delivery.job.payload, redelivered=delivery.job.retry_count > 0, tag=delivery.tag)
        # What a result backend needs to complete the job, also in a child of the pool.
        held = {"job_id": delivery.job.id, "worker_id": self._manager.worker_id}
        message["properties"][HELD] = held
        if delivery.suspect:
            held["suspect"] = "yes"
            if not (message["headers"].get("task") and "celery.worker.state" in sys.modules):
                self._mark(delivery)  # a worker of Celery's does it when the task begins
        return message

    def _mark(self, delivery: Delivery) -> None:
        try:
            self._manager.mark(delivery.job.id, delivery.tag)
        except errors.SpooledError as error:
            logger.warning("job %s begins, and that could not be marked: %s", delivery.job.id, error)

    # --- settling, from any thread ----------------------------------------------------------------------------

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        for tag in self._tags(delivery_tag, multiple):
            self._settle(tag)
            super().basic_ack(tag)
        self._free()

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        delivery = self._held.pop(delivery_tag, None)
        if delivery is not None:
            if requeue:
                self._manager.requeue(delivery, ran=requeues_when_lost(delivery.job.payload))
            else:
                self._end(delivery, delivery.ending or REJECTED)
        super().basic_reject(delivery_tag, requeue=requeue)
        self._free()

    def _settle(self, tag: str) -> None:
        delivery = self._held.pop(tag, None)
        if delivery is not None:
            self._end(delivery, delivery.ending)

    def _end(self, delivery: Delivery, ending: object) -> None:
        if wants_result(delivery.job.payload) and (ending is None or ending is REJECTED):
            self._manager.await_result(delivery, ending)
        else:
            self._manager.complete(delivery, ending)

    def message_to_python(self, raw_message: Any) -> Any:
        message = super().message_to_python(raw_message)
        if message.errors:  # its compression is broken
            self.cannot_decode(message.delivery_tag, message.errors[0][1])
        return message

    def cannot_decode(self, tag: str, error: BaseException) -> None:
        """Let the result of a task say that its message cannot be read: Celery's worker only acks or rejects it."""
        delivery = self._held.get(tag)
        if delivery is not None and (task_id := task_fields(delivery.job.payload).get("id")):
            delivery.ending = failure(task_id, error)

    def _tags(self, tag: str, multiple: bool) -> list[str]:
        if not multiple:
            return [tag]
        tags = list(self._held)
        return tags[: tags.index(tag) + 1] if tag in tags else tags

    def _free(self) -> None:
        self._manager.notify()

    # --- queues -----------------------------------------------------------------------------------------------

    def queue_declare(self, queue: str | None = None, passive: bool = False, **options: Any) -> Any:
        # The number of messages is only asked for where it is looked at: that is a request.
        self._count = passive
        answer = super().queue_declare(queue, passive, **options)
        if options.get("auto_delete") or options.get("exclusive"):
            self.connection.temporary.add(answer.queue)
        return answer

    def _size(self, queue: str) -> int:
        if not getattr(self, "_count", True):
            return 0
        name = self._name(queue)
        return int(self._manager.call(lambda client: client.jobs.get_stats(name)).pending)

    def queue_delete(
        self,
        queue: str,
        if_unused: bool = False,  # noqa: ARG002 - nobody can tell
        if_empty: bool = False,
        **_: Any,
    ) -> None:
        """Take back the queue's bindings, in all processes, and cancel what is in it."""
        if queue in self._temporary:
            # It has no name that anybody else could know, and what is left in it expires by itself.
            self._temporary.discard(queue)
            self._manager.bindings.forget(queue)
        elif if_empty and self._size(queue):
            return
        else:
            self._purge(queue)
            self.connection.implied.pop(queue, None)
            self._manager.bindings.unbind(queue)
        self.state.queue_bindings_delete(queue)

    def _purge(self, queue: str) -> int:
        name = self._name(queue)
        purged = 0
        while True:
            waiting = self._manager.call(
                lambda client: client.jobs.list(queue_name=name, status=["pending", "scheduled"], limit=100)
            )
            if not waiting:
                return purged
            for job in waiting:
                job_id = job.id
                try:
                    self._manager.call(lambda client, job_id=job_id: client.jobs.cancel(job_id))  # type: ignore[misc]
                    purged += 1
                except (errors.ConflictError, errors.NotFoundError):
                    continue  # somebody was faster

    def close(self) -> None:
        """Give back what was fetched and not settled."""
        if self.closed:
            return
        prefetcher, self._prefetcher = self._prefetcher, None
        transport = self.connection
        for queue in self._temporary:
            self._manager.bindings.forget(queue)
        if prefetcher is not None:
            self._manager.close_prefetcher(prefetcher)
        while self._held:
            self._manager.requeue(self._held.popitem()[1])
        if self._qos is not None:
            self._qos._delivered.clear()
            self._qos._dirty.clear()
        super().close()
        if transport is not None:
            transport.forget(self)

    @property
    def _manager(self) -> ConnectionManager:
        manager: ConnectionManager = self.connection.manager
        return manager

    @property
    def _options(self) -> Any:
        return self._manager.options

    def _name(self, queue: str) -> str:
        return to_spooled(f"{self._options.prefix}{queue}")


Channel.Message = ReceivedMessage  # in the class it would hide the type of that name


class Transport(_BaseTransport):  # type: ignore[misc] # kombu has no types
    """Spooled as a broker; see docs/celery.md.

    Attributes:
        temporary: Queues that end with their consumers.
        implied: Bindings of queues that have the name of their exchange and of their routing key.
        unroutable: Tells of messages that no queue gets.

    Network trouble while consuming is retried in the background and never ends a consumer. While publishing it is
    raised, and is one of `connection_errors`, so that kombu's and Celery's retry policies apply.
    """

    Channel = Channel
    can_parse_url = True
    polling_interval = None
    implements = virtual.Transport.implements.extend(
        asynchronous=True,
        exchange_type=frozenset(["direct", "topic", "fanout"]),
    )
    default_port = 443
    driver_type = "spooled"
    driver_name = "spooled"

    connection_errors: ClassVar[tuple[type[BaseException], ...]] = (
        *virtual.Transport.connection_errors,
        errors.NetworkError,
        errors.TimeoutError,
        errors.ServerError,
        errors.RateLimitError,
    )
    channel_errors: ClassVar[tuple[type[BaseException], ...]] = (
        *virtual.Transport.channel_errors,
        errors.ConflictError,
    )
    recoverable_connection_errors = connection_errors

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        hide_key(client)
        watch()
        self._share = Share(self.address)
        self.temporary: set[str] = set()
        self.implied: dict[str, list[Binding]] = {}
        self.unroutable = Unroutable()
        self._first = 0
        self._hub_waker: HubWaker | None = None

    @property
    def manager(self) -> ConnectionManager:
        """The manager of this process. After a fork, the child gets one of its own."""
        return self._share.manager

    def address(self) -> Address:
        """Return the server, the key and the options.

        Raises:
            ValueError: The URL has a mistake.
        """
        brokers = self.client.alt
        if len(brokers) > 1 and any("?" in reveal(one) for one in brokers):
            raise ValueError("several brokers: the options belong into transport_options, not into the URLs")
        return parse(self._url()).with_options(self.client.transport_options)

    def _url(self) -> str:
        given = self.client
        host = reveal(given.hostname)
        key = reveal(given.password) or reveal(given.userid)
        scheme, separator, rest = host.partition("://")
        if not separator:
            # kombu has gone on to another broker of several, and has taken its URL apart.
            scheme = given.transport_cls if isinstance(given.transport_cls, str) else "spooled"
            port = f":{given.port}" if host and given.port else ""
            rest = f"[{host}]{port}" if ":" in host else f"{host}{port}"
        login = f":{quote(key, safe='')}@" if key and "@" not in rest else ""
        return f"{scheme}://{login}{rest}"

    def establish_connection(self) -> Any:
        """Ask the server for something that needs the key, so that a wrong one is noticed now.

        Raises:
            ValueError: The URL has a mistake.
            ConfigurationError: There is no key.
            AuthenticationError: The key is wrong.
            NetworkError: The server cannot be reached.
        """
        manager = self.manager
        try:
            manager.call(lambda client: client.jobs.get_stats())
        except BaseException:
            self._share.release()
            raise
        return super().establish_connection()

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:  # noqa: ARG002
        """Deliver on kombu's event loop, which Celery's worker runs on."""
        self._hub_waker = HubWaker(loop, self._deliver_all)
        self.manager.hub_wakers.add(self._hub_waker)
        self._hub_waker.wake()

    def _deliver_all(self) -> None:
        while self._deliver_one():
            continue

    def _deliver_one(self) -> bool:
        channels = list(self.channels)
        self._first += 1
        return any(
            channels[(self._first + index) % len(channels)].deliver() for index in range(len(channels))
        )

    def close_connection(self, connection: Any) -> None:
        super().close_connection(connection)
        hub_waker, self._hub_waker = self._hub_waker, None
        if hub_waker is not None:
            self.manager.hub_wakers.discard(hub_waker)
            hub_waker.close()
        self._share.release()

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:  # noqa: ARG002
        """Deliver one message; wait for it at most so many seconds.

        Raises:
            socket.timeout: None came.
        """
        give_up_at = None if timeout is None else time.monotonic() + timeout
        manager = self.manager
        while True:
            if self._deliver_one():
                return
            left = None if give_up_at is None else give_up_at - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError("timed out")
            with manager.changed:
                # In slices: what has changed between the look and this wait is seen soon.
                manager.changed.wait(0.05 if left is None else min(left, 0.05))

    def forget(self, channel: Any) -> None:
        """The channel is closed; it must not be handed out again."""
        if channel in self._avail_channels:
            self._avail_channels.remove(channel)

    def driver_version(self) -> str:
        return __version__

    @property
    def default_connection_params(self) -> dict[str, Any]:
        return {"hostname": "spooled://"}

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """Return the URL for people: without the key, unless it is asked for."""
        uri = reveal(uri) if uri and "://" in uri else self._url()
        shown = f"spooled+{uri}" if uri.startswith("http") else uri
        return shown if include_password else masked(shown, mask)
