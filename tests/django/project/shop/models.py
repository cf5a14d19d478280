from django.db import models


class Order(models.Model):
    customer = models.CharField(max_length=100)
    invoiced = models.IntegerField(default=0)
