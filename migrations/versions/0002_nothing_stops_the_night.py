"""Recorded orders, outages and cost of the model, and the last ticks."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_instant = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.alter_column(
        "generations",
        "state",
        existing_type=sa.String(10),
        existing_nullable=False,
        existing_comment="writing, retrying, written or given_up.",
        comment="pending, writing, retrying, written or given_up.",
    )
    op.alter_column(
        "generations",
        "holder",
        existing_type=sa.Text(),
        nullable=True,
        existing_comment="The message that holds or last held the lease.",
        comment="The message that holds or last held the lease; NULL: none has yet.",
    )
    for column in (
        sa.Column(
            "writer", sa.Text(), comment="The process that holds or last held the lease: host and pid."
        ),
        sa.Column(
            "refused_by",
            sa.String(16),
            comment="Given up because this endpoint of the model refuses every request.",
        ),
        sa.Column(
            "calls",
            sa.Integer(),
            nullable=False,
            server_default=sa.text("0"),
            comment="Answers of the model.",
        ),
        sa.Column("cost_usd", sa.Numeric(12, 6), comment="Of all answers; NULL: the prices are unknown."),
    ):
        op.add_column("generations", column)
    for name, comment in (
        ("prompt_tokens", "Of all answers; NULL: the model did not count them."),
        ("completion_tokens", "Of all answers; NULL: the model did not count them."),
    ):
        op.alter_column(
            "generations", name, existing_type=sa.Integer(), existing_nullable=True, comment=comment
        )
    op.alter_column(
        "generations",
        "latency_ms",
        existing_type=sa.Integer(),
        existing_nullable=True,
        existing_comment="Of the model's answer.",
        comment="Of the model's last answer.",
    )

    op.add_column(
        "waiters",
        sa.Column(
            "replaces",
            sa.BigInteger(),
            comment="The message whose button was pressed; the answer replaces it.",
        ),
    )
    op.add_column(
        "waiters",
        sa.Column("nudged_at", _instant, comment="When its overdue text was last asked for again."),
    )
    op.create_index(
        "uq_waiters_replaces",
        "waiters",
        ["chat_id", "replaces"],
        unique=True,
        postgresql_where=sa.text("answered_at IS NULL"),
    )

    op.create_table(
        "model_outages",
        sa.Column("endpoint", sa.String(16), nullable=False, comment="A digest of address, model and key."),
        sa.Column(
            "since", _instant, nullable=False, server_default=sa.func.now(), comment="Of the first failure."
        ),
        sa.Column(
            "failures", sa.Integer(), nullable=False, comment="Calls that failed, with no success in between."
        ),
        sa.Column(
            "repeats",
            sa.Integer(),
            nullable=False,
            comment="How often the last failure's cause was repeated.",
        ),
        sa.Column(
            "failed_at",
            _instant,
            nullable=False,
            server_default=sa.func.now(),
            comment="Of the last failure.",
        ),
        sa.Column("known_at", _instant, comment="When there were enough failures to call it an outage."),
        sa.Column(
            "refused",
            sa.Boolean(),
            nullable=False,
            comment="The server refuses every request.",
        ),
        sa.Column(
            "kind", sa.Text(), nullable=False, comment="The cause: unavailable, or how the server refuses."
        ),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint", name=op.f("pk_model_outages")),
        comment="A model that does not answer; the next answer deletes the row.",
    )
    op.create_table(
        "model_usage",
        sa.Column(
            "spent_on", sa.Date(), nullable=False, comment="The day at home on which the model was called."
        ),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", sa.Numeric(12, 6), comment="NULL: the prices are unknown."),
        sa.PrimaryKeyConstraint("spent_on", "model", name=op.f("pk_model_usage")),
        comment="What the model cost, day by day.",
    )
    op.create_table(
        "ticks",
        sa.Column("name", sa.String(20), nullable=False, comment="midnight or reconcile."),
        sa.Column(
            "at", _instant, nullable=False, server_default=sa.func.now(), comment="When the last one came."
        ),
        sa.Column("did", sa.Text(), nullable=False, comment="Its result, in words."),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_ticks")),
        comment="The last tick of each kind.",
    )


def downgrade() -> None:
    for table in ("ticks", "model_usage", "model_outages"):
        op.drop_table(table)
    op.drop_index("uq_waiters_replaces", table_name="waiters")
    op.drop_column("waiters", "nudged_at")
    op.drop_column("waiters", "replaces")
    for column in ("cost_usd", "calls", "refused_by", "writer"):
        op.drop_column("generations", column)
    op.execute("DELETE FROM generations WHERE holder IS NULL")
    op.alter_column(
        "generations",
        "holder",
        existing_type=sa.Text(),
        nullable=False,
        comment="The message that holds or last held the lease.",
    )
    op.alter_column(
        "generations",
        "state",
        existing_type=sa.String(10),
        existing_nullable=False,
        comment="writing, retrying, written or given_up.",
    )
    for name, comment in (
        ("prompt_tokens", None),
        ("completion_tokens", None),
        ("latency_ms", "Of the model's answer."),
    ):
        op.alter_column(
            "generations", name, existing_type=sa.Integer(), existing_nullable=True, comment=comment
        )
