"""Decide which queues a message goes to, and what is said about one that goes to none."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport.virtual import exchange as _exchange_types

from spooled_contrib.kombu._bindings import Binding
from spooled_contrib.kombu._envelope import Message, parameters

logger = logging.getLogger("spooled.kombu")

exchange_types: Any = _exchange_types  # has no types

# They need no channel to tell what matches, and so also tell it when the channel is closed.
_KINDS: dict[str, Any] = {name: kind(None) for name, kind in exchange_types.STANDARD_EXCHANGE_TYPES.items()}

_PUBLISH = (60, 40)
"""AMQP's number of `basic.publish`."""


def matching(bindings: Iterable[Binding], exchange: str, routing_key: str) -> dict[str, bool]:
    """Return the queues of the bindings that match, each with whether it outlives its consumer."""
    found: dict[str, bool] = {}
    for binding in bindings:
        kind = _KINDS.get(binding.kind)
        if kind is None:
            continue
        table = [kind.prepare_bind(binding.queue, exchange, binding.routing_key, None)]
        if kind.lookup(table, exchange, routing_key, None):
            found[binding.queue] = found.get(binding.queue, False) or binding.lasting
    return found


class Unroutable:
    """What is said about messages that no queue gets.

    As AMQP has it, an exchange that there is not is an error, and a message that nobody has asked for is dropped. But a
    task is sent to be run, so that one is an error too; and others are dropped with a warning, once for each place.
    """

    def __init__(self) -> None:
        self._warned: set[tuple[str, str]] = set()

    def tell(
        self,
        message: Message,
        exchange: str,
        routing_key: str,
        *,
        kind: str | None,
        durable: bool,
        mandatory: bool,
    ) -> None:
        """Raise, or log, or say nothing.

        Args:
            message: What was to be sent.
            exchange: Where to.
            routing_key: The message's.
            kind: Of the exchange; None when neither this process nor anybody else knows it.
            durable: Whether the exchange is.
            mandatory: Whether the sender wants an error in any case.

        Raises:
            ChannelError: The message must not get lost.
        """
        if kind is None:
            raise ChannelError(
                f"NOT_FOUND - no exchange {exchange!r}: this process has not declared it, and no queue is bound to it "
                f"on the server. Declare its queues here (task_queues), or start a worker that has them",
                _PUBLISH,
                "basic.publish",
                "404",
            )
        if mandatory or (kind != "fanout" and durable and _is_task(message)):
            raise ChannelError(
                f"NO_ROUTE - no queue is bound to the {kind} exchange {exchange!r} with a routing key that matches "
                f"{routing_key!r}. Declare one here (task_queues), or start a worker that has it",
                _PUBLISH,
                "basic.publish",
                "312",
            )
        if kind != "fanout" and durable and (exchange, routing_key) not in self._warned:
            self._warned.add((exchange, routing_key))
            logger.warning(
                "no queue is bound to the %s exchange %s for the routing key %s: what is sent there is dropped",
                kind,
                exchange,
                routing_key,
            )


def _is_task(message: Message) -> bool:
    return "job_type" in parameters("-", message, 0)["payload"]
