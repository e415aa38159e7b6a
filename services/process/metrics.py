"""Every metric that a process counts, defined once; ``/metrics`` tells them, see :mod:`services.health`.

What concerns the whole service rather than one process is read when it is asked for: see
:mod:`services.admin.metrics`. A label holds one of a few known words, never a reader, a text or a name that
came from outside. Where those words are known their series begin with 0: otherwise the first time that
something happens would not look like an increase.
"""

from prometheus_client import Counter, Gauge, Histogram, Info, disable_created_metrics

from schema.messages import DELIVERY, GENERATION, REQUESTS, TICKS, VIEWS

# When each series began, told once more for every series: nobody asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]

#: Those that workers consume.
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
TELEGRAM_CALLS = Counter(
    "horoscope_telegram_calls_total",
    "Calls to Telegram, fetching updates not among them: done; pause, when Telegram asks to wait; gone, when the "
    "reader has blocked the bot; refused, also an edit that changes nothing; unavailable.",
    ["outcome"],
)

# Messages on their way.

PUBLISHED = Counter(
    "horoscope_published_total",
    "Messages that RabbitMQ confirmed, or failed to confirm. The queue is `other` for one made for a single pause.",
    ["queue", "outcome"],
)
PARKED = Counter(
    "horoscope_parked_total", "Messages that RabbitMQ did not take and PostgreSQL keeps.", ["queue"]
)
UNPARKED = Counter("horoscope_unparked_total", "Parked messages that were sent after all.", ["queue"])
HELD = Gauge(
    "horoscope_held_messages", "Messages held in this process's memory: RabbitMQ and PostgreSQL are away."
)
LOST = Counter(
    "horoscope_lost_messages_total",
    "Messages given up because both servers were away until the memory for them was full.",
    ["queue"],
)

# The worker.

MESSAGES = Counter(
    "horoscope_messages_total",
    "Messages handled, a batch's one by one: done; retried, on a rung of the ladder; put_back, which counts as no "
    "try; dead, as a dead letter; dropped, since what is left undone is on record.",
    ["queue", "message", "outcome"],
)
MESSAGE_SECONDS = Histogram(
    "horoscope_message_seconds",
    "Seconds of one call of a handler, whatever came of it; a batch is one call.",
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
    "Calls to the model: answered; rejected, an answer that holds no whole text; unavailable; refused, for us or "
    "our request.",
    ["outcome"],
)
MODEL_SECONDS = Histogram(
    "horoscope_model_seconds",
    "Seconds of one call to the model, whatever came of it.",
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
