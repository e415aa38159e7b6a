"""The tables. Every change here needs a migration; a test compares the two."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

#: In a table's ``info``: what the processes may do with it, if that is not all of SELECT, INSERT, UPDATE and DELETE.
GRANTED = "granted"

#: The newest migration: what this release needs at the least.
REVISION = "0008"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_instant = DateTime(timezone=True)

#: Marks the column by which a row belongs to a reader, Telegram's number of the person or of their private chat:
#: /mydata tells these rows, /forget and pruning delete them.
OF_READER = {"reader": True}
#: Marks the column by which a row belongs to a request. Only a row of ``waiters`` says which reader made the request; while
#: it exists, /mydata tells these rows too. Without it they name nobody, and stay.
OF_REQUEST = {"request": True}
#: Marks what others wrote, such as errors, foreign messages and operators' notes. It may mention a reader's number: /mydata
#: counts these rows, /forget and pruning blot the number out.
FREE_TEXT = {"free_text": True}

horoscope_cache = Table(
    "horoscope_cache",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("zodiac_sign", String(20), nullable=False, index=True),
    Column("horoscope_date", Date, nullable=False, index=True),
    Column("content", Text, nullable=False),
    Column("generated_at", _instant, nullable=False, server_default=func.now()),
    UniqueConstraint("zodiac_sign", "horoscope_date", name="uq_horoscope_cache_sign_date"),
    comment="The texts that readers are shown.",
)

horoscope_views = Table(
    "horoscope_views",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("zodiac_sign", String(20), nullable=False),
    Column("view_date", Date, nullable=False),
    Column("view_count", Integer, nullable=False, server_default=text("0")),
    UniqueConstraint("zodiac_sign", "view_date", name="uq_horoscope_views_sign_date"),
    comment="How often the text of a sign and a day was shown; view_date is the reader's day.",
)

view_receipts = Table(
    "view_receipts",
    metadata,
    Column("request_id", Uuid, primary_key=True, info=OF_REQUEST),
    Column("view_date", Date, nullable=False, index=True),
    comment="Receipts of the views already counted, so that no copy of a view counts again.",
)

view_times = Table(
    "view_times",
    metadata,
    Column("view_date", Date),
    Column("at", _instant, comment="The start of a five-minute interval."),
    Column("zodiac_sign", String(20)),
    Column("view_count", Integer, nullable=False),
    PrimaryKeyConstraint("view_date", "at", "zodiac_sign"),
    comment="Views of the last days by time; written together with horoscope_views.",
)

readers = Table(
    "readers",
    metadata,
    Column("telegram_id", BigInteger, primary_key=True, autoincrement=False, info=OF_READER),
    Column("zodiac_sign", String(20), comment="NULL: not chosen yet."),
    Column("time_zone", Text, comment="An IANA name; NULL: the home zone."),
    Column("language", String(2), nullable=False),
    Column("blocked_at", _instant, comment="When the reader was found to have blocked the bot."),
    Column("created_at", _instant, nullable=False, server_default=func.now()),
    Column("seen_on", Date, comment="The last of the reader's days on which they asked for a text."),
    comment="Readers, with their sign, time zone and language.",
)

forgotten_readers = Table(
    "forgotten_readers",
    metadata,
    Column("day", Date, comment="By UTC."),
    Column("reason", String(10), comment="asked, operator, blocked or unseen."),
    Column("readers", Integer, nullable=False, comment="How many were forgotten."),
    PrimaryKeyConstraint("day", "reason"),
    comment="How many readers were forgotten, and why. Their sum tells a bot that its memory is out of date.",
)

reader_days = Table(
    "reader_days",
    metadata,
    Column("day", Date, primary_key=True, comment="The readers' own day."),
    Column("readers", Integer, nullable=False, comment="How many readers asked for a text."),
    comment="The number of active readers of each day.",
)

answer_times = Table(
    "answer_times",
    metadata,
    Column("day", Date, comment="The day at home."),
    Column("source", String(10), comment="cache, memory, or missing: the reader had to wait."),
    Column("bucket", SmallInteger, comment="How long the bot took, on a logarithmic scale."),
    Column("answers", BigInteger, nullable=False),
    PrimaryKeyConstraint("day", "source", "bucket"),
    comment="How fast readers were answered, as their bots measured it.",
)

processes = Table(
    "processes",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", String(20), nullable=False, comment="bot, worker, scheduler or admin."),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("release", Text, nullable=False),
    Column("started_at", _instant, nullable=False),
    Column("seen_at", _instant, nullable=False, server_default=func.now(), comment="Its last heartbeat."),
    comment="The processes that run; each writes heartbeats, and deletes its row when it stops.",
)

generations = Table(
    "generations",
    metadata,
    Column("zodiac_sign", String(20)),
    Column("horoscope_date", Date),
    Column("state", String(10), nullable=False, comment="pending, writing, retrying, written or given_up."),
    Column("since", _instant, nullable=False, server_default=func.now(), comment="When the state began."),
    Column("token", BigInteger, nullable=False, comment="Fencing token: grows with every lease."),
    Column("holder", Text, comment="The message that holds or last held the lease; NULL: none has yet."),
    Column("writer", Text, comment="The process that holds or last held the lease: host and pid."),
    Column("ladder", String(10), nullable=False, comment="The holder's ladder: night or request."),
    Column("expires_at", _instant, comment="When the lease may be taken over; only while writing."),
    Column("retry_at", _instant, comment="When the ladder tries again; only while retrying."),
    Column(
        "again_at",
        _instant,
        comment="Until then readers cannot have it begun again: the model wrote only nonsense. NULL: they can.",
    ),
    Column("attempts", Integer, nullable=False, server_default=text("0"), comment="Leases so far."),
    Column("error", Text, comment="Why the last attempt failed.", info=FREE_TEXT),
    Column(
        "refused_by", String(16), comment="Given up because this endpoint of the model refuses every request."
    ),
    Column("model", Text),
    Column("prompt_version", Text),
    Column("calls", Integer, nullable=False, server_default=text("0"), comment="Answers of the model."),
    Column("prompt_tokens", Integer, comment="Of all answers; NULL: the model did not count them."),
    Column("completion_tokens", Integer, comment="Of all answers; NULL: the model did not count them."),
    Column("cost_usd", Numeric(12, 6), comment="Of all answers; NULL: the prices are unknown."),
    Column("latency_ms", Integer, comment="Of the model's last answer."),
    PrimaryKeyConstraint("zodiac_sign", "horoscope_date"),
    comment="The lease and the state of each text.",
)

model_outages = Table(
    "model_outages",
    metadata,
    Column("endpoint", String(16), primary_key=True, comment="A digest of address, model and key."),
    Column("since", _instant, nullable=False, server_default=func.now(), comment="Of the first failure."),
    Column("failures", Integer, nullable=False, comment="Calls that failed, with no success in between."),
    Column("repeats", Integer, nullable=False, comment="How often the last failure's cause was repeated."),
    Column("failed_at", _instant, nullable=False, server_default=func.now(), comment="Of the last failure."),
    Column("known_at", _instant, comment="When there were enough failures to call it an outage."),
    Column("refused", Boolean, nullable=False, comment="The server refuses every request."),
    Column("kind", Text, nullable=False, comment="The cause: unavailable, or how the server refuses."),
    Column("reason", Text, nullable=False, info=FREE_TEXT),
    comment="A model that does not answer; the next answer deletes the row.",
)

model_usage = Table(
    "model_usage",
    metadata,
    Column("spent_on", Date, comment="The day at home on which the model was called."),
    Column("model", Text),
    Column("calls", Integer, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cost_usd", Numeric(12, 6), comment="NULL: the prices are unknown."),
    PrimaryKeyConstraint("spent_on", "model"),
    comment="What the model cost, day by day.",
)

ticks = Table(
    "ticks",
    metadata,
    Column("name", String(20), primary_key=True, comment="midnight or reconcile."),
    Column("at", _instant, nullable=False, server_default=func.now(), comment="When the last one came."),
    Column("did", Text, nullable=False, comment="Its result, in words."),
    comment="The last tick of each kind.",
)

waiters = Table(
    "waiters",
    metadata,
    Column("request_id", Uuid, primary_key=True, info=OF_REQUEST),
    Column("chat_id", BigInteger, nullable=False, index=True, info=OF_READER),
    Column("zodiac_sign", String(20), nullable=False),
    Column("horoscope_date", Date, nullable=False),
    Column("language", String(2), nullable=False),
    Column("message_id", BigInteger, comment="The progress message; NULL until Telegram has named it."),
    Column("replaces", BigInteger, comment="The message whose button was pressed; the answer replaces it."),
    Column("created_at", _instant, nullable=False, server_default=func.now()),
    Column("claimed_until", _instant, comment="Until then only the process that claimed it may answer."),
    Column("nudged_at", _instant, comment="When its overdue text was last asked for again."),
    Column("answered_at", _instant, comment="NULL: the chat still waits."),
    Column("due_at", _instant, comment="Telegram takes no answer before this; NULL: it does at any time."),
    Index("ix_waiters_owed", "zodiac_sign", "horoscope_date", postgresql_where=text("answered_at IS NULL")),
    Index(
        "uq_waiters_replaces",
        "chat_id",
        "replaces",
        unique=True,
        postgresql_where=text("answered_at IS NULL"),
    ),
    comment="Chats that wait for an answer, or were answered lately.",
)

unfinished_updates = Table(
    "unfinished_updates",
    metadata,
    Column("update_id", BigInteger, primary_key=True, autoincrement=False, comment="Telegram's number."),
    Column("reader_id", BigInteger, index=True, comment="NULL: the update names nobody.", info=OF_READER),
    Column("body", Text, nullable=False, comment="The update as JSON, without names."),
    Column("holder", Uuid, nullable=False, comment="The bot that handles it."),
    Column("held_until", _instant, nullable=False, comment="After this, any bot may take it over."),
    Column("kept_at", _instant, nullable=False, server_default=func.now()),
    comment="Updates that take long: confirmed to Telegram, and deleted when their handlers have finished.",
)

parked_messages = Table(
    "parked_messages",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("queue", Text, nullable=False),
    Column("body", LargeBinary, nullable=False, info=FREE_TEXT),
    Column("reason", Text, nullable=False, info=FREE_TEXT),
    Column("parked_at", _instant, nullable=False, server_default=func.now()),
    comment="Messages that RabbitMQ did not take; sent when it is back.",
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", BigInteger, primary_key=True, comment="The number that people use."),
    Column("death", Uuid, nullable=False, unique=True, comment="The same for every copy of the dead letter."),
    Column("digest", LargeBinary, nullable=False, comment="The same for copies with equally many attempts."),
    Column(
        "state",
        String(20),
        nullable=False,
        comment="dead, waiting, did_it, nothing_to_do, died_again or dropped.",
    ),
    Column("state_since", _instant, nullable=False, server_default=func.now()),
    Column("message_id", Text, comment="NULL: the bytes are no message.", info=FREE_TEXT),
    Column("actor", Text, comment="The actor that it names; NULL: the bytes are no message."),
    Column("queue", Text, nullable=False, comment="The queue that it came from."),
    Column("arguments", JSONB, comment="NULL: the bytes are no message.", info=FREE_TEXT),
    Column("zodiac_sign", String(20), comment="From its arguments; NULL: they name none."),
    Column("day", Date, comment="From its arguments; NULL: they name none."),
    Column(
        "body",
        LargeBinary,
        nullable=False,
        comment="As replays publish it, or bytes that are no message.",
        info=FREE_TEXT,
    ),
    Column("masked", Boolean, nullable=False, comment="It held a secret, which is not kept."),
    Column("cause", String(30), nullable=False),
    Column("error_type", Text, nullable=False, comment="The exception's class; empty: RabbitMQ gave it up."),
    Column("error", Text, nullable=False, comment="In one line.", info=FREE_TEXT),
    Column("traceback", Text, comment="The end of the last one; NULL: nothing was raised.", info=FREE_TEXT),
    Column("fingerprint", String(16), nullable=False, comment="The same for failures of one kind."),
    Column(
        "attempts",
        JSONB,
        nullable=False,
        comment="When, where, how long and why each failed.",
        info=FREE_TEXT,
    ),
    Column("release", Text, nullable=False, comment="Of the code that gave it up."),
    Column("host", Text, nullable=False),
    Column("published_at", _instant, comment="NULL: unknown."),
    Column("died_at", _instant, nullable=False),
    Column("archived_at", _instant, nullable=False, server_default=func.now()),
    Column("replays", Integer, nullable=False, server_default=text("0"), comment="Before this death."),
    Column("parent", BigInteger, comment="The dead letter whose replay died as this one."),
    Column("said_by", Text, comment="Who dropped it."),
    Column("said", Text, comment="Why it was dropped.", info=FREE_TEXT),
    Column("imported_at", _instant, comment="When it was imported from a file."),
    Column(
        "done",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="When it was last judged, a replay of it had nothing left to do.",
    ),
    Index("ix_dead_letters_fingerprint", "fingerprint", "state", "release", "died_at", "actor"),
    Index("ix_dead_letters_state", "state", "id"),
    Index("ix_dead_letters_done", "id", postgresql_where=text("done AND state = 'dead'")),
    Index("ix_dead_letters_digest", "digest", postgresql_using="hash"),
    comment="Messages that finally failed, each with all that is known of its death.",
)

dead_letter_edits = Table(
    "dead_letter_edits",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column(
        "letter", BigInteger, ForeignKey("dead_letters.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("actor", Text, nullable=False),
    Column("arguments", JSONB, nullable=False, info=FREE_TEXT),
    Column("edited_by", Text, nullable=False),
    Column("edited_at", _instant, nullable=False, server_default=func.now()),
    comment="Edits of dead letters; a replay publishes the last one of its letter.",
)

dead_letter_notes = Table(
    "dead_letter_notes",
    metadata,
    Column("fingerprint", String(16), primary_key=True),
    Column("note", Text, nullable=False, info=FREE_TEXT),
    Column("noted_by", Text, nullable=False),
    Column("noted_at", _instant, nullable=False, server_default=func.now()),
    comment="Notes on groups of dead letters.",
)

replay_runs = Table(
    "replay_runs",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("state", String(10), nullable=False, comment="running, cancelling, cancelled or finished."),
    Column("queues", ARRAY(Text), nullable=False, comment="Each queue has one run at a time."),
    Column("rate", Integer, nullable=False, comment="Messages a second at the most."),
    Column("what", Text, nullable=False, comment="The selected letters, in words.", info=FREE_TEXT),
    Column("why", Text, nullable=False, info=FREE_TEXT),
    Column("started_by", Text, nullable=False),
    Column("started_at", _instant, nullable=False, server_default=func.now()),
    Column("cancelled_by", Text),
    Column("ended_at", _instant, comment="When the last message was published."),
    Column("token", BigInteger, nullable=False, comment="Fencing token: grows with every takeover."),
    Column("holder", Text, nullable=False, comment="The process that runs it: host and pid."),
    Column("expires_at", _instant, nullable=False, comment="When another process may take it over."),
    comment="Orders to publish dead letters again.",
)

replays = Table(
    "replays",
    metadata,
    Column("id", Uuid, primary_key=True, comment="Travels with the message."),
    Column("run", BigInteger, ForeignKey("replay_runs.id", ondelete="CASCADE"), nullable=False),
    Column("letter", BigInteger, ForeignKey("dead_letters.id", ondelete="CASCADE"), nullable=False),
    Column("edit", BigInteger, comment="The edit that was published; NULL: the message as it died."),
    Column(
        "state",
        String(20),
        nullable=False,
        comment="planned, publishing, published, did_it, nothing_to_do, died_again, cancelled or superseded.",
    ),
    Column("published_at", _instant),
    Column("ended_at", _instant),
    Column("died_as", BigInteger, comment="The dead letter that it became."),
    Index("ix_replays_run_state", "run", "state", "letter"),
    Index(
        "uq_replays_open",
        "letter",
        unique=True,
        postgresql_where=text("state IN ('planned', 'publishing', 'published')"),
    ),
    Index("ix_replays_letter", "letter"),
    comment="The replays of dead letters, each with its outcome.",
)

suspects = Table(
    "suspects",
    metadata,
    Column("queue", Text),
    Column("message_id", Text),
    Column("begun", JSONB, nullable=False, comment="When and where each unfinished attempt began."),
    Column("seen_at", _instant, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("queue", "message_id"),
    comment="Redelivered messages that are being handled; each had lost its worker.",
)

paused_queues = Table(
    "paused_queues",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("paused_by", Text, nullable=False),
    Column("why", Text, nullable=False, info=FREE_TEXT),
    Column("paused_at", _instant, nullable=False, server_default=func.now()),
    comment="Queues that no worker consumes until a person resumes them.",
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("name", Text, nullable=False, unique=True, comment="What a person signs in with."),
    Column("role", String(10), nullable=False, comment="viewer, operator or admin."),
    Column("password_hash", Text, nullable=False, comment="By Argon2id, with its salt and parameters."),
    Column("created_at", _instant, nullable=False, server_default=func.now()),
    Column(
        "password_at",
        _instant,
        nullable=False,
        server_default=func.now(),
        comment="When the password was set.",
    ),
    Column("disabled_at", _instant, comment="NULL: one may sign in to it."),
    comment="The people who may use the operators' page.",
)

sessions = Table(
    "sessions",
    metadata,
    Column("digest", LargeBinary, primary_key=True, comment="Of the cookie's token, which is not stored."),
    Column(
        "account",
        BigInteger,
        ForeignKey("accounts.id", ondelete="CASCADE"),
        index=True,
        comment="NULL: the account that ADMIN_PASSWORD opens.",
    ),
    Column("stamp", LargeBinary, comment="A digest of ADMIN_PASSWORD, where it opened the session."),
    Column("origin", Text, nullable=False, comment="The address that signed in."),
    Column("began_at", _instant, nullable=False),
    Column("seen_at", _instant, nullable=False, comment="When a page was last opened, to ten minutes."),
    comment="The browsers that have signed in to the operators' page; a row that is deleted signs one out.",
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("name", Text, nullable=False, comment="What it is for."),
    Column("role", String(10), nullable=False, comment="viewer, operator or admin."),
    Column("digest", LargeBinary, nullable=False, unique=True, comment="Of the token, which is not stored."),
    Column("created_by", Text, nullable=False),
    Column("created_at", _instant, nullable=False, server_default=func.now()),
    Column("expires_at", _instant, nullable=False),
    Column("used_at", _instant, comment="When it was last used, to the minute."),
    Column("revoked_at", _instant, comment="NULL: it was not revoked."),
    Index("uq_api_tokens_name", "name", unique=True, postgresql_where=text("revoked_at IS NULL")),
    comment="What scripts read the JSON API with.",
)

sign_in_attempts = Table(
    "sign_in_attempts",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("at", _instant, nullable=False, server_default=text("clock_timestamp()")),
    Column("account", Text, nullable=False, comment="Empty: there is no account of the name."),
    Column("address", Text, nullable=False, comment="The addresses that one person may have."),
    Column("device", Text, comment="The browser's device cookie; NULL: it has none for this account."),
    Column("known", Boolean, nullable=False, comment="The account has signed in from there before."),
    Column(
        "failed", Boolean, nullable=False, comment="False: it is under way; if it succeeds, it is deleted."
    ),
    Index("ix_sign_in_attempts_at", "at"),
    comment="Attempts to sign in that failed lately, or are under way.",
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", _instant, nullable=False, server_default=text("clock_timestamp()")),
    Column("act", Uuid, nullable=False, index=True, comment="The same for the rows of one act."),
    Column("who", Text, nullable=False, comment="An account, or the name given on the command line."),
    Column(
        "role", String(10), nullable=False, comment="viewer, operator, admin, or shell: the command line."
    ),
    Column(
        "origin", Text, nullable=False, comment="The browser's address, or the command line's user and host."
    ),
    Column("what", String(40), nullable=False, comment="The act, such as queue.pause."),
    Column("subject", Text, nullable=False, comment="What it was done to."),
    Column("before", JSONB, comment="What was there before; NULL: nothing to tell."),
    Column("after", JSONB, comment="What was there afterwards; NULL: nothing to tell."),
    Column("outcome", String(10), nullable=False, comment="begun, done, refused or failed."),
    Column("detail", Text, nullable=False, comment="Why it was refused or failed."),
    Index("ix_audit_at", "at"),
    Index("ix_audit_who", "who", "what", "at"),
    comment="Who did what. Nobody changes a row; one is deleted after 400 days, by prune_audit().",
    info={GRANTED: "SELECT, INSERT"},
)
