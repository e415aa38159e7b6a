"""Accounts, sessions and tokens for the operators' page, and the audit that nobody can change."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Also the table's owner cannot change or delete a row by mistake or with a stolen DATABASE_URL, unless the owner takes
# the trigger away first.
_APPEND_ONLY = """
    CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' THEN
            IF OLD.at < now() - interval '400 days' THEN
                RETURN OLD;
            END IF;
        END IF;
        RAISE EXCEPTION 'the audit is append-only: % is not allowed', TG_OP USING ERRCODE = 'insufficient_privilege';
    END $$
"""
# It runs with the rights of the role that migrates; every other role needs INSERT and SELECT only.
_PRUNE = """
    CREATE FUNCTION prune_audit() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
        WITH pruned AS (DELETE FROM audit WHERE at < now() - interval '400 days' RETURNING id)
        SELECT count(*) FROM pruned
    $$
"""


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="What a person signs in with."),
        sa.Column("role", sa.String(length=10), nullable=False, comment="viewer, operator or admin."),
        sa.Column(
            "password_hash", sa.Text(), nullable=False, comment="By Argon2id, with its salt and parameters."
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "password_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the password was set.",
        ),
        sa.Column("disabled_at", sa.DateTime(timezone=True), comment="NULL: one may sign in to it."),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
        sa.UniqueConstraint("name", name="uq_accounts_name"),
        comment="The people who may use the operators' page.",
    )
    op.create_table(
        "sessions",
        sa.Column(
            "digest", sa.LargeBinary(), nullable=False, comment="Of the cookie's token, which is not stored."
        ),
        sa.Column("account", sa.BigInteger(), comment="NULL: the account that ADMIN_PASSWORD opens."),
        sa.Column(
            "stamp", sa.LargeBinary(), comment="A digest of ADMIN_PASSWORD, where it opened the session."
        ),
        sa.Column("origin", sa.Text(), nullable=False, comment="The address that signed in."),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "seen_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When a page was last opened, to ten minutes.",
        ),
        sa.PrimaryKeyConstraint("digest", name="pk_sessions"),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], ondelete="CASCADE"),
        comment="The browsers that have signed in to the operators' page; a row that is deleted signs one out.",
    )
    op.create_index("ix_sessions_account", "sessions", ["account"])
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="What it is for."),
        sa.Column("role", sa.String(length=10), nullable=False, comment="viewer, operator or admin."),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="Of the token, which is not stored."),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), comment="When it was last used, to the minute."),
        sa.Column("revoked_at", sa.DateTime(timezone=True), comment="NULL: it was not revoked."),
        sa.PrimaryKeyConstraint("id", name="pk_api_tokens"),
        sa.UniqueConstraint("digest", name="uq_api_tokens_digest"),
        comment="What scripts read the JSON API with.",
    )
    op.create_index(
        "uq_api_tokens_name",
        "api_tokens",
        ["name"],
        unique=True,
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_table(
        "sign_in_attempts",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("account", sa.Text(), nullable=False, comment="Empty: there is no account of the name."),
        sa.Column("address", sa.Text(), nullable=False, comment="The addresses that one person may have."),
        sa.Column(
            "device",
            sa.Text(),
            comment="The browser's device cookie; NULL: it has none for this account.",
        ),
        sa.Column(
            "known",
            sa.Boolean(),
            nullable=False,
            comment="The account has signed in from there before.",
        ),
        sa.Column(
            "failed",
            sa.Boolean(),
            nullable=False,
            comment="False: it is under way; if it succeeds, it is deleted.",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_sign_in_attempts"),
        comment="Attempts to sign in that failed lately, or are under way.",
    )
    op.create_index("ix_sign_in_attempts_at", "sign_in_attempts", ["at"])
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("act", sa.Uuid(), nullable=False, comment="The same for the rows of one act."),
        sa.Column(
            "who", sa.Text(), nullable=False, comment="An account, or the name given on the command line."
        ),
        sa.Column(
            "role",
            sa.String(length=10),
            nullable=False,
            comment="viewer, operator, admin, or shell: the command line.",
        ),
        sa.Column(
            "origin",
            sa.Text(),
            nullable=False,
            comment="The browser's address, or the command line's user and host.",
        ),
        sa.Column("what", sa.String(length=40), nullable=False, comment="The act, such as queue.pause."),
        sa.Column("subject", sa.Text(), nullable=False, comment="What it was done to."),
        sa.Column("before", JSONB(), comment="What was there before; NULL: nothing to tell."),
        sa.Column("after", JSONB(), comment="What was there afterwards; NULL: nothing to tell."),
        sa.Column("outcome", sa.String(length=10), nullable=False, comment="begun, done, refused or failed."),
        sa.Column("detail", sa.Text(), nullable=False, comment="Why it was refused or failed."),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        comment="Who did what. Nobody changes a row; one is deleted after 400 days, by prune_audit().",
    )
    op.create_index("ix_audit_act", "audit", ["act"])
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_index("ix_audit_who", "audit", ["who", "what", "at"])
    op.execute(_APPEND_ONLY)
    op.execute(_PRUNE)
    op.execute("""
        CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON audit
        FOR EACH ROW EXECUTE FUNCTION audit_is_append_only()
    """)
    op.execute("""
        CREATE TRIGGER audit_is_not_truncated BEFORE TRUNCATE ON audit
        FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()
    """)


def downgrade() -> None:
    op.execute("DROP FUNCTION prune_audit()")
    for table in ("audit", "sign_in_attempts", "api_tokens", "sessions", "accounts"):
        op.drop_table(table)
    op.execute("DROP FUNCTION audit_is_append_only()")
