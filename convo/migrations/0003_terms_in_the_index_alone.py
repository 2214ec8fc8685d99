from django.db import migrations

# PostgreSQL kept the terms of a message twice: in a generated column, which was half of the table, and in the
# index over it. The index can compute them itself. The function is in PL/pgSQL because the planner would expand
# one in SQL anew for each of the words that a search looks up.
_TEXT = "trim(trim(statement_terms || ' ' || question_terms) || ' ' || date_terms)"
_TERMS = (
    f"replace(' ' || {_TEXT}, ' ', ' ' || scope_key || '.') || "
    f"replace(' ' || {_TEXT}, ' ', ' ' || owner_key || '.')"
)
_VECTOR = f"array_to_tsvector(array_remove(string_to_array({_TERMS}, ' '), ''))"
_COLUMNS = ('statement_terms', 'question_terms', 'date_terms', 'scope_key', 'owner_key')
_OPTIONS = 'WITH (fastupdate = on, gin_pending_list_limit = 128)'
_FORWARDS = [
    f"CREATE FUNCTION convo_index_terms({', '.join(f'{name} text' for name in _COLUMNS)}) RETURNS tsvector "
    f'LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$ BEGIN RETURN {_VECTOR}; END $$',
    'DROP INDEX convo_terms',
    'ALTER TABLE convo_indexedmessage DROP COLUMN terms',
    'CREATE INDEX convo_terms ON convo_indexedmessage '
    f"USING gin (convo_index_terms({', '.join(_COLUMNS)})) {_OPTIONS}",
]
_BACKWARDS = [
    'DROP INDEX convo_terms',
    'DROP FUNCTION convo_index_terms',
    f'ALTER TABLE convo_indexedmessage ADD COLUMN terms tsvector GENERATED ALWAYS AS ({_VECTOR}) STORED',
    f'CREATE INDEX convo_terms ON convo_indexedmessage USING gin (terms) {_OPTIONS}',
]


def _run(schema_editor, statements):
    # SQLite's text index holds no text.
    if schema_editor.connection.vendor == 'postgresql':
        for statement in statements:
            schema_editor.execute(statement)


def move_terms(apps, schema_editor):
    _run(schema_editor, _FORWARDS)


def bring_terms_back(apps, schema_editor):
    _run(schema_editor, _BACKWARDS)


class Migration(migrations.Migration):

    dependencies = [
        ('convo', '0002_fewer_indexes'),
    ]

    operations = [
        migrations.RunPython(move_terms, bring_terms_back),
    ]
