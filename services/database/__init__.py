"""PostgreSQL: the pool, queries that are coalesced, migrations."""
