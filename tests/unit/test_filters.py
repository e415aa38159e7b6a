"""Filters of dead letters, as people type them."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from schema.signs import Sign
from services.dead_letters.filters import Filter, InvalidFilter, parse_filter, read_query

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
HOME = ZoneInfo("Europe/Moscow")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, Filter()),
        ({"state": "any"}, Filter(state=None)),
        ({"state": "Dropped"}, Filter(state="dropped")),
        ({"verdict": "done"}, Filter(verdict="done")),
        ({"sign": "LEO", "day": "2026-11-28"}, Filter(sign=Sign.LEO, day=date(2026, 11, 28))),
        ({"since": "2h"}, Filter(since=NOW - timedelta(hours=2))),
        ({"until": "2026-11-27 10:00"}, Filter(until=datetime(2026, 11, 27, 7, tzinfo=UTC))),
        ({"text": " of no use\0 ", "error": ""}, Filter(text="of no use")),
        ({"run": "7", "before": "3"}, Filter(run=7)),
    ],
)
def test_a_filter_is_read_from_what_was_typed(given: dict[str, str], wanted: Filter) -> None:
    assert parse_filter(given, NOW, HOME) == wanted


def test_a_filter_names_letters_and_a_default_state() -> None:
    assert parse_filter({}, NOW, HOME, ids=[5, 2], state=None) == Filter(ids=(5, 2), state=None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"state": "gone"}, "state: 'gone' is not one of dead, waiting,"),
        ({"verdict": "hopeless"}, "verdict: 'hopeless' is not one of ready, unfit, done,"),
        ({"sign": "cat"}, "sign: 'cat' is not one of aries,"),
        ({"day": "2026-02-30"}, "day: '2026-02-30' is not a day such as"),
        ({"since": "soon", "run": "0"}, "since: 'soon' is not a date or time such as .*; run: '0' is not the number"),
        ({"until": "9999999999d"}, "until: '9999999999d' is not a date or time"),
        ({"text": "\udcff"}, "text: .* is not text in UTF-8"),
    ],
)  # fmt: skip
def test_an_error_names_each_condition_and_what_is_expected(given: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidFilter, match=f"^{said}") as raised:
        parse_filter(given, NOW, HOME)
    assert raised.value.faults.keys() == given.keys()


def test_the_query_of_an_address_keeps_the_conditions_that_are_understood() -> None:
    query = read_query({"verdict": "done", "since": "2h", "day": "x", "state": "any"}, [], NOW, HOME)
    assert (query.wanted.verdict, set(query.faults), query.is_definite) == ("done", {"day"}, False)
    assert query.written == "since=2026-11-27T10%3A00%3A00%2B00%3A00&verdict=done&state=any"


def test_letters_that_an_address_names_go_before_its_conditions() -> None:
    query = read_query({"verdict": "done"}, ["7,5", "5"], NOW, HOME)
    assert (query.wanted, query.written) == (Filter(ids=(5, 7), state=None), "id=5%2C7")
    for wrong in (["x"], [",".join(map(str, range(1, 1002)))], ["0"]):
        assert read_query({}, wrong, NOW, HOME).faults.keys() == {"id"}
