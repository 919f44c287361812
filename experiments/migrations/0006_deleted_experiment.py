import core.timestamps
from django.db import migrations, models


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
    ]
