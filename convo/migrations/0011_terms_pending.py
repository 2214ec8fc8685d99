from django.db import migrations

# PostgreSQL puts what is new into a list beside the index first, and into the index when the list is full:
# writing takes a third of the time. The list is read by every search, so it is kept short: at 128 kB searches
# take what they took without it, at the usual 4 MB more than twice as long (docs/explanation/search.md).
MANY = "ALTER INDEX convo_terms SET (fastupdate = on, gin_pending_list_limit = 128)"
NONE = "ALTER INDEX convo_terms SET (fastupdate = off)"


def on_postgresql(statement):
    def change(apps, editor):
        if editor.connection.vendor == 'postgresql':
            editor.execute(statement)
    return change


class Migration(migrations.Migration):

    dependencies = [
        ('convo', '0010_discarded'),
    ]

    operations = [
        migrations.RunPython(on_postgresql(MANY), on_postgresql(NONE)),
    ]
