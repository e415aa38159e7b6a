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
        comment="What people noted of a group of dead letters.",
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger(), nullable=False, comment="What people call it by."),
        sa.Column("death", sa.Uuid(), nullable=False, comment="The same for every copy of one death."),
        sa.Column(
            "digest",
            sa.LargeBinary(),
            nullable=False,
            comment="The same for copies of one message that died alike.",
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
        sa.Column("queue", sa.Text(), nullable=False, comment="Where it died."),
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
            comment="Of its arguments, where they name one.",
        ),
        sa.Column("day", sa.Date(), nullable=True, comment="Of its arguments, where they name one."),
        sa.Column(
            "body",
            sa.LargeBinary(),
            nullable=False,
            comment="As it would be published again; garbage as it came.",
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
        sa.Column("published_at", _instant, nullable=True, comment="NULL: not told."),
        sa.Column("died_at", _instant, nullable=False),
        sa.Column("archived_at", _instant, server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "replays", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="Before this death."
        ),
        sa.Column(
            "parent",
            sa.BigInteger(),
            nullable=True,
            comment="The dead letter whose replay this is the death of.",
        ),
        sa.Column("said_by", sa.Text(), nullable=True, comment="Who dropped it."),
        sa.Column("said", sa.Text(), nullable=True, comment="Why it was dropped."),
        sa.Column("imported_at", _instant, nullable=True, comment="It died elsewhere and was brought here."),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
        sa.UniqueConstraint("death", name=op.f("uq_dead_letters_death")),
        comment="Messages that finally failed, each with the whole truth about its death.",
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
        comment="Queues that no worker consumes until a person says so.",
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
            "queues", postgresql.ARRAY(sa.Text()), nullable=False, comment="One run at a time in each."
        ),
        sa.Column("rate", sa.Integer(), nullable=False, comment="Messages a second at the most."),
        sa.Column("what", sa.Text(), nullable=False, comment="Which letters were asked for, in words."),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("started_by", sa.Text(), nullable=False),
        sa.Column("started_at", _instant, server_default=sa.text("now()"), nullable=False),
        sa.Column("cancelled_by", sa.Text(), nullable=True),
        sa.Column("ended_at", _instant, nullable=True, comment="When the last message was published."),
        sa.Column(
            "token",
            sa.BigInteger(),
            nullable=False,
            comment="Fencing: grows with everyone who takes it over.",
        ),
        sa.Column("holder", sa.Text(), nullable=False, comment="Who carries it out: host and pid."),
        sa.Column("expires_at", _instant, nullable=False, comment="After this, anybody may take it over."),
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
            comment="When and where each try began that did not end.",
        ),
        sa.Column("seen_at", _instant, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("queue", "message_id", name=op.f("pk_suspects")),
        comment="Messages that were delivered again because their worker was lost, while they are handled.",
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
        comment="What is replayed in the place of a message as it died: of each letter, the last edit.",
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
            comment="What was published in its place; NULL: the message as it died.",
        ),
        sa.Column(
            "state",
            sa.String(length=10),
            nullable=False,
            comment="planned, publishing, published, succeeded, died_again, cancelled or superseded.",
        ),
        sa.Column("published_at", _instant, nullable=True),
        sa.Column("ended_at", _instant, nullable=True),
        sa.Column("died_as", sa.BigInteger(), nullable=True, comment="The dead letter that came of it."),
        sa.ForeignKeyConstraint(["letter"], ["dead_letters.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["run"], ["replay_runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replays")),
        comment="Each time that a dead letter was published again, and what became of it.",
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
