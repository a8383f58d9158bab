"""The tables of the shop's database."""

from sqlalchemy import Column, Index, Integer, MetaData, String, Table, column, table

SCHEMA = "1"  # part of the fingerprint: another schema loads the feed again

metadata = MetaData()
books = Table(
    "books",
    metadata,
    Column("position", Integer, primary_key=True),
    Column("id", Integer, nullable=False, unique=True),
    Column("title", String, nullable=False),
    Column("author", String, nullable=False),
    Column("category", Integer, nullable=False),
    Column("price", Integer, nullable=False),
)
Index("books_by_category", books.c.category, books.c.position)
feed = Table("feed", metadata, Column("fingerprint", String, primary_key=True))
titles = table("titles", column("rowid"))  # an FTS5 table, which SQLAlchemy has no type for
