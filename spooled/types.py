"""The official SDK's name for `spooled.models`: what the server answers."""

from __future__ import annotations

from spooled import models
from spooled.models import *  # noqa: F403 - a second name for the same module

__all__ = models.__all__
