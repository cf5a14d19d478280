"""`manage.py start_reports`: run it with every deployment; it asks for a report only where none is asked for."""

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from shop.jobs import ask_for_report


class Command(BaseCommand):
    help = "Ask for today's report. From then on, each report asks for the next day's."

    def handle(self, *args: Any, **options: Any) -> None:
        today = timezone.localdate()
        ask_for_report(today)
        self.stdout.write(f"The report of {today} will be made after its end.")
