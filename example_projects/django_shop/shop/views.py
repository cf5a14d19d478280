"""A page with the products, and a small API to order them."""

from __future__ import annotations

import json

from django.db import transaction
from django.db.models import F
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from shop.jobs import Invoice, make_invoice
from shop.models import Order, Product
from shop.tasks import mail_low_stock


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    return render(request, "shop/index.html", {"products": Product.objects.order_by("name")})


@csrf_exempt  # an API for programs, which carry no cookies
@require_POST
def place_order(request: HttpRequest) -> HttpResponse:
    try:
        wanted = json.loads(request.body)
        name, quantity, customer = wanted["product"], int(wanted["quantity"]), str(wanted["customer"])
    except (ValueError, KeyError, TypeError):
        return JsonResponse({"error": "send product, quantity and customer"}, status=400)
    with transaction.atomic():
        taken = Product.objects.filter(name=name, stock__gte=quantity).update(stock=F("stock") - quantity)
        if not taken or quantity < 1:
            transaction.set_rollback(True)
            return JsonResponse({"error": f"there are not {quantity} of {name}"}, status=409)
        product = Product.objects.get(name=name)
        order = Order.objects.create(product=product, quantity=quantity, customer=customer)
        # In the same transaction as the order: there is never one without the other.
        make_invoice.enqueue_on_commit(Invoice(order.pk))
        if product.stock < product.reorder_below:
            transaction.on_commit(lambda: mail_low_stock.enqueue(product.pk))
    return JsonResponse({"order": order.pk, "url": f"/orders/{order.pk}/"}, status=201)


@require_GET
def show_order(request: HttpRequest, number: int) -> HttpResponse:
    order = get_object_or_404(Order.objects.select_related("product"), pk=number)
    return JsonResponse(
        {
            "order": order.pk,
            "product": order.product.name,
            "quantity": order.quantity,
            "total_cents": order.total_cents,
            "invoice": f"/orders/{order.pk}/invoice.pdf" if order.invoice else None,
        }
    )


@require_GET
def invoice(request: HttpRequest, number: int) -> HttpResponse:
    order = get_object_or_404(Order, pk=number)
    if not order.invoice:
        raise Http404("the invoice is not made yet")
    return FileResponse(order.invoice.open(), content_type="application/pdf")
