"""Views by time, active readers, answer times and processes."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_instant = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column(
        "readers",
        sa.Column(
            "seen_on", sa.Date(), comment="The last of the reader's days on which they asked for a text."
        ),
    )
    op.create_table(
        "reader_days",
        sa.Column("day", sa.Date(), nullable=False, comment="The readers' own day."),
        sa.Column("readers", sa.Integer(), nullable=False, comment="How many readers asked for a text."),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_reader_days")),
        comment="The number of active readers of each day.",
    )
    op.create_table(
        "view_times",
        sa.Column("view_date", sa.Date(), nullable=False),
        sa.Column("at", _instant, nullable=False, comment="The start of a five-minute interval."),
        sa.Column("zodiac_sign", sa.String(20), nullable=False),
        sa.Column("view_count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("view_date", "at", "zodiac_sign", name=op.f("pk_view_times")),
        comment="Views of the last days by time; written together with horoscope_views.",
    )
    op.create_table(
        "answer_times",
        sa.Column("day", sa.Date(), nullable=False, comment="The day at home."),
        sa.Column(
            "source",
            sa.String(10),
            nullable=False,
            comment="cache, memory, or missing: the reader had to wait.",
        ),
        sa.Column(
            "bucket",
            sa.SmallInteger(),
            nullable=False,
            comment="How long the bot took, on a logarithmic scale.",
        ),
        sa.Column("answers", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "source", "bucket", name=op.f("pk_answer_times")),
        comment="How fast readers were answered, as their bots measured it.",
    )
    op.create_table(
        "processes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False, comment="bot, worker, scheduler or admin."),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("release", sa.Text(), nullable=False),
        sa.Column("started_at", _instant, nullable=False),
        sa.Column(
            "seen_at",
            _instant,
            nullable=False,
            server_default=sa.func.now(),
            comment="Its last heartbeat.",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_processes")),
        comment="The processes that run; each writes heartbeats, and deletes its row when it stops.",
    )


def downgrade() -> None:
    for table in ("processes", "answer_times", "view_times", "reader_days"):
        op.drop_table(table)
    op.drop_column("readers", "seen_on")
