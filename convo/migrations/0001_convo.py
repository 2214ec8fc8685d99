# Begun with makemigrations of Django 5.2 on 2026-11-30; the text index of search was added by hand.

import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.datetime
import django.utils.timezone
import uuid
from django.conf import settings
from django.db import migrations, models


# The text index of search. Each term of a message is indexed twice, behind the two keys under which a search
# looks: `p12.cat o5f….cat`. So each person has a vocabulary of their own: other people's words cost a search no
# time, and their number tells nothing. Convo has split and stemmed the terms; the databases must not do it again.
_TEXT = "trim(trim({row}statement_terms || ' ' || {row}question_terms) || ' ' || {row}date_terms)"
_TERMS = (
    "replace(' ' || {text}, ' ', ' ' || {row}scope_key || '.') || "
    "replace(' ' || {text}, ' ', ' ' || {row}owner_key || '.')"
)


def _terms(row=''):
    return _TERMS.format(row=row, text=_TEXT.format(row=row))


# SQLite's table stores no text: to remove a row, the trigger must pass what the row contained. The triggers see
# every way in which a row may be deleted. SQLite drops them when a migration rebuilds convo_indexedmessage, so
# that migration has to create them again.
_REMOVE_OLD = (
    "INSERT INTO convo_terms(convo_terms, rowid, terms) "
    f"VALUES ('delete', old.message_id, {_terms('old.')})"
)
_ADD_NEW = f"INSERT INTO convo_terms(rowid, terms) VALUES (new.message_id, {_terms('new.')})"
_COLUMNS = "statement_terms, question_terms, date_terms, scope_key, owner_key"
_SQLITE = [
    "CREATE VIRTUAL TABLE convo_terms USING fts5(terms, content='', detail=none, columnsize=0, "
    "tokenize=\"ascii tokenchars '._'\")",
    f"CREATE TRIGGER convo_terms_insert AFTER INSERT ON convo_indexedmessage BEGIN {_ADD_NEW}; END",
    f"CREATE TRIGGER convo_terms_delete AFTER DELETE ON convo_indexedmessage BEGIN {_REMOVE_OLD}; END",
    f"CREATE TRIGGER convo_terms_update AFTER UPDATE OF {_COLUMNS} ON convo_indexedmessage "
    f"BEGIN {_REMOVE_OLD}; {_ADD_NEW}; END",
]
# PostgreSQL puts new entries into a list beside the index, and into the index when the list is full, which makes
# writing three times as fast. Every search reads the list, so it must be short: at 128 kB searches take as long as
# without it, at the default of 4 MB more than twice as long (docs/explanation/search.md).
_POSTGRESQL = [
    "ALTER TABLE convo_indexedmessage ADD COLUMN terms tsvector GENERATED ALWAYS AS "
    f"(array_to_tsvector(array_remove(string_to_array({_terms()}, ' '), ''))) STORED",
    "CREATE INDEX convo_terms ON convo_indexedmessage USING gin (terms) "
    "WITH (fastupdate = on, gin_pending_list_limit = 128)",
]
_CREATE = {'sqlite': _SQLITE, 'postgresql': _POSTGRESQL}
# On PostgreSQL the column is dropped with its table.
_DROP = {'sqlite': ['DROP TABLE IF EXISTS convo_terms'], 'postgresql': []}


