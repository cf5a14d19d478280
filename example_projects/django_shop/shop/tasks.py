"""Jobs in the style of Django's own Tasks, on the same queue server and the same worker."""

from django.conf import settings
from django.core.mail import send_mail

from shop.models import Product

try:
    from django.tasks import task
except ModuleNotFoundError:  # Django below 6
    from django_tasks import task


@task(queue_name="mails", priority=10)
def mail_low_stock(product_id: int) -> int:
    product = Product.objects.get(pk=product_id)
    if product.stock >= product.reorder_below:
        return 0  # it was filled up meanwhile
    return send_mail(
        f"{product.name}: {product.stock} left",
        f"Please order {product.name}: there are {product.stock}, and there should be {product.reorder_below}.",
        None,
        [settings.SHOP_MANAGER],
    )
