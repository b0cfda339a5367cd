"""Writes what is generated of the typed readers, and the JSON Schemas of the payloads: ``make docs``.

The readers come from one description of the migrated database, the schemas from the types of the payloads.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from receiver.events.catalogue import EVENT_FLAGS
from receiver.events.kinds import payload_type
from receiver.readers.relations import OF_TRANSACTION, Column, Relation, relations
from receiver.records.write import ChangeReason
from receiver.sandbox.local import local_servers

if TYPE_CHECKING:
    from sqlalchemy import Connection

ROOT: Final = Path(__file__).parent.parent
PYTHON: Final = Path("clients/python/opencard_ems")
TYPESCRIPT: Final = Path("clients/typescript/src")
SCHEMAS: Final = Path("docs/ems/schemas")
TYPES: Final = {
    "text": ("str", "string"),
    "text[]": ("list[str]", "string[]"),
    "smallint": ("int", "number"),
    "integer": ("int", "number"),
    "bigint": ("int", "bigint"),
    "numeric": ("Decimal", "string"),
    "boolean": ("bool", "boolean"),
    "date": ("date", "string"),
    "time without time zone": ("time", "string"),
    "timestamp with time zone": ("datetime", "Date"),
    "interval": ("timedelta", "string"),
    "jsonb": ("dict[str, Any]", "JsonObject"),
    "bytea": ("bytes", "Buffer"),
}
"""The type in PostgreSQL → in Python and in TypeScript."""
TO_TRANSACTION: Final = ("transaction_id", "Transaction.id")
TO_CARD_HOLDER: Final = ("card_holder_reference_id", "CardHolder.reference_id")
"""The column of a row, and what it names; within an organization."""
DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
CHANGED: Final = {
    "$schema": DRAFT,
    "title": "receiver.changed",
    "description": "Payload of receiver.changed: rows may have changed although OpenCard sent nothing new.",
    "type": "object",
    "properties": {
        "reason": {
            "description": "Why; docs/ems/feed.md explains each. A later release may add reasons.",
            "type": "string",
            "examples": [reason.value for reason in ChangeReason],
        },
        "tables": {
            "description": "Tables of schema ems whose rows of this subject may have changed.",
            "type": "array",
            "items": {"type": "string"},
        },
    },
    "required": ["reason", "tables"],
}
AS_SENT: Final = "In major units, sign as sent (not documented by OpenCard)."
WITH_VAT: Final = "whether VAT is included is not documented by OpenCard."
FIELDS: Final = {
    "original_amount": f"Amount in original_currency. {AS_SENT}",
    "accounting_amount": f"Amount in accounting_currency, the customer's home currency. {AS_SENT}",
    "exchange_rate": "Rate between original and accounting amount; its direction is not documented by OpenCard.",
    "vat_rate": "VAT rate from the card network; percent (25) or fraction (0.25): not documented by OpenCard.",
    "vat_amount": f"VAT. {AS_SENT}",
    "taxable_amount": f"Amount without VAT. {AS_SENT}",
    "total_amount": f"Amount of the line or rate. {AS_SENT}",
    "percentage": "Rate in percent (25 means 25 %).",
    "amount": f"Price of one unit, or of the whole line of a weighed good; {WITH_VAT} {AS_SENT}",
    "quantity": "How many, or how much; may be a fraction.",
    "invoice_amount": f"Amount of the invoice in invoice_currency. {AS_SENT}",
    "carbon_emission_in_grams": "Emission in grams of CO2.",
    "carbon_social_cost_amount": "Social cost in major units of carbon_social_cost_currency.",
    "purchase_date": "Day of the purchase in its own zone (YYYY-MM-DD).",
    "purchase_time": "Time of day of the purchase in its own zone (HH:MM:SS).",
    "expiration_time": "Expiry time of url (YYYY-MM-DD HH:MM:SS); OpenCard names no zone, read as UTC.",
    "receiptable": "Whether a partner of OpenCard has a digital receipt (its older documentation: may have one).",
    "card_issuer_reference": "The issuer's reference of this state; differs between states, not unique.",
}
"""What a field means where its name does not say it: unit, sign, zone."""
WRITTEN: Final = "Written by ``make docs`` from the migrated database."
ROWS_HEAD: Final = f'''"""The rows of schema ``ems``, a dataclass for each table and view. {WRITTEN}"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Base of all rows."""

    TABLE: ClassVar[str]
    """The table or view in schema ``ems``."""
