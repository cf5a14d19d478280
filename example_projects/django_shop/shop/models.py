"""Products, orders, reports."""

from django.db import models


class Product(models.Model):
    name = models.CharField(max_length=100, unique=True)
    price_cents = models.PositiveIntegerField()
    stock = models.PositiveIntegerField(default=0)
    reorder_below = models.PositiveIntegerField(default=5)

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    product = models.ForeignKey(Product, on_delete=models.PROTECT)
    quantity = models.PositiveIntegerField()
    customer = models.EmailField()
    placed_at = models.DateTimeField(auto_now_add=True)
    invoice = models.FileField(upload_to="invoices", blank=True)

    def __str__(self) -> str:
        return f"order {self.pk}"

    @property
    def total_cents(self) -> int:
        return self.quantity * self.product.price_cents


class DailyReport(models.Model):
    day = models.DateField(unique=True)
    orders = models.PositiveIntegerField()
    total_cents = models.PositiveIntegerField()

    def __str__(self) -> str:
        return f"report of {self.day}"
