"""The table."""

from __future__ import annotations

from typing import Any


def show(result: dict[str, Any]) -> None:
    """Print what was measured, and each promise."""
    if "mixed" in result:
        mixed = result["mixed"]
        print(f"{'call':12} {'calls':>8} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}")
        for kind, row in mixed["kinds"].items():
            times = (row[name] for name in ("p50_ms", "p99_ms", "max_ms"))
            print(f"{kind:12} {row['calls']:8} " + " ".join(_number(value) for value in times))
        print(f"{mixed['achieved']:,.0f} calls/s of {mixed['rate']:,}; {mixed['jobs']:,} jobs")
        for kind, errors in mixed["errors"].items():
            for error, count in errors.items():
                print(f"  {kind}: {count} x {error}")
        for complaint in mixed["audit"]:
            print(f"  audit: {complaint}")
    if "claims" in result:
        claims = result["claims"]
        print(
            f"a claim: {claims['few_ms']:.2f} ms from few, {claims['many_ms']:.2f} ms from {claims['stored']:,}"
        )
    for bar in result["bars"]:
        sign = "<=" if bar["at_most"] else ">="
        value = "--" if bar["value"] is None else f"{bar['value']:,.4g}"
        decision = "pass" if bar["passed"] else "FAIL"
        print(f"  {decision} {bar['text']}: {value} ({sign} {bar['bar']:,g})")


def _number(value: float | None) -> str:
    return f"{value:8.2f}" if value is not None else "      --"