'''
MODELS_HEAD: Final = f'''"""Schema ``ems`` as models of SQLAlchemy. {WRITTEN}

What the columns mean is in ``rows.py``. Amounts within JSON are exact with an engine that is made with
``create_engine(url, json_deserializer=exact_json)``.
"""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import ARRAY, BigInteger, DateTime, MetaData, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Model(DeclarativeBase):
    """Base of all models."""

    metadata = MetaData(schema="ems")
    type_annotation_map: ClassVar[dict[Any, Any]] = {{
        int: BigInteger,
        str: Text,
        datetime: DateTime(timezone=True),
        list[str]: ARRAY(Text),
        dict[str, Any]: JSONB,
    }}
'''
TABLES_HEAD: Final = f"""// The rows of schema `ems`, an interface for each table and view. {WRITTEN}

/** JSON with each number as a string: its digits as sent. */
export type Json = string | boolean | null | Json[] | JsonObject;
export type JsonObject = {{ [name: string]: Json }};
"""


def generated(connection: Connection) -> dict[Path, str]:
    """Return the text of each generated file, by its path in the project."""
    described = relations(connection)
    schemas = {**{event: schema(event) for event in EVENT_FLAGS}, "receiver.changed": CHANGED}
    return {
        PYTHON / "rows.py": rows_py(described),
        PYTHON / "models.py": models_py(described),
        TYPESCRIPT / "tables.ts": tables_ts(described),
        **{SCHEMAS / f"{event}.json": json.dumps(made, indent=2) + "\n" for event, made in schemas.items()},
    }


def class_name(relation: Relation) -> str:
    """Return the name of a row: ``VatRate`` for ``vat_rates``."""
    name = relation.name if relation.name.endswith("ss") else relation.name.removesuffix("s")
    return "".join(word.capitalize() for word in name.split("_"))


def key_of(relation: Relation) -> tuple[str, ...]:
    """Return the columns that are unique together."""
    return tuple(column.name for column in relation.columns if column.in_key)


def rows_py(described: list[Relation]) -> str:
    """Return the dataclasses."""
    parts = [ROWS_HEAD]
    for relation in described:
        head = "\n@dataclass(frozen=True, slots=True, kw_only=True)\n" + f"class {class_name(relation)}(Row):\n"
        fields = [f"    {column.name}: {python_type(column)}\n{_quoted(column.meaning)}" for column in relation.columns]
        parts.append(
            f'{head}{_quoted(relation.meaning)}\n    TABLE: ClassVar[str] = "{relation.name}"\n\n' + "".join(fields)
        )
    return "\n".join(parts)


def python_type(column: Column) -> str:
    """Return the column's type in Python."""
    return TYPES[column.type][0] + (" | None" if column.nullable else "")


def typescript_type(column: Column) -> str:
    """Return the column's type in TypeScript."""
    return TYPES[column.type][1] + (" | null" if column.nullable else "")


def _quoted(text: str) -> str:
    lines = textwrap.wrap(text.replace("\\", "\\\\"), 108)
    quoted = lines[0] if len(lines) == 1 else "\n".join(lines) + "\n"
    return textwrap.indent(f'"""{quoted}"""\n', "    ")


def models_py(described: list[Relation]) -> str:
    """Return the models of SQLAlchemy, with what belongs together."""
    parts = [MODELS_HEAD]
    for relation in described:
        key = key_of(relation)
        lines = [f'\nclass {class_name(relation)}(Model):\n    """``ems.{relation.name}``."""\n']
        lines.append(f'    __tablename__ = "{relation.name}"\n')
        for column in relation.columns:
            mapped = " = mapped_column(primary_key=True)" if column.name in key else ""
            lines.append(f"    {column.name}: Mapped[{python_type(column)}]{mapped}")
        lines += _relationships(relation, described)
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _relationships(relation: Relation, described: list[Relation]) -> list[str]:
    """Return the lines of what belongs to a row; without foreign keys, for it may arrive in any order."""
    lines = []
    if "transaction_id" in names(relation):
        lines.append(_relationship('transaction: Mapped["Transaction | None"]', relation, TO_TRANSACTION))
    if "card_holder_reference_id" in names(relation):
        lines.append(_relationship('card_holder: Mapped["CardHolder | None"]', relation, TO_CARD_HOLDER))
    for other in described if relation.name == "transactions" else ():
        if "transaction_id" in names(other):
            kind = (
                f'"{class_name(other)} | None"' if key_of(other) == OF_TRANSACTION else f'list["{class_name(other)}"]'
            )
            lines.append(_relationship(f"{other.name}: Mapped[{kind}]", other, TO_TRANSACTION))
    return lines


def _relationship(declared: str, child: Relation, ends: tuple[str, str]) -> str:
    own, parents = ends
    parent = parents.partition(".")[0]
    name = class_name(child)
    return (
        f"    {declared} = relationship(\n"
        '        primaryjoin="and_("\n'
        f'        "foreign({name}.organization_reference_id) == {parent}.organization_reference_id, "\n'
        f'        "foreign({name}.{own}) == {parents})",\n'
        "        viewonly=True,\n    )"
    )


def names(relation: Relation) -> list[str]:
    """Return the names of the columns."""
    return [column.name for column in relation.columns]


def tables_ts(described: list[Relation]) -> str:
    """Return the interfaces of TypeScript."""
    parts = [TABLES_HEAD]
    for relation in described:
        fields = [
            f"  /** {column.meaning} */\n  {column.name}: {typescript_type(column)};" for column in relation.columns
        ]
        body = "\n".join(fields)
        parts.append(f"/** {relation.meaning} */\nexport interface {class_name(relation)} {{\n{body}\n}}\n")
    names = "\n".join(f"  {relation.name}: {class_name(relation)};" for relation in described)
    parts.append(f"/** Each table and view by its name. */\nexport interface Tables {{\n{names}\n}}\n")
    return "\n".join(parts)


def schema(event: str) -> dict[str, object]:
    """Return the JSON Schema of an event's payload. Other fields are allowed, for OpenCard adds some."""
    made = msgspec.json.schema(payload_type(event), ref_template="#/$defs/{name}")
    definitions = made["$defs"]
    top = definitions.pop(made["$ref"].removeprefix("#/$defs/"))
    named = {"$schema": DRAFT, **top, "title": event, "description": f"Payload of {event}, in ems.events.payload too."}
    sent: dict[str, object] = _as_sent({**named, "$defs": definitions} if definitions else named)
    return sent


def _as_sent(part: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a part of a schema, with amounts as the numbers that they are in JSON: msgspec takes them for texts.

    What may be null may be missing, which is no default.
    """
    if isinstance(part, list):
        return [_as_sent(each) for each in part]
    if not isinstance(part, dict):
        return part
    if part.get("format") == "decimal":
        return {"type": "number"}
    made = {name: _as_sent(each) for name, each in part.items() if name != "default" and each != []}
    for name, each in made.get("properties", {}).items():
        if name in FIELDS:
            each["description"] = FIELDS[name]
    choices = made.get("anyOf", [])
    if {"type": "number"} in choices:
        choices = [each for each in choices if each["type"] != "integer"]
    if len(choices) == 2 and "type" in choices[0] and choices[1] == {"type": "null"}:  # noqa: PLR2004 - it or null
        return {**choices[0], "type": [choices[0]["type"], "null"]}
    return made


if __name__ == "__main__":
    with local_servers("docs") as servers, servers.engine.connect() as opened:
        for path, content in generated(opened).items():
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(content, encoding="utf-8")
