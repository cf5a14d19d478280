import hashlib
from typing import Any

from django.db import migrations, models


def fill_digests(apps: Any, schema_editor: Any) -> None:
    rows = apps.get_model("spooled", "OutboxEntry").objects.using(schema_editor.connection.alias)
    for pk, key in list(rows.filter(key_digest=None).values_list("pk", "idempotency_key")):
        rows.filter(pk=pk).update(key_digest=hashlib.sha256(key.encode()).hexdigest())


class Migration(migrations.Migration):
    dependencies = [("spooled", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="outboxentry",
            name="key_digest",
            field=models.CharField(editable=False, max_length=64, null=True, unique=True),
        ),
        migrations.AddField(
            model_name="outboxentry",
            name="next_attempt_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="outboxentry",
            name="claimed_by",
            field=models.CharField(editable=False, max_length=32, null=True),
        ),
        migrations.RunPython(fill_digests, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="outboxentry",
            name="idempotency_key",
            field=models.CharField(max_length=255),
        ),
    ]
