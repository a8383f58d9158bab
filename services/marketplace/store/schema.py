"""The tables of the shop's database. A change here needs a migration: migrations/versions/."""

from sqlalchemy import Column, Index, Integer, MetaData, String, Table, column, table
from sqlalchemy.dialects.postgresql import TSVECTOR

SCHEMA = "1"  # the newest migration, and part of the fingerprint: another schema loads the feed again

metadata = MetaData()
books = Table(
    "books",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("id", Integer, nullable=False, unique=True),
    Column("title", String, nullable=False),
    Column("author", String, nullable=False),
    Column("category", Integer, nullable=False),
    Column("price", Integer, nullable=False),
)
Index("books_by_category", books.c.category, books.c.position)
feed = Table("feed", metadata, Column("fingerprint", String, primary_key=True))
titles = Table(  # the words of the titles, on PostgreSQL
    "titles",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("words", TSVECTOR, nullable=False),
)
Index("titles_by_words", titles.c.words, postgresql_using="gin")
titles_fts5 = table("titles", column("rowid"))  # on SQLite: an FTS5 table, which SQLAlchemy has no type for
