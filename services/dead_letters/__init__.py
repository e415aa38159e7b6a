"""Dead letters: what finally failed, kept in PostgreSQL with the whole truth, understood, mended and replayed."""
