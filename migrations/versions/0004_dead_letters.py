"""The archive of dead letters, their replays, and paused queues."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_instant = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "dead_letter_notes",
        sa.Column("fingerprint", sa.String(length=16), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("noted_by", sa.Text(), nullable=False),
        sa.Column("noted_at", _instant, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_dead_letter_notes")),
        comment="Notes on groups of dead letters.",
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger(), nullable=False, comment="The number that people use."),
        sa.Column("death", sa.Uuid(), nullable=False, comment="The same for every copy of the dead letter."),
        sa.Column(
            "digest",
            sa.LargeBinary(),
            nullable=False,
            comment="The same for copies with equally many attempts.",
        ),
        sa.Column(
            "state",
            sa.String(length=10),
            nullable=False,
            comment="dead, waiting, succeeded, died_again or dropped.",
        ),
        sa.Column("state_since", _instant, server_default=sa.text("now()"), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=True, comment="NULL: the bytes are no message."),
        sa.Column(
            "actor",
            sa.Text(),
            nullable=True,
            comment="The actor that it names; NULL: the bytes are no message.",
        ),
        sa.Column("queue", sa.Text(), nullable=False, comment="The queue that it came from."),
        sa.Column(
            "arguments",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="NULL: the bytes are no message.",
        ),
        sa.Column(
            "zodiac_sign",
            sa.String(length=20),
            nullable=True,
            comment="From its arguments; NULL: they name none.",
        ),
        sa.Column("day", sa.Date(), nullable=True, comment="From its arguments; NULL: they name none."),
        sa.Column(
            "body",
            sa.LargeBinary(),
            nullable=False,
            comment="As replays publish it, or bytes that are no message.",
        ),
        sa.Column("masked", sa.Boolean(), nullable=False, comment="It held a secret, which is not kept."),
        sa.Column("cause", sa.String(length=30), nullable=False),
        sa.Column(
            "error_type",
            sa.Text(),
            nullable=False,
            comment="The exception's class; empty: RabbitMQ gave it up.",
        ),
        sa.Column("error", sa.Text(), nullable=False, comment="In one line."),
        sa.Column(
            "traceback",
            sa.Text(),
            nullable=True,
            comment="The end of the last one; NULL: nothing was raised.",
        ),
        sa.Column(
            "fingerprint", sa.String(length=16), nullable=False, comment="The same for failures of one kind."
        ),
        sa.Column(
            "attempts",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="When, where, how long and why each failed.",
        ),
        sa.Column("release", sa.Text(), nullable=False, comment="Of the code that gave it up."),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("published_at", _instant, nullable=True, comment="NULL: unknown."),
        sa.Column("died_at", _instant, nullable=False),
        sa.Column("archived_at", _instant, server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "replays", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="Before this death."
        ),
        sa.Column(
            "parent",
            sa.BigInteger(),
            nullable=True,
            comment="The dead letter whose replay died as this one.",
        ),
        sa.Column("said_by", sa.Text(), nullable=True, comment="Who dropped it."),
        sa.Column("said", sa.Text(), nullable=True, comment="Why it was dropped."),
        sa.Column("imported_at", _instant, nullable=True, comment="When it was imported from a file."),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
        sa.UniqueConstraint("death", name=op.f("uq_dead_letters_death")),
        comment="Messages that finally failed, each with all that is known of its death.",
    )
    op.create_index(
        "ix_dead_letters_digest", "dead_letters", ["digest"], unique=False, postgresql_using="hash"
    )
    op.create_index(
        "ix_dead_letters_fingerprint",
        "dead_letters",
        ["fingerprint", "state", "release", "died_at", "actor"],
        unique=False,
    )
    op.create_index("ix_dead_letters_state", "dead_letters", ["state", "id"], unique=False)
    op.create_table(
        "paused_queues",
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("paused_by", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("paused_at", _instant, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("queue", name=op.f("pk_paused_queues")),
        comment="Queues that no worker consumes until a person resumes them.",
    )
    op.create_table(
        "replay_runs",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column(
            "state",
            sa.String(length=10),
            nullable=False,
            comment="running, cancelling, cancelled or finished.",
        ),
        sa.Column(
            "queues", postgresql.ARRAY(sa.Text()), nullable=False, comment="Each queue has one run at a time."
        ),
        sa.Column("rate", sa.Integer(), nullable=False, comment="Messages a second at the most."),
        sa.Column("what", sa.Text(), nullable=False, comment="The selected letters, in words."),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("started_by", sa.Text(), nullable=False),
        sa.Column("started_at", _instant, server_default=sa.text("now()"), nullable=False),
        sa.Column("cancelled_by", sa.Text(), nullable=True),
        sa.Column("ended_at", _instant, nullable=True, comment="When the last message was published."),
        sa.Column(
            "token",
            sa.BigInteger(),
            nullable=False,
            comment="Fencing token: grows with every takeover.",
        ),
        sa.Column("holder", sa.Text(), nullable=False, comment="The process that runs it: host and pid."),
        sa.Column("expires_at", _instant, nullable=False, comment="When another process may take it over."),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replay_runs")),
        comment="Orders to publish dead letters again.",
    )
    op.create_table(
        "suspects",
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column(
            "begun",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="When and where each unfinished attempt began.",
        ),
        sa.Column("seen_at", _instant, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("queue", "message_id", name=op.f("pk_suspects")),
        comment="Redelivered messages that are being handled; each had lost its worker.",
    )
    op.create_table(
        "dead_letter_edits",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("letter", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("arguments", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("edited_by", sa.Text(), nullable=False),
        sa.Column("edited_at", _instant, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["letter"], ["dead_letters.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letter_edits")),
        comment="Edits of dead letters; a replay publishes the last one of its letter.",
    )
    op.create_index(op.f("ix_dead_letter_edits_letter"), "dead_letter_edits", ["letter"], unique=False)
    op.create_table(
        "replays",
        sa.Column("id", sa.Uuid(), nullable=False, comment="Travels with the message."),
        sa.Column("run", sa.BigInteger(), nullable=False),
        sa.Column("letter", sa.BigInteger(), nullable=False),
        sa.Column(
            "edit",
            sa.BigInteger(),
            nullable=True,
            comment="The edit that was published; NULL: the message as it died.",
        ),
        sa.Column(
            "state",
            sa.String(length=10),
            nullable=False,
            comment="planned, publishing, published, succeeded, died_again, cancelled or superseded.",
        ),
        sa.Column("published_at", _instant, nullable=True),
        sa.Column("ended_at", _instant, nullable=True),
        sa.Column("died_as", sa.BigInteger(), nullable=True, comment="The dead letter that it became."),
        sa.ForeignKeyConstraint(["letter"], ["dead_letters.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["run"], ["replay_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replays")),
        comment="The replays of dead letters, each with its outcome.",
    )
    op.create_index("ix_replays_letter", "replays", ["letter"], unique=False)
    op.create_index("ix_replays_run_state", "replays", ["run", "state", "letter"], unique=False)
    op.create_index(
        "uq_replays_open",
        "replays",
        ["letter"],
        unique=True,
        postgresql_where=sa.text("state IN ('planned', 'publishing', 'published')"),
    )


def downgrade() -> None:
    for table in (
        "paused_queues",
        "suspects",
        "replays",
        "replay_runs",
        "dead_letter_notes",
        "dead_letter_edits",
        "dead_letters",
    ):
        op.drop_table(table)
