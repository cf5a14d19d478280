"""Writes orders with their jobs, one transaction each, until it is done or kills itself.

    python write_orders.py NAME FIRST COUNT SEED

Some transactions are rolled back; now and then the process dies within one or right after one. It prints the number of
the transaction that it comes to, so that another process can go on behind it.
"""

import os
import random
import signal
import sys

import django

django.setup()

from chaos.jobs import run  # noqa: E402
from django.db import transaction  # noqa: E402
from shop.models import Order  # noqa: E402


class RolledBackError(Exception):
    """Undoes a transaction."""


def main(name: str, first: int, count: int, seed: str) -> None:
    for number in range(first, count):
        print(number, flush=True)
        # The same number has the same fate, whichever process comes to it.
        fate = random.Random(f"{seed}-{name}-{number}").random()
        try:
            with transaction.atomic():
                order = Order.objects.create(customer=f"{name}-{number}")
                run.enqueue_on_commit(order.customer)
                if fate < 0.04:
                    os.kill(os.getpid(), signal.SIGKILL)
                if fate < 0.20:
                    raise RolledBackError
        except RolledBackError:
            continue
        if fate < 0.24:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
