from django.db import migrations


def replace_marked(apps, schema_editor):
    """Replace experiments with an interrupted deletion by records of deletion, which hide them."""
    experiments = schema_editor.connection.database["experiments_experiment"]
    deleted = schema_editor.connection.database["experiments_deletedexperiment"]
    for marked in experiments.find({"deletion_began": {"$ne": None}}):
        record = {"name": marked["name"], "deleted_at": marked["deletion_began"], "purged_at": None}
        deleted.replace_one({"_id": marked["_id"]}, record, upsert=True)
        experiments.delete_one({"_id": marked["_id"]})


class Migration(migrations.Migration):
    """MongoDB does not roll back an interrupted migration, so every step can be repeated."""

    dependencies = [
        ("experiments", "0006_deleted_experiment"),
    ]

    operations = [
        # Not reversible: without the records, the runs of deleted experiments would be visible again.
        migrations.RunPython(replace_marked),
        migrations.RemoveField("experiment", "deletion_began"),
    ]
