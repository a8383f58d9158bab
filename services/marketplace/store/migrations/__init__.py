"""Brings the database's tables to the newest schema (https://alembic.sqlalchemy.org)."""

import logging
from pathlib import Path

from sqlalchemy import Connection

logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # it logs each of its parts


def migrate(connection: Connection) -> None:
    """Run the migrations that the database does not have yet, in the connection's transaction."""
    from alembic import command  # here, because few starts need it
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    command.upgrade(config, "head")
