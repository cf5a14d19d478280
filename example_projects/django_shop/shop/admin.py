"""The shop's own tables. Queues, jobs and dead letters come with spooled_contrib.django."""

from django.contrib import admin

from shop.models import DailyReport, Order, Product

admin.site.register(DailyReport)


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ("name", "price_cents", "stock", "reorder_below")


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ("id", "product", "quantity", "customer", "placed_at", "invoice")
