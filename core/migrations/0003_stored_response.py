from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('driftwatch', '0002_kept_answer'),
    ]

    operations = [
        # Only the class is renamed. The collection stays, so that older instances work beside newer ones.
        # The content type of the old name is left unused.
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterModelTable(name='KeptAnswer', table='driftwatch_keptanswer'),
                migrations.RenameModel(old_name='KeptAnswer', new_name='StoredResponse'),
            ],
        ),
    ]
