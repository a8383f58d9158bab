"""Brings the database's tables to the newest schema (https://alembic.sqlalchemy.org)."""

import logging
from pathlib import Path

from sqlalchemy import Connection

logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # it logs each of its parts


def migrate(connection: Connection) -> None:
    """Run the migrations that the database does not have yet, in the connection's transaction.

    Raises ValueError if a newer shop has migrated it further than this one knows.
    """
    from alembic import command  # here, because few starts need it
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ValueError(str(error)) from error
