"""A model that does wrong to the end of the ladder: what the reader sees, and what the operator."""

import pytest

from schema.messages import DEAD_LETTERS, GENERATION, GenerateDay
from tests.acceptance.conftest import AGAIN, FAILED, GENERATING, heading
from tests.faults.conftest import WORK, Scene
from tests.waiting import until_sql, until_views

#: What the operator is told, by kind of trouble.
REASONS = {
    "hang": "the model gave no answer within 2 s",
    "429": "the model's server answered 429",
    "500": "the model's server answered 500",
    "empty": "text rejected by the rule 'length': it is empty",
    "refusal": "text rejected",
    "english": "text rejected by the rule 'script'",
}
IMPATIENT = {"services.horoscopes.model:ANSWER_TIMEOUT_S": 2}


@pytest.mark.parametrize(("kind", "reason"), REASONS.items(), ids=REASONS)
async def test_after_the_ladder_the_reader_is_told_and_the_operator_is_told_why(
    scene: Scene, kind: str, reason: str
) -> None:
    trouble = scene.sandbox.model.faults.add(kind)
    await scene.processes.workers(queues=(*WORK, DEAD_LETTERS), constants=IMPATIENT)
    reader = await scene.ask()
    await reader.wait_for(lambda messages: FAILED in messages[-1].text)
    letter = await scene.dead.next()
    assert letter.cause == "ladder exhausted"
    assert reason in letter.error
    assert len(letter.attempts) == 4, "one first try and three retries"
    row = await scene.sql.fetchrow("SELECT state, error FROM generations WHERE zodiac_sign = 'leo'")
    assert row["state"] == "given_up"
    assert reason in row["error"]
    await until_views(scene.sql, 0)

    scene.sandbox.model.faults.remove(trouble.id)
    # After nonsense the reader was told to wait for some minutes; they have passed.
    await scene.sql.execute("UPDATE generations SET again_at = now()")
    await scene.bot_handles(await reader.press(AGAIN))
    await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)
    await until_views(scene.sql, 1)
    await scene.at_rest()
    (message,) = reader.received
    said = [text.partition("\n")[0] for text in message.texts]
    assert [said[0], said[2]] == [GENERATING] * 2
    assert FAILED in said[1]
    assert heading("Лев") in said[3]
    assert len(said) == 4
    assert await scene.dead.count() == 1, "the one of the first time"


async def test_two_signs_of_one_day_never_have_the_same_text(scene: Scene) -> None:
    await scene.sql.execute(
        "DELETE FROM horoscope_cache WHERE zodiac_sign = 'virgo' AND horoscope_date = $1", scene.today
    )
    # Virgo's first try brings Leo's text; the next rung brings one of its own.
    scene.sandbox.model.faults.add("same", times=2)
    await scene.processes.workers(queues=WORK)
    scene.queues.publish(GenerateDay(scene.today))
    texts = "SELECT count(DISTINCT content) FROM horoscope_cache WHERE horoscope_date = $1"
    await until_sql(scene.sql, texts, 12, scene.today)
    await scene.at_rest()
    assert [call.sign for call in scene.sandbox.model.calls] == ["leo", "virgo", "virgo"]
    assert scene.queues.count(f"{GENERATION}.retry.1s") == 0
    assert await scene.dead.count() == 0


async def test_a_model_that_is_busy_for_a_moment_is_asked_again_and_nobody_notices(scene: Scene) -> None:
    for kind in ("429", "503", "hang"):
        scene.sandbox.model.faults.add(kind, times=1)
    await scene.processes.workers(queues=WORK, constants=IMPATIENT)
    await scene.ask()
    await scene.answered_once()
    assert [call.outcome for call in scene.sandbox.model.calls] == ["429", "503", "hang", "ok"]
    assert scene.sandbox.model.max_in_flight == 1
