"""Run statements that are written by hand, and read their rows as instances of models."""

from collections.abc import Callable, Collection, Sequence
from functools import cache, cached_property, lru_cache
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connection, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import AutoField, Field, Model
from django.db.models.base import ModelState
from django.db.models.sql import Query

M = TypeVar("M", bound=Model)
# A statement or an expression, and the values of its placeholders.
Sql = tuple[str, Sequence[Any]]
# Fields that store values of these types as they are; they take 0.1 ms to return twenty of them.
_PLAIN_FIELDS = {
    *(models.CharField, models.TextField, models.BooleanField, models.IntegerField),
    *(models.PositiveSmallIntegerField, models.PositiveIntegerField, models.PositiveBigIntegerField),
}
Converter = tuple[int, Callable[..., object], object]


def execute(sql: str, values: Sequence[Any] = ()) -> None:
    """Run a statement that returns no rows."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


def fetch_all(sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run a statement that returns rows, such as a SELECT or one with RETURNING, and return them."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())


def fetch_one(sql: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
    return next(iter(fetch_all(sql, values)), None)


class Columns(Generic[M]):
    """The columns of a model's own table, and the instances that their values make.

    Columns that are not read, such as those of a parent's table, are loaded once they are needed.
    """

    def __init__(self, model: type[M], *names: str) -> None:
        self._model, self._names = model, names

    @cached_property
    def _fields(self) -> "Sequence[Field[Any, Any]]":
        # A proxy has no fields of its own.
        concrete_model: Any = self._model._meta.concrete_model
        fields = concrete_model._meta.local_concrete_fields
        return [field for field in fields if not self._names or field.name in self._names]

    @cached_property
    def _attribute_names(self) -> list[str]:
        return [field.attname for field in self._fields]

    def __len__(self) -> int:
        return len(self._fields)

    def sql(self, table: str) -> str:
        """Return the columns for a SELECT in which the table has this name."""
        return ", ".join(f'{table}."{field.column}"' for field in self._fields)

    def instance(self, values: Sequence[object]) -> M:
        """Build the instance that the ORM would build from these values of the columns."""
        converted = list(values)
        for index, convert, column in self._converters:
            converted[index] = convert(converted[index], column, connection)
        if self._model._meta.app_label != "convo":
            return self._model.from_db(DEFAULT_DB_ALIAS, self._attribute_names, converted)
        # Without `__init__`, its signals and its descriptors: they took a tenth of the CPU of a history page.
        row = self._model.__new__(self._model)
        row.__dict__ = dict(zip(self._attribute_names, converted, strict=True))
        row._state = ModelState()
        row._state.adding, row._state.db = False, DEFAULT_DB_ALIAS
        return row

    @cached_property
    def _converters(self) -> Sequence[Converter]:
        """The ORM's own converters for the database of this process, each with the index of its column."""
        columns = [field.get_col(field.model._meta.db_table) for field in self._fields]
        return [
            (index, convert, column)
            for index, column in enumerate(columns)
            for convert in (*connection.ops.get_db_converters(column), *column.get_db_converters(connection))
        ]


def placeholders(values: Collection[object]) -> str:
    """Return the placeholders of these values, for `IN (…)`."""
    return ", ".join(["%s"] * len(values))


def db_value(model: type[Model], name: str, value: object) -> Any:
    """Return the value of this field as the database takes it; SQLite, for one, has no UUIDs."""
    field: Any = model._meta.get_field(name)
    return field.get_db_prep_save(value, connection)


def insert_sql(rows: Sequence[Model], **expressions: Sql) -> Sql:
    """Return the SQL that inserts new rows of one model, with SQL expressions for some of their fields."""
    model, database = type(rows[0]), connections[connection.alias]
    fields, insert = _insert_of(model)
    tuples: list[str] = []
    values: list[object] = []
    for row in rows:
        parts = [
            expressions.get(field.name) or _value_sql(field, getattr(row, field.attname), database)
            for field in fields
        ]
        tuples.append(f"({', '.join(sql for sql, _ in parts)})")
        values += [value for _, part_values in parts for value in part_values]
    return f"{insert} VALUES {', '.join(tuples)}", values


@cache
def _insert_of(model: type[Model]) -> "tuple[Sequence[Field[Any, Any]], str]":
    fields = [field for field in model._meta.local_concrete_fields if not isinstance(field, AutoField)]
    columns = ", ".join(f'"{field.column}"' for field in fields)
    return fields, f"INSERT INTO {model._meta.db_table} ({columns})"


def _value_sql(field: Any, value: Any, database: BaseDatabaseWrapper) -> Sql:
    # psycopg keeps a statement that it has parsed only if it has at most 50 parameters.
    if value is None:
        return "NULL", ()
    if hasattr(value, "resolve_expression"):
        return _expression_sql(value, field.model, database.vendor)
    if type(value) in (str, int, bool) and type(field) in _PLAIN_FIELDS:
        return ("''", ()) if value == "" else ("%s", (value,))
    return "%s", (field.get_db_prep_save(value, database),)


@lru_cache(maxsize=64)
def _expression_sql(expression: Any, model: type[Model], vendor: str) -> Sql:
    """Return the SQL of a time by the database's clock: compiling it takes as long as sending it."""
    compiler = Query(model).get_compiler(connection=connection)
    sql, values = compiler.compile(expression.resolve_expression(compiler.query, for_save=True))
    return sql, values
