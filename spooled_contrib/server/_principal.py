"""Who is asking, and which queues they may touch (contract section 1.1)."""

from __future__ import annotations

from msgspec import Struct

from spooled_contrib.server import _refusals as refuse


class Principal(Struct, frozen=True):
    """An authenticated caller. `queues` is None for an unrestricted key."""

    organization_id: str
    api_key_id: str
    queues: frozenset[str] | None

    def may_use(self, queue_name: str) -> bool:
        return self.queues is None or queue_name in self.queues

    def require_queue(self, queue_name: str) -> None:
        """Creating, claiming and configuring in a queue out of scope is refused openly: 403."""
        if not self.may_use(queue_name):
            raise refuse.out_of_scope(queue_name)

    def require_sight(self, queue_name: str) -> None:
        """Hide what exists in a queue out of scope: 404."""
        if not self.may_use(queue_name):
            raise refuse.not_found()

    def require_unrestricted(self) -> None:
        """The organization's control plane is closed to queue-scoped keys: 403."""
        if self.queues is not None:
            raise refuse.access_denied(
                "This API key is limited to queues and may not administer the organization"
            )

    def queue_condition(self, column: str = "queue_name") -> tuple[str, list[object]]:
        """Return a condition to append to a WHERE, so that lists and statistics silently show allowed queues only."""
        if self.queues is None:
            return "", []
        names = sorted(self.queues)
        return f" AND {column} IN ({', '.join('?' * len(names))})", list(names)


def scope_of(queues: list[str]) -> frozenset[str] | None:
    """An empty list, or one with "*", restricts nothing."""
    return None if not queues or "*" in queues else frozenset(queues)
