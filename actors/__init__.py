"""What happens when a message arrives: the whole system as one table."""

from actors import handlers
from actors.table import Actor, Batch
from schema.messages import (
    DEAD_LETTERS,
    DELIVERY,
    GENERATION,
    REQUESTS,
    TICKS,
    VIEWS,
    DeadLetter,
    DeliverHoroscope,
    GenerateDay,
    GenerateHoroscope,
    HoroscopeRequested,
    MidnightTick,
    ReconcileTick,
)
from services.messaging.attempts import Ladder

#: A burst of views is counted in a few transactions; a single view within 50 ms.
VIEWS_AT_ONCE = Batch(size=1000, linger_ms=50, prefetch=2000)
#: Fewer than views: a dead letter may be large.
LETTERS_AT_ONCE = Batch(size=100, linger_ms=50, prefetch=200)

# fmt: off
TABLE = (
    #     message             queue       handler                    ladder
    Actor(HoroscopeRequested, VIEWS,      handlers.count_views,      Ladder.REQUEST, batch=VIEWS_AT_ONCE),
    Actor(HoroscopeRequested, REQUESTS,   handlers.write_requested,  Ladder.REQUEST),
    Actor(GenerateDay,        GENERATION, handlers.order_day,        Ladder.NIGHT),
    Actor(GenerateHoroscope,  GENERATION, handlers.write_ordered,    Ladder.NIGHT),
    Actor(DeliverHoroscope,   DELIVERY,   handlers.answer_waiters,   Ladder.REQUEST),
    Actor(MidnightTick,       TICKS,      handlers.begin_night,      Ladder.NONE),
    Actor(ReconcileTick,      TICKS,      handlers.reconcile,        Ladder.NONE),
    Actor(DeadLetter,         DEAD_LETTERS, handlers.archive,        Ladder.FOREVER, batch=LETTERS_AT_ONCE),
)
# fmt: on

#: The messages that a person may replay, by the name of their actor: all but ``DeadLetter``.
REPLAYABLE = {actor.name: actor.message for actor in TABLE if actor.message is not DeadLetter}
