"""The figures that people decide by."""

from datetime import UTC, date, datetime, time, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from schema.messages import HoroscopeRequested
from schema.signs import Language, Sign
from services.database.pool import Database
from services.readers.activity import CACHE, MEMORY, MISSING, Activity
from services.readers.analytics import Analytics, Trend, day_before, read_analytics
from services.readers.profiles import Readers
from services.readers.views import Views

MOSCOW = ZoneInfo("Europe/Moscow")
BERLIN = ZoneInfo("Europe/Berlin")
DAY = date(2026, 11, 22)
YESTERDAY = DAY - timedelta(days=1)


def at(day: date, hour: int, minute: int = 0, home: ZoneInfo = MOSCOW) -> datetime:
    """An instant, by the clocks at home."""
    return datetime.combine(day, time(hour, minute), home)


async def shown(
    database: Database, when: datetime, *, times: int = 1, sign: Sign = Sign.LEO, day: date | None = None
) -> None:
    """Readers were shown a text; of the day at home unless they live in another one."""
    events = [
        HoroscopeRequested(uuid4(), sign, day or when.date(), answered=True, at=when) for _ in range(times)
    ]
    await Views(database, lambda: when.astimezone(UTC)).count(events)


async def figures(database: Database, now: datetime, home: ZoneInfo = MOSCOW) -> Analytics:
    return await read_analytics(database, lambda: now.astimezone(UTC), home)


async def test_half_a_day_is_held_against_half_of_yesterday(database: Database) -> None:
    await shown(database, at(YESTERDAY, 9), times=10)
    await shown(database, at(YESTERDAY, 18), times=30)
    await shown(database, at(DAY, 8), times=12)
    found = await figures(database, at(DAY, 12, 3))
    assert found.horoscopes_today == 12
    assert found.trend == Trend(at(DAY, 12), 12, 10)
    assert found.trend.change == pytest.approx(0.2)
    assert found.yesterday == 40


async def test_both_days_are_cut_off_at_the_same_minute(database: Database) -> None:
    await shown(database, at(YESTERDAY, 11, 59), times=2)
    await shown(database, at(YESTERDAY, 12, 4), times=100)
    await shown(database, at(DAY, 11, 59), times=3)
    await shown(database, at(DAY, 12, 1), times=5)  # after the cut: in the number, not in the trend
    found = await figures(database, at(DAY, 12, 3))
    assert found.horoscopes_today == 8
    assert (found.trend.today, found.trend.yesterday) == (3, 2)


async def test_the_day_turns_at_midnight_at_home(database: Database) -> None:
    await shown(database, at(YESTERDAY, 0, 1), times=4)
    await shown(database, at(YESTERDAY, 23, 58), times=6)
    before = await figures(database, at(YESTERDAY, 23, 59))
    assert (before.day, before.horoscopes_today, before.yesterday) == (YESTERDAY, 10, 0)
    assert before.trend.change is None

    after = await figures(database, at(DAY, 0, 0))
    assert (after.day, after.horoscopes_today, after.yesterday) == (DAY, 0, 10)
    assert (after.trend.today, after.trend.yesterday) == (0, 0)
    assert [day.views for day in after.week] == [0, 0, 0, 0, 0, 10, 0]

    await shown(database, at(DAY, 0, 2), times=2)
    later = await figures(database, at(DAY, 0, 7))
    assert (later.horoscopes_today, later.trend.today, later.trend.yesterday) == (2, 2, 4)


async def test_a_view_counts_for_the_day_of_its_reader(database: Database) -> None:
    # In Tokyo it is already tomorrow, in New York still yesterday.
    await shown(database, at(YESTERDAY, 20), day=DAY, times=7)
    await shown(database, at(DAY, 2), day=YESTERDAY, times=5)
    await shown(database, at(DAY, 9))
    found = await figures(database, at(DAY, 12))
    assert (found.horoscopes_today, found.yesterday) == (8, 5)
    # By the hour, the same views are counted: those that were shown before midnight stand beside the hours.
    assert [(hour.hour, hour.today) for hour in found.hours if hour.today] == [(9, 1)]
    assert [(hour.hour, hour.yesterday) for hour in found.hours if hour.yesterday] == []


async def test_hours_that_have_not_begun_have_no_number(database: Database) -> None:
    found = await figures(database, at(DAY, 12, 30))
    assert [hour.today for hour in found.hours] == [0] * 13 + [None] * 11


