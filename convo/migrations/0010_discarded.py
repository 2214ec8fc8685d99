from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):

    dependencies = [
        ('convo', '0009_turn_day'),
    ]

    operations = [
        migrations.AddField(
            model_name='session',
            name='state_before',
            field=models.CharField(blank=True, choices=[('open', 'Open'), ('archived', 'Archived'), ('closed', 'Closed'), ('deleted', 'Deleted')], editable=False, help_text='Before it was deleted.', max_length=8, null=True),
        ),
        migrations.AddIndex(
            model_name='session',
            index=models.Index(condition=Q(('state_before__isnull', False)), fields=['owner'], name='session_discarded'),
        ),
        migrations.AddConstraint(
            model_name='session',
            constraint=models.CheckConstraint(condition=Q(Q(('expires_at__isnull', False), ('state', 'deleted'), ('state_before__isnull', False)), Q(Q(('state', 'deleted'), _negated=True), ('state_before__isnull', True)), _connector='OR'), name='session_deleted_for_a_while'),
        ),
    ]
