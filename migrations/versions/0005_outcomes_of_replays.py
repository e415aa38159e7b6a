"""Replays that had an effect are told apart from those that had nothing to do; letters past mending are noted."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("dead_letters", "replays"):
        op.alter_column(table, "state", type_=sa.String(length=20), existing_nullable=False)
        # Until now every answered replay was called a success, whatever it did.
        op.execute(f"UPDATE {table} SET state = 'did_it' WHERE state = 'succeeded'")
    op.alter_column(
        "dead_letters",
        "state",
        comment="dead, waiting, did_it, nothing_to_do, died_again or dropped.",
        existing_type=sa.String(length=20),
        existing_nullable=False,
    )
    op.alter_column(
        "replays",
        "state",
        comment="planned, publishing, published, did_it, nothing_to_do, died_again, cancelled or superseded.",
        existing_type=sa.String(length=20),
        existing_nullable=False,
    )
    op.add_column(
        "dead_letters",
        sa.Column(
            "done",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="When it was last judged, a replay of it had nothing left to do.",
        ),
    )
    op.create_index(
        "ix_dead_letters_done",
        "dead_letters",
        ["id"],
        unique=False,
        postgresql_where=sa.text("done AND state = 'dead'"),
    )


def downgrade() -> None:
    op.drop_index("ix_dead_letters_done", table_name="dead_letters")
    op.drop_column("dead_letters", "done")
    for table, comment in (
        ("dead_letters", "dead, waiting, succeeded, died_again or dropped."),
        ("replays", "planned, publishing, published, succeeded, died_again, cancelled or superseded."),
    ):
        op.execute(f"UPDATE {table} SET state = 'succeeded' WHERE state IN ('did_it', 'nothing_to_do')")
        op.alter_column(table, "state", type_=sa.String(length=10), comment=comment, existing_nullable=False)
