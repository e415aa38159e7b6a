"""Reader profiles: sign, time zone and language."""

from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from schema.signs import Language, Sign
from services.database.pool import Database

_CHOOSE_SIGN = text("""
    INSERT INTO readers (telegram_id, zodiac_sign, language) VALUES (:reader, :sign, :language)
    ON CONFLICT (telegram_id) DO UPDATE
    SET zodiac_sign = excluded.zodiac_sign, language = excluded.language, blocked_at = NULL
""")
# PostgreSQL tries the time zone at once: its list may differ from Python's.
_CHOOSE_ZONE = text("""
    INSERT INTO readers (telegram_id, time_zone, language)
    SELECT :reader, :zone, :language WHERE now() AT TIME ZONE CAST(:zone AS text) IS NOT NULL
    ON CONFLICT (telegram_id) DO UPDATE
    SET time_zone = excluded.time_zone, language = excluded.language, blocked_at = NULL
""")
_ZONE = text("SELECT time_zone FROM readers WHERE telegram_id = :reader")
_BLOCKED = text("UPDATE readers SET blocked_at = COALESCE(blocked_at, now()) WHERE telegram_id = :reader")
_UNBLOCKED = text("UPDATE readers SET blocked_at = NULL WHERE telegram_id = :reader")


class Readers:
    """Stores reader profiles. ``home`` is the time zone of readers who have not chosen one."""

    def __init__(self, database: Database, home: ZoneInfo) -> None:
        self._database = database
        self._home = home

    async def choose_sign(self, reader: int, sign: Sign, language: Language) -> None:
        """Store a reader's sign; for most readers this creates the profile."""
        async with self._database.transaction() as connection:
            await connection.execute(_CHOOSE_SIGN, {"reader": reader, "sign": sign, "language": language})

    async def choose_zone(self, reader: int, zone: str, language: Language) -> bool:
        """Store a reader's IANA time zone; False: PostgreSQL does not know it."""
        try:
            async with self._database.transaction() as connection:
                await connection.execute(_CHOOSE_ZONE, {"reader": reader, "zone": zone, "language": language})
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == "22023":  # invalid_parameter_value
                return False
            raise
        return True

    async def zone(self, reader: int) -> ZoneInfo:
        """The time zone that a reader's days follow."""
        async with self._database.transaction() as connection:
            name = (await connection.execute(_ZONE, {"reader": reader})).scalar()
        return ZoneInfo(name) if name else self._home

    async def blocked(self, reader: int) -> None:
        """Note that the reader has blocked the bot."""
        async with self._database.transaction() as connection:
            await connection.execute(_BLOCKED, {"reader": reader})

    async def unblocked(self, reader: int) -> None:
        """Note that the reader has unblocked the bot."""
        async with self._database.transaction() as connection:
            await connection.execute(_UNBLOCKED, {"reader": reader})
