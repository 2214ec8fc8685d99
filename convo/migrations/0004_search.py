# Begun by Django 5.2.19 on 2026-11-21 13:25

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


# Every word is indexed twice, behind the two places where a search may meet it: `p12.cat o5f….cat`. So each
# person has a vocabulary of their own: nobody else's words cost them time, or tell them anything.
# The words are ours, whole: neither database is to split or stem them again.
TEXT = "trim({row}words || ' ' || {row}asked) || ' ' || {row}days"
TERMS = "replace(' ' || {text}, ' ', ' ' || {row}place || '.') || replace(' ' || {text}, ' ', ' ' || {row}wide || '.')"


def terms(row=''):
    return TERMS.format(row=row, text='trim(' + TEXT.format(row=row) + ')')


# A table that keeps no text: to take a row out, it is told again what was in it. The triggers see every way
# in which a row may go. A later migration that makes SQLite rebuild convo_indexedmessage drops them: it has
# to make them again.
SQLITE = [
    "CREATE VIRTUAL TABLE convo_terms USING fts5(terms, content='', detail=none, columnsize=0, "
    "tokenize=\"ascii tokenchars '._'\")",
    f"CREATE TRIGGER convo_terms_in AFTER INSERT ON convo_indexedmessage BEGIN "
    f"INSERT INTO convo_terms(rowid, terms) VALUES (new.message_id, {terms('new.')}); END",
    f"CREATE TRIGGER convo_terms_out AFTER DELETE ON convo_indexedmessage BEGIN "
    f"INSERT INTO convo_terms(convo_terms, rowid, terms) VALUES ('delete', old.message_id, {terms('old.')}); END",
    f"CREATE TRIGGER convo_terms_anew AFTER UPDATE OF words, asked, days, place, wide ON convo_indexedmessage BEGIN "
    f"INSERT INTO convo_terms(convo_terms, rowid, terms) VALUES ('delete', old.message_id, {terms('old.')}); "
    f"INSERT INTO convo_terms(rowid, terms) VALUES (new.message_id, {terms('new.')}); END",
]
POSTGRESQL = [
    f"ALTER TABLE convo_indexedmessage ADD COLUMN terms tsvector GENERATED ALWAYS AS "
    f"(array_to_tsvector(array_remove(string_to_array({terms()}, ' '), ''))) STORED",
    # Without its list of pending entries every search costs the same, also during a long import.
    "CREATE INDEX convo_terms ON convo_indexedmessage USING gin (terms) WITH (fastupdate = off)",
]
MAKE = {'sqlite': SQLITE, 'postgresql': POSTGRESQL}
# On PostgreSQL the column goes with its table.
DROP = {'sqlite': ['DROP TABLE IF EXISTS convo_terms'], 'postgresql': []}


def make(apps, editor):
    for statement in MAKE[editor.connection.vendor]:
        editor.execute(statement)


def drop(apps, editor):
    for statement in DROP[editor.connection.vendor]:
        editor.execute(statement)


class Migration(migrations.Migration):

    dependencies = [
        ('convo', '0003_work'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='IndexedMemory',
            fields=[
                ('memory', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='indexed', serialize=False, to='convo.usermemory')),
                ('text_key', models.CharField(help_text='Of the text that was indexed.', max_length=64)),
                ('words', models.TextField(blank=True)),
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
                ('place', models.CharField(help_text="Where search meets it: a person, or nobody's session.", max_length=40)),
                ('wide', models.CharField(help_text="Where search meets it that asks for all of an owner's.", max_length=40)),
                ('words', models.TextField(blank=True, help_text='What it states, stemmed.')),
                ('asked', models.TextField(blank=True, help_text='What it asks of the other, stemmed.')),
                ('days', models.TextField(blank=True, help_text='Days and months that it is from, or speaks of.')),
                ('vector', models.BinaryField(null=True)),
                ('model', models.CharField(blank=True, max_length=100)),
                ('dim', models.PositiveSmallIntegerField(default=0)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('person', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='convo.person')),
                ('session', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='convo.session')),
            ],
            options={
                'indexes': [models.Index(fields=['session', 'position'], name='indexed_by_position'), models.Index(condition=models.Q(('vector__isnull', True)), fields=['message'], name='indexed_without_vector')],
            },
        ),
        migrations.RunPython(make, drop),
    ]
