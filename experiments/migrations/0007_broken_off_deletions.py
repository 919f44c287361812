from django.db import migrations


def replace_marked(apps, schema_editor):
    """Replace the experiments whose deletion was broken off by records, as a deletion does now: nobody sees them."""
    experiments = schema_editor.connection.database["experiments_experiment"]
    deleted = schema_editor.connection.database["experiments_deletedexperiment"]
    for marked in experiments.find({"deletion_began": {"$ne": None}}):
        record = {"name": marked["name"], "deleted_at": marked["deletion_began"], "purged_at": None}
        deleted.replace_one({"_id": marked["_id"]}, record, upsert=True)
        experiments.delete_one({"_id": marked["_id"]})


class Migration(migrations.Migration):
    """MongoDB undoes nothing of a migration that is broken off: every step can be taken again."""

    dependencies = [
        ("experiments", "0006_deleted_experiment"),
    ]

    operations = [
        # It has no way back: without the records, the runs of deleted experiments would be seen again.
        migrations.RunPython(replace_marked),
        migrations.RemoveField("experiment", "deletion_began"),
    ]
