from django.db import migrations, models
from django.db.models import F, Q


class Migration(migrations.Migration):

    dependencies = [
        ('convo', '0004_search'),
    ]

    # Every session that is there was weighed in no version yet: the first sweeps weigh them all.
    operations = [
        migrations.AddField(
            model_name='session',
            name='title_turn',
            field=models.PositiveIntegerField(blank=True, help_text='The number of the turn it was learned from; null: a person set it.', null=True),
        ),
        migrations.AddField(
            model_name='session',
            name='summary_due',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='session',
            name='weighed_version',
            field=models.PositiveBigIntegerField(default=0, help_text='What epoch + last_position was then; both of them only rise.'),
        ),
        migrations.AddField(
            model_name='session',
            name='weighed_rules',
            field=models.CharField(blank=True, help_text="Names the agents' rules then.", max_length=16),
        ),
        migrations.AddIndex(
            model_name='session',
            index=models.Index(condition=Q(('summary_due', True)), fields=['last_activity'], name='session_due'),
        ),
        migrations.AddIndex(
            model_name='session',
            index=models.Index(condition=Q(('weighed_version__lt', F('epoch') + F('last_position'))), fields=['id'], name='session_unweighed'),
        ),
        migrations.AddIndex(
            model_name='session',
            index=models.Index(fields=['weighed_rules'], name='session_by_rules'),
        ),
    ]
