"""The books, the words of their titles, and which feed they are of."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

revision = "1"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    for table in ("titles", "books", "feed"):
        op.execute(f"DROP TABLE IF EXISTS {table}")  # a shop from before there were migrations made them
    op.create_table(
        "books",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Integer, nullable=False, unique=True),
        sa.Column("title", sa.String, nullable=False),
        sa.Column("author", sa.String, nullable=False),
        sa.Column("category", sa.Integer, nullable=False),
        sa.Column("price", sa.Integer, nullable=False),
    )
    op.create_index("books_by_category", "books", ["category", "position"])
    op.create_table("feed", sa.Column("fingerprint", sa.String, primary_key=True))
    if op.get_context().dialect.name == "sqlite":
        op.execute(  # the words are stored as searched for: only spaces separate them
            "CREATE VIRTUAL TABLE titles USING fts5"
            "(title, category, content='', prefix='1 2 3 4 5 6 7 8', tokenize='ascii')"
        )
        return
    op.create_table(
        "titles",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("words", TSVECTOR, nullable=False),
    )
    op.create_index("titles_by_words", "titles", ["words"], postgresql_using="gin")
