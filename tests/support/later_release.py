"""A later release: its migrations add a table and a view that this one does not have."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from alembic import command

from receiver import migrate

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

LATER = """
from alembic import op

revision, down_revision = "later", "{head}"

def upgrade():
    op.execute("CREATE TABLE ems.later (organization_reference_id text, id bigint)")
    op.execute("INSERT INTO ems.later VALUES ('acme', 1), ('globex', 2)")
    op.execute("CREATE VIEW ems.later_still AS SELECT * FROM ems.later")
"""


def upgrade_to_later(connection: Connection, folder: Path) -> None:
    """Run the migrations of a later release, whose files are put into *folder*."""
    config = migrate._config()
    migrations = shutil.copytree(migrate.project_file("migrations"), folder / "migrations")
    (migrations / "versions" / "9999_later.py").write_text(LATER.format(head=migrate.head_revision()))
    config.set_main_option("script_location", str(migrations))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
