"""The model's tokens and cost, counted with every answer, and the daily token limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from zoneinfo import ZoneInfo

from sqlalchemy import text

from schema.errors import Answer
from schema.sentences import Sentence
from schema.signs import Sign
from services.database.pool import Database
from services.days import Clock, day_in

_MOST_TOKENS = 2_147_483_647  # of one text: the column's limit, whatever a server reports
_MOST_USD = 999_999


def _sum(held: str, added: str, most: int) -> str:
    """SQL: the sum of two values, capped; if one is NULL, the other."""
    total = f"coalesce({held} + {added}, {held}, {added})"
    return f"CASE WHEN {held} + {added} > {most} THEN {most} ELSE {total} END"


# One statement, so that the text's row and the day's sum change together.
_ADD = text(f"""
    WITH answer AS (
        SELECT CAST(:prompt_tokens AS bigint) AS prompt_tokens,
               CAST(:completion_tokens AS bigint) AS completion_tokens,
               CAST(:cost_usd AS numeric) AS cost_usd
    ), of_the_text AS (
        UPDATE generations AS held SET
            calls = held.calls + 1,
            prompt_tokens = {_sum("held.prompt_tokens", "answer.prompt_tokens", _MOST_TOKENS)},
            completion_tokens = {_sum("held.completion_tokens", "answer.completion_tokens", _MOST_TOKENS)},
            cost_usd = {_sum("held.cost_usd", "answer.cost_usd", _MOST_USD)},
            latency_ms = :latency_ms
        FROM answer
        WHERE held.zodiac_sign = :sign AND held.horoscope_date = :day
    )
    INSERT INTO model_usage AS held (spent_on, model, calls, prompt_tokens, completion_tokens, cost_usd)
    SELECT CAST(:spent_on AS date), CAST(:model AS text), 1,
           coalesce(prompt_tokens, 0), coalesce(completion_tokens, 0), cost_usd
    FROM answer
    ON CONFLICT (spent_on, model) DO UPDATE SET
        calls = held.calls + 1,
        prompt_tokens = held.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = held.completion_tokens + excluded.completion_tokens,
        cost_usd = {_sum("held.cost_usd", "excluded.cost_usd", _MOST_USD)}
""")
_SPENT = text("""
    SELECT CAST(coalesce(sum(prompt_tokens + completion_tokens), 0) AS bigint)
    FROM model_usage WHERE spent_on = :today
""")

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Usage:
    """Counts tokens and cost, by text and by day in home time.

    Every method raises :class:`schema.errors.DatabaseUnavailable` while PostgreSQL is away.
    """

    database: Database
    home: ZoneInfo
    clock: Clock
    #: US dollars per million prompt tokens and per million completion tokens; empty: unknown
    prices: Sequence[Decimal]
    daily_limit: int  #: The most tokens of one day, prompt and completion together; 0: no limit

    async def add(self, sign: Sign, day: date, answer: Answer) -> None:
        """Count an answer of the model, whether its text is good or not.

        Tokens that the server did not report count as 0, and then the answer's cost is unknown.
        """
        async with self.database.transaction() as connection:
            await connection.execute(
                _ADD,
                {
                    "sign": sign,
                    "day": day,
                    "spent_on": self._today(),
                    "model": answer.model,
                    "prompt_tokens": answer.prompt_tokens,
                    "completion_tokens": answer.completion_tokens,
                    "cost_usd": self._cost_usd(answer),
                    "latency_ms": answer.latency_ms,
                },
            )

    async def spent_today(self) -> int:
        """The tokens of all answers since midnight in home time."""
        async with self.database.transaction() as connection:
            spent: int = (await connection.execute(_SPENT, {"today": self._today()})).scalar_one()
        return spent

    async def exhausted(self) -> str | None:
        """Why the model must not be called again today; None: it may be.

        Calls in flight are not counted yet, so the limit may be exceeded by their tokens.
        """
        if not self.daily_limit or (spent := await self.spent_today()) < self.daily_limit:
            return None
        return Sentence(
            "the daily limit of %(limit)s tokens is reached: %(spent)s were used today",
            limit=self.daily_limit,
            spent=spent,
        )

    def _today(self) -> date:
        return day_in(self.home, self.clock())

    def _cost_usd(self, answer: Answer) -> Decimal | None:
        if not self.prices or answer.prompt_tokens is None or answer.completion_tokens is None:
            return None
        prompt, completion = self.prices
        cost = (answer.prompt_tokens * prompt + answer.completion_tokens * completion) / _MILLION
        return min(cost, Decimal(_MOST_USD))
