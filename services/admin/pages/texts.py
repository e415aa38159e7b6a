"""The page of one text, and the order to write it again."""

from datetime import date

import structlog
from sqlalchemy import text
from starlette.exceptions import HTTPException
from starlette.responses import Response

from schema.messages import GenerateHoroscope
from schema.signs import Sign
from services.admin.auth import remote
from services.admin.pages.page import Act, Question, Visit
from services.days import ONE_DAY, day_in, days_to_write, first_day_alive
from services.status import read_day

log = structlog.get_logger(__name__)

_CONTENT = text("SELECT content FROM horoscope_cache WHERE zodiac_sign = :sign AND horoscope_date = :day")


async def _look(visit: Visit) -> Question:
    sign, day = _sign_and_day(visit)
    async with visit.site.database.transaction() as connection:
        texts = await read_day(connection, day)
        content = (await connection.execute(_CONTENT, {"sign": sign.value, "day": day})).scalar()
    status = next(each for each in texts.signs if each.sign == sign)
    over = day < first_day_alive(visit.site.clock())
    return Question(
        basis=status.generated_at.isoformat() if status.generated_at else "",
        back="/#texts",
        values={"sign": sign, "day": day, "status": status, "content": content, "over": over},
        possible=not over,
    )


async def _order(visit: Visit, question: Question) -> Response:
    sign, day = _sign_and_day(visit)
    replaces = question.values["status"].generated_at
    visit.entry.before = {"written": replaces}
    confirmed = await visit.site.bus.publish(GenerateHoroscope(sign, day, replaces=replaces))
    log.info(
        "admin.ordered",
        sign=sign,
        day=day,
        replaces=replaces,
        confirmed=confirmed,
        remote=remote(visit.request),
    )
    visit.entry.after = {"ordered": "confirmed" if confirmed else "parked"}
    wording = visit.site.rendering.wording(visit.request)
    values = {"sign": wording.sign(sign), "day": wording.on(day)}
    note = (
        visit.gettext(
            "Ordered: %(sign)s, %(day)s. RabbitMQ has confirmed it; a worker begins when it is its turn.",
            **values,
        )
        if confirmed
        else visit.gettext(
            "Accepted: %(sign)s, %(day)s. RabbitMQ takes no messages now; the order is kept and goes out "
            "when it is back.",
            **values,
        )
    )
    return visit.done("/", note)


def _sign_and_day(visit: Visit) -> tuple[Sign, date]:
    """The sign and the day in the path; 404 if no such text is shown."""
    now, home, path = visit.site.clock(), visit.site.home, visit.request.path_params
    try:
        sign, day = Sign(path["sign"]), date.fromisoformat(path["day"])
    except ValueError:
        raise HTTPException(404) from None
    if str(day) != path["day"]:
        raise HTTPException(404)  # a date can be written in several ways; each page has one address
    if not day_in(home, now) - ONE_DAY <= day <= days_to_write(now, home)[-1]:
        raise HTTPException(404)
    return sign, day


#: ``/texts/{day}/{sign}``: order the text, in the place of the one that was shown.
WRITE = Act("text.html", _look, _order)
