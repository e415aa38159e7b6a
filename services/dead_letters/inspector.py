"""Everything that the command line and the page need to deal with dead letters."""

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
    """Looks dead letters up, changes them and replays them."""

    records: Records
    edits: Edits
    replays: Replays


def make_inspector(database: Database, actors: Mapping[str, type[Message]], clock: Clock) -> Inspector:
    """The inspector of a database; ``actors`` has the message that each actor answers, by the actor's name."""
    preflight = Preflight(database, actors, clock)
    records = Records(database, preflight)
    return Inspector(records, Edits(database, records, preflight), Replays(database, preflight))
