"""What the command line and the page work with, put together once."""

from collections.abc import Mapping
from dataclasses import dataclass

from schema.messages import Message
from services.database.pool import Database
from services.days import Clock
from services.dead_letters.edits import Mending
from services.dead_letters.preflight import Judge
from services.dead_letters.records import Records
from services.dead_letters.replays import Replays


@dataclass(frozen=True, slots=True)
class Desk:
    """Dead letters as people deal with them: looked up, mended, replayed."""

    records: Records
    mending: Mending
    replays: Replays


def make_desk(database: Database, actors: Mapping[str, type[Message]], clock: Clock) -> Desk:
    """The desk on a database.

    Args:
        database: Where the letters are.
        actors: What each actor answers, by its name.
        clock: The time.
    """
    records = Records(database)
    judge = Judge(actors, clock)
    return Desk(records, Mending(database, records, judge), Replays(database, judge))
