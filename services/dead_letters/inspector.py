"""What the command line and the page work with, put together once."""

from collections.abc import Mapping
from dataclasses import dataclass

from schema.messages import Message
from services.database.pool import Database
from services.days import Clock
from services.dead_letters.edits import Edits
from services.dead_letters.preflight import Preflight
from services.dead_letters.records import Records
from services.dead_letters.replays import Replays


@dataclass(frozen=True, slots=True)
class Inspector:
    """Dead letters as people deal with them: looked up, mended, replayed."""

    records: Records
    edits: Edits
    replays: Replays


def make_inspector(database: Database, actors: Mapping[str, type[Message]], clock: Clock) -> Inspector:
    """The inspector on a database.

    Args:
        database: Where the letters are.
        actors: What each actor answers, by its name.
        clock: The time.
    """
    preflight = Preflight(database, actors, clock)
    records = Records(database, preflight)
    return Inspector(records, Edits(database, records, preflight), Replays(database, preflight))