async def test_each_sign_has_its_number_and_its_own_trend(database: Database) -> None:
    await shown(database, at(YESTERDAY, 9), times=4)
    await shown(database, at(DAY, 9), times=2)
    await shown(database, at(DAY, 9), times=3, sign=Sign.PISCES)
    found = await figures(database, at(DAY, 12))
    assert [each.sign for each in found.signs] == list(Sign)
    by_sign = {each.sign: each for each in found.signs}
    assert (by_sign[Sign.LEO].views, by_sign[Sign.LEO].trend.change) == (2, -0.5)
    assert (by_sign[Sign.PISCES].views, by_sign[Sign.PISCES].trend.change) == (3, None)
    assert by_sign[Sign.ARIES].views == 0


@pytest.mark.parametrize(
    ("day", "hours"),
    [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 3, 30), 24)],
)
def test_the_same_time_of_the_day_before_is_told_by_the_clocks_at_home(day: date, hours: int) -> None:
    noon = at(day, 12, home=BERLIN)
    before = day_before(noon.astimezone(UTC), BERLIN)
    assert before == at(day - timedelta(days=1), 12, home=BERLIN)
    assert noon.astimezone(UTC) - before.astimezone(UTC) == timedelta(hours=hours)


async def test_the_hours_of_a_day_that_clocks_make_longer_are_all_in_the_curve(database: Database) -> None:
    autumn = date(2026, 10, 25)
    midnight = at(autumn, 0, home=BERLIN).astimezone(UTC)
    for hour in range(25):
        await shown(database, midnight + timedelta(hours=hour, minutes=30), day=autumn)
    found = await figures(database, at(autumn, 23, 59, home=BERLIN), BERLIN)
    assert [hour.today for hour in found.hours] == [1, 1, 2, *[1] * 21]


class TestActivity:
    async def test_a_reader_is_active_once_a_day_whichever_bots_they_ask(
        self, database: Database, sql: asyncpg.Connection
    ) -> None:
        readers = Readers(database, MOSCOW)
        for reader in (1, 2, 3):
            await readers.choose_sign(reader, Sign.LEO, Language.RU)
        bots = [Activity(database, lambda: at(DAY, 12), MOSCOW) for _ in range(2)]
        for bot in bots:
            bot.note_request(1, DAY)
            bot.note_request(1, DAY)
            bot.note_request(404, DAY)  # nobody that we know
        bots[1].note_request(2, DAY)
        bots[1].note_request(3, YESTERDAY)
        for bot in (*bots, *bots):
            await bot.write()
        found = await figures(database, at(DAY, 12))
        assert found.readers_today == 2
        assert found.week[-2].readers == 1
        # Who flies west is not new to a day that they have been counted in.
        bots[0].note_request(2, YESTERDAY)
        await bots[0].write()
        assert [day.readers for day in (await figures(database, at(DAY, 12))).week[-2:]] == [1, 2]

    async def test_answers_are_told_by_source_and_time(self, database: Database) -> None:
        activity = Activity(database, lambda: at(DAY, 12), MOSCOW)
        for _ in range(98):
            activity.note_answer(CACHE, 0.004)
        activity.note_answer(MEMORY, 0.004)
        activity.note_answer(CACHE, 0.4)
        for _ in range(25):
            activity.note_answer(MISSING)
        await activity.write()
        await activity.write()
        found = await figures(database, at(DAY, 12))
        assert (found.answered, found.waited, found.from_cache) == (100, 25, 0.8)
        assert found.p50_s == pytest.approx(0.004, rel=0.2)
        assert found.p99_s == pytest.approx(0.004, rel=0.2)

    async def test_what_could_not_be_put_on_record_is_put_there_later(
        self, database: Database, free_port: int
    ) -> None:
        activity = Activity(database, lambda: at(DAY, 12), MOSCOW)
        await Readers(database, MOSCOW).choose_sign(1, Sign.LEO, Language.RU)
        activity.note_request(1, DAY)
        activity.note_answer(CACHE, 0.01)
        async with Database(f"postgresql://127.0.0.1:{free_port}/nothing") as nowhere:
            activity._database = nowhere
            with pytest.raises(Exception, match="cannot be reached"):
                await activity.write()
        activity._database = database
        activity.note_answer(CACHE, 0.01)
        await activity.write()
        found = await figures(database, at(DAY, 12))
        assert (found.readers_today, found.answered) == (1, 2)

    async def test_of_a_day_without_readers_nothing_is_told(self, database: Database) -> None:
        found = await figures(database, at(DAY, 12))
        assert (found.horoscopes_today, found.from_cache, found.p50_s, found.p99_s) == (0, None, None, None)
