"""Every route in words and types.

A new route needs one entry, `"METHOD /path": returns("What it does", TypeOfTheReply, body=TypeOfTheBody)`, in one of
the modules below or in one of its own; a test names the routes that have none.
"""

from __future__ import annotations

from typing import Final

from spooled_contrib.server._api.openapi import (
    account_operations,
    admin_operations,
    job_operations,
    queue_operations,
    schedule_operations,
    service_operations,
    webhook_operations,
    workflow_operations,
)
from spooled_contrib.server._api.openapi.operation import Operation

OPERATIONS: Final[dict[str, Operation]] = {
    **service_operations.OPERATIONS,
    **job_operations.OPERATIONS,
    **queue_operations.OPERATIONS,
    **schedule_operations.OPERATIONS,
    **workflow_operations.OPERATIONS,
    **account_operations.OPERATIONS,
    **webhook_operations.OPERATIONS,
    **admin_operations.OPERATIONS,
}
