from typing import Any

from django.db import migrations


def let_sessions_expire(apps: Any, schema_editor: Any) -> None:
    """Have MongoDB delete each session after its `expire_date`, by the index that Django's own migration created."""
    sessions = apps.get_model("sessions", "Session")._meta.db_table
    index = {"keyPattern": {"expire_date": 1}, "expireAfterSeconds": 0}
    schema_editor.connection.database.command("collMod", sessions, index=index)


class Migration(migrations.Migration):

    dependencies = [
        ('driftwatch', '0003_stored_response'),
        ('sessions', '0001_initial'),
    ]

    operations = [
        migrations.RunPython(let_sessions_expire, migrations.RunPython.noop),
    ]
