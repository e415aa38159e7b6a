"""PostgreSQL: the pool, coalesced queries, migrations."""
