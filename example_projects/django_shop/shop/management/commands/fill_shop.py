"""`manage.py fill_shop`: something to sell, and somebody to look at it."""

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand

from shop.models import Product


class Command(BaseCommand):
    help = (
        "Put products into the shop, and make the user admin with the password admin. For development only."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        for name, price, stock in (("teapot", 2450, 12), ("cup", 690, 40), ("spoon", 150, 6)):
            Product.objects.get_or_create(name=name, defaults={"price_cents": price, "stock": stock})
        if not User.objects.filter(username="admin").exists():
            User.objects.create_superuser("admin", password="admin")
        self.stdout.write("3 products; user admin, password admin")