def create_text_index(apps, schema_editor):
    for statement in _CREATE[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


def drop_text_index(apps, schema_editor):
    for statement in _DROP[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='AgentVersion',
            fields=[
                ('sha256', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=100)),
                ('config', models.JSONField()),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
            ],
        ),
        migrations.CreateModel(
            name='Guest',
            fields=[
                ('user', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='convo_guest', serialize=False, to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name='Person',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('ref', models.CharField(blank=True, help_text="Empty: nobody in particular; 'me': the owner.", max_length=255)),
                ('epoch', models.PositiveIntegerField(default=0, help_text='Rises when something about them is forgotten.')),
                ('never_store', models.JSONField(blank=True, default=list, help_text='What must never be remembered.')),
                ('owner', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='convo_people', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name_plural': 'people',
            },
        ),
        migrations.CreateModel(
            name='Turn',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('number', models.PositiveIntegerField()),
                ('kind', models.CharField(choices=[('reply', 'Reply'), ('recorded', 'Recorded')], default='reply', max_length=8)),
                ('status', models.CharField(choices=[('queued', 'Queued'), ('running', 'Running'), ('complete', 'Complete'), ('partial', 'Partial'), ('failed', 'Failed'), ('cancelled', 'Cancelled')], max_length=9)),
                ('agent', models.CharField(max_length=100)),
                ('model', models.CharField(blank=True, max_length=200)),
                ('route_reason', models.CharField(blank=True, max_length=200)),
                ('input', models.JSONField(blank=True, default=list, help_text='The question of a queued turn.')),
                ('epoch', models.PositiveIntegerField(default=0, help_text="The session's epoch when this turn began.")),
                ('draft', models.TextField(blank=True, help_text='The reply so far; its rows are written once, at the end.')),
                ('chunks', models.JSONField(blank=True, default=list, help_text='Each item of the reply: its kind, and the lengths of its chunks.')),
                ('error', models.JSONField(blank=True, null=True)),
                ('manifest', models.JSONField(blank=True, help_text='The parts of the prompt, with reasons; no text.', null=True)),
                ('gist', models.TextField(blank=True)),
                ('input_tokens', models.PositiveIntegerField(blank=True, null=True)),
                ('output_tokens', models.PositiveIntegerField(blank=True, null=True)),
                ('cached_tokens', models.PositiveIntegerField(blank=True, null=True)),
                ('cache_hit', models.BooleanField(blank=True, help_text='Whether the cache had the newest messages. Null: it was not read.', null=True)),
                ('cost', models.DecimalField(blank=True, decimal_places=6, max_digits=12, null=True)),
                ('worker', models.CharField(blank=True, max_length=100)),
                ('lease_until', models.DateTimeField(blank=True, null=True)),
                ('cancel_requested', models.BooleanField(default=False)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('first_token_at', models.DateTimeField(blank=True, null=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('indexed_at', models.DateTimeField(blank=True, null=True)),
                ('learned_at', models.DateTimeField(blank=True, null=True)),
                ('agent_version', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, to='convo.agentversion')),
                ('parent', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='children', to='convo.turn')),
                ('question_turn', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='answers', to='convo.turn')),
            ],
        ),
        migrations.CreateModel(
            name='UsageDay',
            fields=[
                ('day', models.DateField(primary_key=True, serialize=False)),
            ],
        ),
        migrations.CreateModel(
            name='ApiKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('prefix', models.CharField(max_length=12, unique=True)),
                ('hash', models.CharField(max_length=64)),
                ('scopes', models.JSONField(default=list)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('revoked_at', models.DateTimeField(blank=True, null=True)),
                ('last_used_at', models.DateTimeField(blank=True, null=True)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='convo_keys', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name='UserMemory',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('kind', models.CharField(max_length=40)),
                ('slot', models.CharField(blank=True, max_length=80, null=True)),
                ('text', models.TextField()),
                ('text_key', models.CharField(help_text='Keyed hash of the normalised text.', max_length=64)),
                ('confidence', models.FloatField(default=1.0)),
                ('status', models.CharField(choices=[('active', 'Active'), ('needs_review', 'Needs Review'), ('superseded', 'Superseded'), ('forgotten', 'Forgotten')], default='active', max_length=12)),
                ('pinned', models.BooleanField(default=False)),
                ('valid_from', models.DateTimeField(default=django.utils.timezone.now)),
                ('valid_to', models.DateTimeField(blank=True, null=True)),
                ('source', models.CharField(choices=[('model', 'Model'), ('pattern', 'Pattern'), ('user', 'User')], max_length=7)),
                ('superseded_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='supersedes', to='convo.usermemory')),
                ('person', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='memories', to='convo.person')),
            ],
            options={
                'verbose_name_plural': 'user memories',
                'permissions': [('erase_usermemory', 'Can forget many memories at once')],
            },
        ),
        migrations.CreateModel(
            name='Attachment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('sha256', models.CharField(max_length=64)),
                ('mime', models.CharField(max_length=100)),
                ('size', models.PositiveBigIntegerField()),
                ('data', models.BinaryField()),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('person', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='attachments', to='convo.person')),
            ],
        ),
        migrations.CreateModel(
            name='Session',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('conversation', 'Conversation'), ('chain', 'Chain')], default='conversation', max_length=12)),
                ('storage', models.CharField(choices=[('persistent', 'Persistent'), ('ephemeral', 'Ephemeral'), ('none', 'None')], default='persistent', max_length=10)),
                ('ref', models.CharField(blank=True, max_length=255, null=True)),
                ('agent', models.CharField(max_length=100)),
                ('title', models.TextField(blank=True)),
                ('title_turn', models.PositiveIntegerField(blank=True, help_text='The number of the turn it was learned from; null: a person set it.', null=True)),
                ('metadata', models.JSONField(blank=True, default=dict)),
                ('state', models.CharField(choices=[('open', 'Open'), ('archived', 'Archived'), ('closed', 'Closed'), ('deleted', 'Deleted')], default='open', max_length=8)),
                ('state_before', models.CharField(blank=True, choices=[('open', 'Open'), ('archived', 'Archived'), ('closed', 'Closed'), ('deleted', 'Deleted')], editable=False, help_text='Before it was deleted.', max_length=8, null=True)),
                ('epoch', models.PositiveIntegerField(default=0, help_text='Rises at every change that is not an append.')),
                ('base_position', models.PositiveBigIntegerField(default=0)),
                ('last_position', models.PositiveBigIntegerField(default=0)),
                ('last_turn', models.PositiveIntegerField(default=0)),
                ('message_count', models.PositiveBigIntegerField(default=0)),
                ('turn_count', models.PositiveIntegerField(default=0)),
                ('token_count', models.PositiveBigIntegerField(default=0)),
                ('fork_position', models.PositiveBigIntegerField(blank=True, null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('last_activity', models.DateTimeField(default=django.utils.timezone.now)),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('summary_due', models.BooleanField(default=False)),
                ('checked_version', models.PositiveBigIntegerField(default=0, help_text='epoch + last_position at the check; both of them only rise.')),
                ('checked_rules', models.CharField(blank=True, help_text="Hash of the agents' summary rules at the check.", max_length=16)),
                ('forked_from', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='forks', to='convo.session')),
                ('owner', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='convo_sessions', to=settings.AUTH_USER_MODEL)),
                ('person', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='sessions', to='convo.person')),
            ],
        ),
        migrations.CreateModel(
            name='Summary',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('thread', models.CharField(blank=True, max_length=100)),
                ('from_position', models.PositiveBigIntegerField()),
                ('to_position', models.PositiveBigIntegerField()),
                ('text', models.TextField()),
                ('source', models.CharField(choices=[('model', 'Model'), ('extractive', 'Extractive')], max_length=10)),
                ('model', models.CharField(blank=True, max_length=200)),
                ('prompt_version', models.CharField(blank=True, max_length=20)),
                ('tokens', models.PositiveIntegerField(default=0)),
                ('stale', models.BooleanField(default=False, help_text='A message in its range has changed since.')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('previous', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='next', to='convo.summary')),
                ('session', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='summaries', to='convo.session')),
            ],
            options={
                'verbose_name_plural': 'summaries',
            },
        ),
        migrations.CreateModel(
            name='TurnRequest',
            fields=[
                ('turn', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='request', serialize=False, to='convo.turn')),
                ('surface', models.CharField(choices=[('response', 'Response'), ('chat.completion', 'Completion')], default='response', max_length=15)),
                ('params', models.JSONField(blank=True, default=dict, help_text="The request's own fields, as given.")),
                ('metadata', models.JSONField(blank=True, default=dict)),
                ('options', models.JSONField(blank=True, default=dict, help_text="The options for the turn's runner.")),
                ('background', models.BooleanField(default=False)),
                ('attempts', models.PositiveSmallIntegerField(default=0, help_text='How often the turn was started again.')),
                ('is_stored', models.BooleanField(default=True, help_text='False if `store` was false, or once deleted.')),
            ],
        ),
        migrations.AddField(
            model_name='turn',
            name='session',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='turns', to='convo.session'),
        ),
        migrations.CreateModel(
            name='Message',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveBigIntegerField()),
                ('thread', models.CharField(blank=True, help_text='Empty: shared by all agents.', max_length=100)),
                ('item_id', models.CharField(max_length=80)),
                ('type', models.CharField(default='message', max_length=40)),
                ('role', models.CharField(choices=[('user', 'User'), ('assistant', 'Assistant'), ('tool', 'Tool'), ('system', 'System'), ('developer', 'Developer')], max_length=9)),
                ('name', models.CharField(blank=True, max_length=200)),
                ('agent', models.CharField(blank=True, max_length=100)),
                ('content', models.TextField(blank=True)),
                ('item', models.JSONField(blank=True, help_text='The item verbatim, when it is not plain text.', null=True)),
                ('tokens', models.PositiveIntegerField(default=0)),
                ('active', models.BooleanField(default=True, help_text='On the branch that is shown.')),
                ('recallable', models.BooleanField(default=True)),
                ('erased_at', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('session', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='messages', to='convo.session')),
                ('turn', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='messages', to='convo.turn')),
            ],
            options={
                'permissions': [('view_content', 'Can read what people said')],
            },
        ),
        migrations.CreateModel(
            name='IdempotencyRecord',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('person', models.CharField(blank=True, help_text="The end user named; '' when none was.", max_length=255)),
                ('key', models.CharField(max_length=255)),
                ('fingerprint', models.CharField(help_text='Hash of method, path and body.', max_length=64)),
                ('status', models.PositiveSmallIntegerField(blank=True, null=True)),
                ('body', models.JSONField(blank=True, null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('owner', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='convo_idempotency_records', to=settings.AUTH_USER_MODEL)),
                ('turn', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='idempotency_records', to='convo.turn')),
            ],
        ),
        migrations.CreateModel(
            name='Feedback',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('value', models.SmallIntegerField(choices=[(1, 'up'), (-1, 'down')])),
                ('note', models.TextField(blank=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('turn', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='feedback', to='convo.turn')),
            ],
            options={
                'verbose_name_plural': 'feedback',
            },
        ),
        migrations.CreateModel(
            name='DailyUsage',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('agent', models.CharField(max_length=100)),
                ('model', models.CharField(blank=True, max_length=200)),
                ('sums', models.JSONField(help_text='Numbers that can be added up; see convo/usage/figures.py.')),
                ('owner', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('day', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='usage_rows', to='convo.usageday')),
            ],
            options={
                'verbose_name_plural': 'daily usage',
            },
        ),
        migrations.CreateModel(
            name='Work',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(max_length=40)),
                ('target', models.CharField(help_text='The primary key of the row that it is about.', max_length=40)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('next_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('holder', models.CharField(blank=True, help_text='Names the attempt that has the lease.', max_length=32)),
                ('lease_until', models.DateTimeField(blank=True, null=True)),
                ('error', models.TextField(blank=True)),
                ('state', models.CharField(choices=[('todo', 'Todo'), ('dead', 'Dead')], default='todo', max_length=4)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                'verbose_name_plural': 'work',
                'indexes': [models.Index(condition=models.Q(('state', 'todo')), fields=['next_at'], name='work_due')],
                'constraints': [models.UniqueConstraint(fields=('kind', 'target'), name='one_work_per_target')],
            },
        ),
        migrations.CreateModel(
            name='IndexedMemory',
            fields=[
                ('memory', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='indexed', serialize=False, to='convo.usermemory')),
                ('text_key', models.CharField(help_text='The text_key of the memory when it was indexed.', max_length=64)),
                ('terms', models.TextField(blank=True, help_text='The stemmed words of its text.')),
                ('vector', models.BinaryField(null=True)),
                ('model', models.CharField(blank=True, max_length=100)),
                ('dim', models.PositiveSmallIntegerField(default=0)),
                ('person', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='convo.person')),
            ],
            options={
                'verbose_name_plural': 'indexed memories',
            },
        ),
        migrations.CreateModel(
            name='IndexedMessage',
            fields=[
                ('message', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='indexed', serialize=False, to='convo.message')),
                ('position', models.PositiveBigIntegerField()),
                ('scope_key', models.CharField(help_text='The person, or for nobody the session.', max_length=40)),
                ('owner_key', models.CharField(help_text="A hash of the owner's primary key.", max_length=40)),
                ('statement_terms', models.TextField(blank=True, help_text='The stemmed words of its statements.')),
                ('question_terms', models.TextField(blank=True, help_text='The stemmed words of its questions.')),
                ('date_terms', models.TextField(blank=True, help_text='The days and months of its date and in its text.')),
                ('vector', models.BinaryField(null=True)),
                ('model', models.CharField(blank=True, max_length=100)),
                ('dim', models.PositiveSmallIntegerField(default=0)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('person', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='convo.person')),
                ('session', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='convo.session')),
            ],
        ),
        migrations.CreateModel(
            name='Evidence',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('memory', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='evidence', to='convo.usermemory')),
                ('message', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='evidence', to='convo.message')),
            ],
            options={
                'verbose_name_plural': 'evidence',
                'constraints': [models.UniqueConstraint(fields=('memory', 'message'), name='one_evidence_per_message')],
            },
        ),
        migrations.CreateModel(
            name='AttachmentUse',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('attachment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='uses', to='convo.attachment')),
                ('message', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='attachment_uses', to='convo.message')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('message', 'attachment'), name='one_use_per_attachment')],
            },
        ),
        migrations.AddIndex(
            model_name='usermemory',
            index=models.Index(condition=models.Q(('status', 'needs_review')), fields=['-id'], name='memory_to_review'),
        ),
        migrations.AddConstraint(
            model_name='usermemory',
            constraint=models.UniqueConstraint(condition=models.Q(('status', 'superseded'), _negated=True), fields=('person', 'text_key'), name='one_memory_per_text'),
        ),
        migrations.AddConstraint(
            model_name='usermemory',
            constraint=models.UniqueConstraint(condition=models.Q(('slot__isnull', False), ('status', 'active')), fields=('person', 'slot'), name='one_active_memory_per_slot'),
        ),
        migrations.AddIndex(
            model_name='person',
            index=models.Index(fields=['ref'], name='person_by_ref'),
        ),
        migrations.AddConstraint(
            model_name='person',
            constraint=models.UniqueConstraint(fields=('owner', 'ref'), name='one_person_per_ref'),
        ),
        migrations.AddConstraint(
            model_name='attachment',
            constraint=models.UniqueConstraint(fields=('person', 'sha256', 'mime'), name='one_attachment_per_content'),
        ),
        migrations.AddIndex(
            model_name='session',
            index=models.Index(fields=['owner', 'kind', '-last_activity', 'id'], name='session_by_owner'),
        ),
        migrations.AddIndex(
            model_name='session',
            index=models.Index(fields=['person', 'kind', '-last_activity', 'id'], name='session_by_person'),
        ),
        migrations.AddIndex(
            model_name='session',
            index=models.Index(condition=models.Q(('expires_at__isnull', False)), fields=['expires_at'], name='session_expiring'),
        ),
        migrations.AddIndex(
            model_name='session',
            index=models.Index(condition=models.Q(('state_before__isnull', False)), fields=['owner'], name='session_discarded'),
        ),
        migrations.AddIndex(
            model_name='session',
            index=models.Index(condition=models.Q(('summary_due', True)), fields=['last_activity'], name='session_due'),
        ),
        migrations.AddIndex(
            model_name='session',
            index=models.Index(condition=models.Q(('checked_version__lt', django.db.models.expressions.CombinedExpression(models.F('epoch'), '+', models.F('last_position')))), fields=['id'], name='session_unchecked'),
        ),
        migrations.AddIndex(
            model_name='session',
            index=models.Index(fields=['checked_rules'], name='session_by_rules'),
        ),
        migrations.AddIndex(
            model_name='session',
            index=models.Index(fields=['-last_activity', '-id'], name='session_newest'),
        ),
        migrations.AddIndex(
            model_name='session',
            index=models.Index(condition=models.Q(('ref__isnull', False)), fields=['ref'], name='session_by_ref'),
        ),
        migrations.AddConstraint(
            model_name='session',
            constraint=models.UniqueConstraint(condition=models.Q(('ref__isnull', False)), fields=('person', 'ref'), name='one_session_per_ref'),
        ),
        migrations.AddConstraint(
            model_name='session',
            constraint=models.CheckConstraint(condition=models.Q(('base_position__lte', models.F('last_position'))), name='session_base_not_past_last'),
        ),
        migrations.AddConstraint(
            model_name='session',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('expires_at__isnull', False), ('state', 'deleted'), ('state_before__isnull', False)), models.Q(models.Q(('state', 'deleted'), _negated=True), ('state_before__isnull', True)), _connector='OR'), name='session_deleted_for_a_while'),
        ),
        migrations.AddConstraint(
            model_name='summary',
            constraint=models.UniqueConstraint(condition=models.Q(('stale', False)), fields=('session', 'thread', 'to_position'), name='one_fresh_summary_per_end'),
        ),
        migrations.AddConstraint(
            model_name='summary',
            constraint=models.CheckConstraint(condition=models.Q(('from_position__lte', models.F('to_position'))), name='summary_range_in_order'),
        ),
        migrations.AddIndex(
            model_name='turn',
            index=models.Index(condition=models.Q(('status__in', ['queued', 'running'])), fields=['lease_until'], name='turn_leases'),
        ),
        migrations.AddIndex(
            model_name='turn',
            index=models.Index(fields=['session', 'parent'], name='turn_children'),
        ),
        migrations.AddIndex(
            model_name='turn',
            index=models.Index(condition=models.Q(('status', 'queued')), fields=['session', 'id'], name='turn_queue'),
        ),
        migrations.AddIndex(
            model_name='turn',
            index=models.Index(condition=models.Q(('indexed_at__isnull', True)), fields=['id'], name='turn_unindexed'),
        ),
        migrations.AddIndex(
            model_name='turn',
            index=models.Index(condition=models.Q(('learned_at__isnull', True)), fields=['id'], name='turn_unlearned'),
        ),
        migrations.AddIndex(
            model_name='turn',
            index=models.Index(condition=models.Q(('started_at__isnull', False)), fields=['started_at'], name='turn_by_beginning'),
        ),
        migrations.AddConstraint(
            model_name='turn',
            constraint=models.UniqueConstraint(fields=('session', 'number'), name='one_turn_per_number'),
        ),
        migrations.AddConstraint(
            model_name='turn',
            constraint=models.UniqueConstraint(condition=models.Q(('status', 'running')), fields=('session',), name='one_running_turn_per_session'),
        ),
        migrations.AddConstraint(
            model_name='turn',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('status', 'running'), _negated=True), ('lease_until__isnull', False), _connector='OR'), name='running_turn_has_lease'),
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(fields=['item_id'], name='message_by_item_id'),
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(condition=models.Q(('active', True)), fields=['session', 'thread', 'position'], name='message_transcript'),
        ),
        migrations.AddConstraint(
            model_name='message',
            constraint=models.UniqueConstraint(fields=('session', 'position'), name='one_message_per_position'),
        ),
        migrations.AddConstraint(
            model_name='message',
            constraint=models.UniqueConstraint(fields=('session', 'item_id'), name='one_message_per_item_id'),
        ),
        migrations.AddIndex(
            model_name='idempotencyrecord',
            index=models.Index(fields=['created_at'], name='idempotency_age'),
        ),
        migrations.AddConstraint(
            model_name='idempotencyrecord',
            constraint=models.UniqueConstraint(fields=('owner', 'person', 'key'), name='one_write_per_idempotency_key'),
        ),
        migrations.AddIndex(
            model_name='feedback',
            index=models.Index(fields=['-created_at'], name='feedback_newest'),
        ),
        migrations.AddIndex(
            model_name='dailyusage',
            index=models.Index(fields=['owner', 'day'], name='usage_by_owner'),
        ),
        migrations.AddIndex(
            model_name='indexedmessage',
            index=models.Index(fields=['session', 'position'], name='indexed_by_position'),
        ),
        migrations.AddIndex(
            model_name='indexedmessage',
            index=models.Index(condition=models.Q(('vector__isnull', True)), fields=['message'], name='indexed_without_vector'),
        ),
        migrations.RunPython(create_text_index, drop_text_index),
    ]
