"""What a web application would do: send tasks, and look at their results.

python order.py
"""

from __future__ import annotations

import datetime as dt

from shop.tasks import order, price, remind


def main() -> None:
    due = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=3)
    reminder = remind.apply_async(("ada@example.org", due.isoformat()), eta=due)
    print("one price:", price.delay("cup", 2).get(timeout=60))
    print("an order: ", order({"teapot": 1, "cup": 2, "spoon": 4}).get(timeout=60))
    print("a reminder:", reminder.get(timeout=60))


if __name__ == "__main__":
    main()
