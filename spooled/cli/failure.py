"""How a command ends: exit codes, and the one line that explains a failure."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spooled.errors import SpooledError


class Exit(enum.IntEnum):
    """Exit codes. A command that a signal cut off ends with 128 + the signal's number, as in a shell."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    """The command line makes no sense; nothing was sent."""
    REFUSED = 3
    """The server refuses the API key, or the key is not allowed to do this."""
    UNREACHABLE = 4
    """No answer from the server."""
    STUCK = 5
    """A handler ignores its time-out, and the worker has `on_stuck="exit"`."""
    INTERRUPTED = 130
    BROKEN_PIPE = 141


EXIT_CODES = """\
exit codes:
  0  done
  1  the server said no, or something went wrong
  2  the command line makes no sense; nothing was sent
  3  the server refuses the API key
  4  the server cannot be reached"""


class CommandError(Exception):
    """Ends the command with one line on stderr."""

    def __init__(self, message: str, code: int = Exit.ERROR) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def failure_of(error: SpooledError, base_url: str, what: str = "") -> CommandError:
    """Return what a person at a terminal needs to know of an error of the client's.

    Args:
        error: The error.
        base_url: The server that was talked to.
        what: What was looked for, such as `job 4711`: the server only says that it found nothing.
    """
    from spooled import errors

    request = f" (request id {error.request_id})" if error.request_id else ""
    message = error.message.rstrip(".")
    match error:
        case errors.ConfigurationError() if error.message.startswith("no credentials"):
            return CommandError("no API key: set SPOOLED_API_KEY or pass --api-key", Exit.USAGE)
        case errors.ConfigurationError():
            return CommandError(message, Exit.USAGE)
        case errors.ValidationError() if error.status_code == 0:
            return CommandError(message, Exit.USAGE)
        case errors.AuthenticationError():
            return CommandError(
                f"{base_url} refuses the API key: {message}{request}; "
                "check SPOOLED_API_KEY or --api-key, and that it belongs to this server",
                Exit.REFUSED,
            )
        case errors.AuthorizationError():
            return CommandError(f"the API key is not allowed to do this: {message}{request}", Exit.REFUSED)
        case errors.NetworkError() | errors.TimeoutError():
            return CommandError(
                f"cannot reach {base_url}: {message}; check that the server runs, and SPOOLED_BASE_URL or --base-url",
                Exit.UNREACHABLE,
            )
        case errors.NotFoundError() if what and error.message == "Resource not found":
            return CommandError(f"there is no {what}, or the API key's queues do not include it{request}")
        case _:
            return CommandError(f"{message}{request}" if error.status_code in (404, 409) else str(error))
