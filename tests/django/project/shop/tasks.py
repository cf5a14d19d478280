from shop.models import Order

try:
    from django.tasks import task
except ModuleNotFoundError:
    from django_tasks import task


class DeclinedError(Exception):
    pass


@task
def add(one: int, two: int = 0) -> int:
    return one + two


@task(queue_name="slow", priority=7)
async def greet(name: str) -> str:
    order = await Order.objects.acreate(customer=name)
    return f"hello {order.customer}"


@task(takes_context=True)
def attempt(context) -> list:
    return [context.attempt, context.task_result.id, len(context.task_result.worker_ids)]


@task
def decline(amount: int) -> None:
    raise DeclinedError(f"{amount} is too much")


@task(backend="other")
def decline_once(amount: int) -> None:
    raise DeclinedError(f"{amount} is too much")


@task
def unserialisable():
    return object()


@task(backend="immediate")
def immediate(n: int) -> int:
    return n


def no_task(n: int) -> int:
    raise AssertionError("nothing but tasks may be called")


try:

    @task(max_retries=5, timeout=7)
    def limited(n: int) -> int:
        return n

except TypeError:  # Django 6.0 passes nothing on to the backend's class
    limited = None
