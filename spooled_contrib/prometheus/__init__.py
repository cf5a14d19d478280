"""Prometheus: what a worker claims, runs and loses, as metrics.

Needs the extra: `pip install "spooled-contrib[prometheus]"`.
"""

from __future__ import annotations

try:
    import prometheus_client  # noqa: F401 # only to say in one place what is missing
except ModuleNotFoundError as error:
    if error.name != "prometheus_client":
        raise
    raise ModuleNotFoundError(
        'spooled_contrib.prometheus needs prometheus-client: pip install "spooled-contrib[prometheus]"',
        name=error.name,
    ) from error

from spooled_contrib.prometheus._middleware import PrometheusMiddleware

__all__ = ["PrometheusMiddleware"]
