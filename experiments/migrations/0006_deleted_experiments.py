import core.timestamps
from django.db import migrations, models


def replace_marked(apps, schema_editor):
    """Deletions that were begun and broken off: what has the mark of one is hidden from now on, and can be purged."""
    experiments = schema_editor.connection.database["experiments_experiment"]
    deleted = schema_editor.connection.database["experiments_deletedexperiment"]
    for marked in experiments.find({"deletion_began": {"$ne": None}}):
        record = {"name": marked["name"], "deleted_at": marked["deletion_began"], "purged_at": None}
        deleted.replace_one({"_id": marked["_id"]}, record, upsert=True)
        experiments.delete_one({"_id": marked["_id"]})


class Migration(migrations.Migration):

    dependencies = [
        ("experiments", "0005_changed"),
    ]

    operations = [
        migrations.CreateModel(
            name="DeletedExperiment",
            fields=[
                ("id", models.UUIDField(db_column="_id", editable=False, primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=255)),
                ("deleted_at", models.DateTimeField(default=core.timestamps.now, editable=False)),
                (
                    "purged_at",
                    models.DateTimeField(editable=False, help_text="When its runs were removed.", null=True),
                ),
            ],
            options={"ordering": ("deleted_at", "id")},
        ),
        migrations.RunPython(replace_marked, migrations.RunPython.noop),
        migrations.RemoveField("experiment", "deletion_began"),
    ]
