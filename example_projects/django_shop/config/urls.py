"""The shop's addresses."""

from django.contrib import admin
from django.urls import path
from shop import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", views.index, name="index"),
    path("orders/", views.place_order, name="place-order"),
    path("orders/<int:number>/", views.show_order, name="order"),
    path("orders/<int:number>/invoice.pdf", views.invoice, name="invoice"),
]
