from typing import Any

from django.db import migrations


def let_sessions_expire(apps: Any, schema_editor: Any) -> None:
    """Have MongoDB delete each session after its `expire_date`, by the index that Django's own migration created.

    The index is replaced: `collMod`, which would change it, needs more than the role readWrite.
    """
    sessions = schema_editor.connection.database[apps.get_model("sessions", "Session")._meta.db_table]
    key = [("expire_date", 1)]
    names = [name for name, index in sessions.index_information().items() if index["key"] == key]
    for name in names:
        sessions.drop_index(name)
    # If this migration was interrupted, it has dropped the index already.
    sessions.create_index(key, name=names[0] if names else "expire_date_1", expireAfterSeconds=0)


class Migration(migrations.Migration):

    dependencies = [
        ('driftwatch', '0003_stored_response'),
        ('sessions', '0001_initial'),
    ]

    operations = [
        migrations.RunPython(let_sessions_expire, migrations.RunPython.noop),
    ]
