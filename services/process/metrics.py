"""The metrics that a process counts, all defined here; :mod:`services.health` serves them at ``/metrics``.

Metrics of the whole service are read from PostgreSQL and RabbitMQ at each scrape: see
:mod:`services.admin.metrics`. Label values come from small fixed sets, never from readers, texts or other input.
Series with known labels are created at 0; otherwise their first event would not show as an increase.
"""

from prometheus_client import Counter, Gauge, Histogram, Info, disable_created_metrics

from schema.messages import DELIVERY, GENERATION, REQUESTS, TICKS, VIEWS

# Unused: one more series for every series, with the time when it was created.
disable_created_metrics()  # type: ignore[no-untyped-call]

#: The queues that workers consume.
QUEUES = (VIEWS, REQUESTS, GENERATION, DELIVERY, TICKS)

PROCESS = Info("horoscope_process", "Which process this is: its kind and the release of its code.")
CONNECTED = Gauge(
    "horoscope_connected",
    "1 while this process reaches postgresql (and finds it migrated) or rabbitmq, else 0; as of this scrape.",
    ["server"],
)

# The bot.

ANSWER_SECONDS = Histogram(
    "horoscope_answer_seconds",
    "Seconds from an update's arrival to its answer with a text, by where the text came from: cache or memory.",
    ["source"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5),
)
MISSING = Counter("horoscope_missing_total", "Readers who found their text missing and have to wait for it.")
UNDER_WAY = Gauge(
    "horoscope_updates_under_way", "Updates that are being handled, or wait for an earlier one."
)
PASSED_OVER = Counter(
    "horoscope_updates_passed_over_total",
    "Updates that were not answered, because their reader or their chat sends too many.",
)
KEPT = Counter(
    "horoscope_updates_kept_total",
    "Updates that took long, and were put on record in PostgreSQL so that they hold up nobody.",
)
AT_RISK = Counter(
    "horoscope_updates_at_risk_total",
    "Updates that took long while PostgreSQL was away, and were confirmed so that they hold up nobody: they are lost if "
    "the bot is killed before they finish.",
)
TELEGRAM_CALLS = Counter(
    "horoscope_telegram_calls_total",
    "Calls to Telegram except getUpdates: done; pause, Telegram asked to wait; gone, the reader has blocked the bot; "
    "refused, also an edit that changes nothing; unavailable.",
    ["outcome"],
)

# Publishing.

PUBLISHED = Counter(
    "horoscope_published_total",
    "Messages that RabbitMQ confirmed, or failed to confirm. The queue `other` stands for all pause queues.",
    ["queue", "outcome"],
)
PARKED = Counter("horoscope_parked_total", "Messages parked in PostgreSQL for want of a confirm.", ["queue"])
UNPARKED = Counter("horoscope_unparked_total", "Parked messages that were sent later.", ["queue"])
HELD = Gauge(
    "horoscope_held_messages",
    "Messages held in this process's memory while RabbitMQ and PostgreSQL are both away.",
)
LOST = Counter(
    "horoscope_lost_messages_total",
    "Messages lost because both servers were away, and the process stopped or its memory for them was full.",
    ["queue"],
)

# The worker.

MESSAGES = Counter(
    "horoscope_messages_total",
    "Messages handled, each message of a batch on its own: done; retried, on a rung of the ladder; put_back, which "
    "does not count as an attempt; dead, as a dead letter; dropped, because the failure is on record elsewhere.",
    ["queue", "message", "outcome"],
)
MESSAGE_SECONDS = Histogram(
    "horoscope_message_seconds",
    "Seconds of one call of a handler, successful or not; a batch is one call.",
    ["queue", "message"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
BATCH_MESSAGES = Histogram(
    "horoscope_batch_messages",
    "Messages handed to a batch actor as one call.",
    ["queue"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
)
BATCH_AGE_SECONDS = Histogram(
    "horoscope_batch_age_seconds",
    "Seconds since the oldest message of a batch was first published, when the batch is settled.",
    ["queue"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600),
)
BATCH_SECONDS = Histogram(
    "horoscope_batch_seconds",
    "Seconds from handing a batch to its actor until it is settled.",
    ["queue"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
MODEL_CALLS = Counter(
    "horoscope_model_calls_total",
    "Calls to the model: answered; rejected, the answer holds no complete text; unavailable; refused.",
    ["outcome"],
)
MODEL_SECONDS = Histogram(
    "horoscope_model_seconds",
    "Seconds of one call to the model, successful or not.",
    buckets=(0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 40, 60),
)
MODEL_TOKENS = Counter(
    "horoscope_model_tokens_total", "Tokens of the model, read (prompt) or written (completion).", ["kind"]
)

for _source in ("cache", "memory"):
    ANSWER_SECONDS.labels(_source)
for _outcome in ("done", "pause", "gone", "refused", "unavailable"):
    TELEGRAM_CALLS.labels(_outcome)
for _outcome in ("answered", "rejected", "unavailable", "refused"):
    MODEL_CALLS.labels(_outcome)
for _kind in ("prompt", "completion"):
    MODEL_TOKENS.labels(_kind)
for _queue in QUEUES:
    for _counter in (PARKED, UNPARKED, LOST):
        _counter.labels(_queue)
