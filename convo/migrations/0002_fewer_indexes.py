# Begun with makemigrations of Django 5.2 on 2026-12-01.

import django.db.models.deletion
import django.db.models.expressions
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('convo', '0001_convo'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='message',
            name='one_message_per_item_id',
        ),
        migrations.RemoveConstraint(
            model_name='session',
            name='one_session_per_ref',
        ),
        migrations.RemoveIndex(
            model_name='message',
            name='message_by_item_id',
        ),
        migrations.RemoveIndex(
            model_name='message',
            name='message_transcript',
        ),
        migrations.RemoveIndex(
            model_name='session',
            name='session_by_rules',
        ),
        migrations.RemoveIndex(
            model_name='session',
            name='session_by_ref',
        ),
        migrations.RemoveIndex(
            model_name='turn',
            name='turn_leases',
        ),
        migrations.RemoveIndex(
            model_name='turn',
            name='turn_children',
        ),
        migrations.RemoveIndex(
            model_name='turn',
            name='turn_queue',
        ),
        migrations.AlterField(
            model_name='session',
            name='forked_from',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='forks', to='convo.session'),
        ),
        migrations.AlterField(
            model_name='turn',
            name='agent_version',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, to='convo.agentversion'),
        ),
        migrations.AlterField(
            model_name='turn',
            name='parent',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='children', to='convo.turn'),
        ),
        migrations.AlterField(
            model_name='turn',
            name='question_turn',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='answers', to='convo.turn'),
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(condition=models.Q(('active', True), ('erased_at', None), ('thread', '')), fields=['session', 'position'], name='message_transcript'),
        ),
        migrations.AddIndex(
            model_name='session',
            index=models.Index(condition=models.Q(('forked_from__isnull', False)), fields=['forked_from'], name='session_forks'),
        ),
        migrations.AddIndex(
            model_name='session',
            index=models.Index(condition=models.Q(('checked_version__gte', django.db.models.expressions.CombinedExpression(models.F('epoch'), '+', models.F('last_position')))), fields=['checked_rules'], name='session_by_rules'),
        ),
        migrations.AddIndex(
            model_name='turn',
            index=models.Index(condition=models.Q(('status__in', ['queued', 'running'])), fields=['session', 'id'], name='turn_unfinished'),
        ),
        migrations.AddIndex(
            model_name='turn',
            index=models.Index(fields=['parent', 'session'], name='turn_children'),
        ),
        migrations.AddIndex(
            model_name='turn',
            index=models.Index(condition=models.Q(('question_turn__isnull', False)), fields=['question_turn'], name='turn_answers'),
        ),
        migrations.AddConstraint(
            model_name='message',
            constraint=models.UniqueConstraint(fields=('item_id', 'session'), name='one_message_per_item_id'),
        ),
        migrations.AddConstraint(
            model_name='session',
            constraint=models.UniqueConstraint(condition=models.Q(('ref__isnull', False)), fields=('ref', 'person'), name='one_session_per_ref'),
        ),
    ]
