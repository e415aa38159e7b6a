"""Every string that readers see, in both languages."""

from dataclasses import dataclass
from datetime import date

from schema.signs import Language


@dataclass(frozen=True, slots=True)
class Strings:
    """The interface in one language."""

    months: tuple[str, ...]
    date_pattern: str
    welcome: str
    choose_sign: str
    sign_unknown: str
    sign_suggestions: str
    sign_saved: str
    generating: str
    failed: str
    failed_until: str
    try_again: str
    slow_down: str
    today: str
    change_sign: str
    choose_zone: str
    zone_offered: str
    zone_saved: str
    zone_unknown: str
    zone_suggestions: str
    help: str
    hint: str
    forget_question: str
    forget_yes: str
    forget_no: str
    forgotten: str
    kept: str
    forget_outdated: str
    nothing_kept: str
    wait_cancelled: str
    my_data: str
    data_unavailable: str
    only_private: str
    commands: dict[str, str]
    description: str

    def date(self, day: date) -> str:
        """A day in words, such as «22 ноября»."""
        return self.date_pattern.format(day=day.day, month=self.months[day.month - 1])


_RU = Strings(
    months=(
        "января", "февраля", "марта", "апреля", "мая", "июня",
        "июля", "августа", "сентября", "октября", "ноября", "декабря",
    ),
    date_pattern="{day} {month}",
    welcome="Здравствуйте! Каждый день я пишу гороскоп для каждого знака. Кто вы по знаку зодиака?",
    choose_sign="Выберите знак зодиака:",
    sign_unknown="Не знаю знака «{typed}». Выберите из списка:",
    sign_suggestions="Вы имели в виду этот знак?",
    sign_saved="Ваш знак — {sign}.",
    generating="Генерирую гороскоп…",
    failed="Не получилось подготовить гороскоп. Попробуйте ещё раз чуть позже.",
    failed_until="Не получилось подготовить гороскоп. Попробуйте ещё раз через {minutes} мин.",
    try_again="🔁 Попробовать ещё раз",
    slow_down="Вы пишете быстрее, чем я успеваю отвечать. Подождите, пожалуйста, минутку, и я снова отвечу.",
    today="🔮 Гороскоп на сегодня",
    change_sign="Сменить знак",
    choose_zone=(
        "Сейчас для вас {time} ({zone}). Если это не так, выберите город или пришлите его название, "
        "например «Токио», или разницу с UTC, например UTC+9."
    ),
    zone_offered="{zone}, сейчас там {time}. Это ваш часовой пояс?",
    zone_saved="Готово: {zone}, сейчас {time}. Новый гороскоп будет ждать вас в полночь.",
    zone_unknown="Не знаю города или часового пояса «{typed}». Пришлите город, UTC+3 или выберите из списка.",
    zone_suggestions="Не знаю города или часового пояса «{typed}». Может быть, один из этих?",
    help=(
        "Я пишу гороскоп на каждый день.\n\n"
        "/today — гороскоп на сегодня\n"
        "/sign — выбрать знак; можно просто написать его, например «Лев»\n"
        "/timezone — часовой пояс, по которому начинается ваш день\n"
        "/privacy — что я о вас храню\n"
        "/mydata — получить это файлом\n"
        "/forget — удалить всё, что я о вас храню\n"
        "/help — эта подсказка"
    ),
    hint=(
        "Я понимаю названия знаков, например «Лев», и команды: /today — гороскоп на сегодня, "
        "/sign — сменить знак, /help — всё остальное."
    ),
    forget_question=(
        "Удалить всё, что я о вас храню: знак, часовой пояс, язык и ваши запросы?\n\n"
        "Вернуть это будет нельзя. Если вы вернётесь, мы познакомимся заново. "
        "Сообщения в этом чате останутся: их можно удалить в самом Telegram."
    ),
    forget_yes="Да, удалить всё",
    forget_no="Нет, оставить",
    forgotten="Готово: я больше ничего о вас не знаю. Чтобы начать заново, отправьте /start.",
    kept="Хорошо, всё осталось как было.",
    forget_outdated="Эта кнопка устарела, и я ничего не удалил. Чтобы удалить всё, отправьте /forget ещё раз.",
    nothing_kept="Я ничего о вас не храню.",
    wait_cancelled="Этот запрос отменён: вы попросили всё удалить.",
    my_data="Всё, что я о вас храню. Что это и зачем — /privacy, удалить — /forget.",
    data_unavailable="Сейчас не получилось. Попробуйте ещё раз чуть позже.",
    only_private="Это личное: напишите мне то же самое в личном чате.",
    commands={
        "today": "Гороскоп на сегодня",
        "sign": "Выбрать знак",
        "timezone": "Часовой пояс",
        "privacy": "Что я о вас храню",
        "mydata": "Получить свои данные файлом",
        "forget": "Удалить всё обо мне",
        "help": "Что я умею",
    },
    description="Гороскоп на каждый день для вашего знака — сразу и по вашему времени.",
)  # fmt: skip

_EN = Strings(
    months=(
        "January", "February", "March", "April", "May", "June",
        "July", "August", "September", "October", "November", "December",
    ),
    date_pattern="{month} {day}",
    welcome="Hello! Every day I write a horoscope for each sign. Which one is yours?",
    choose_sign="Choose your sign:",
    sign_unknown="I don't know the sign “{typed}”. Choose one below:",
    sign_suggestions="Did you mean this sign?",
    sign_saved="Your sign is {sign}.",
    generating="Writing your horoscope…",
    failed="Your horoscope could not be written. Please try again a little later.",
    failed_until="Your horoscope could not be written. Please try again in {minutes} min.",
    try_again="🔁 Try again",
    slow_down="You write faster than I can answer. Please wait a minute, then I will answer again.",
    today="🔮 Today's horoscope",
    change_sign="Change sign",
    choose_zone=(
        "For you it is {time} now ({zone}). If that is wrong, choose a city or send its name, "
        "such as Tokyo, or your offset, such as UTC+9."
    ),
    zone_offered="{zone}, where it is {time} now. Is this your time zone?",
    zone_saved="Done: {zone}, where it is {time} now. A new horoscope will be waiting at your midnight.",
    zone_unknown="I don't know the city or time zone “{typed}”. Send a city or UTC+3, or choose one below.",
    zone_suggestions="I don't know the city or time zone “{typed}”. Is it one of these?",
    help=(
        "I write a horoscope for every day.\n\n"
        "/today — today's horoscope\n"
        "/sign — choose your sign; you can also just write it, such as Leo\n"
        "/timezone — the time zone in which your day begins\n"
        "/privacy — what I keep about you\n"
        "/mydata — get it as a file\n"
        "/forget — delete everything that I keep about you\n"
        "/help — this text"
    ),
    hint=(
        "I understand these: the name of a sign, such as Leo; /today — today's horoscope; "
        "/sign — change your sign; /help — all the rest."
    ),
    forget_question=(
        "Delete everything that I keep about you: your sign, time zone, language and requests?\n\n"
        "This cannot be undone. If you come back, we start anew. "
        "The messages in this chat stay: you can delete them in Telegram itself."
    ),
    forget_yes="Yes, delete everything",
    forget_no="No, keep it",
    forgotten="Done: I know nothing about you any more. To start anew, send /start.",
    kept="All right, nothing was deleted.",
    forget_outdated="This button is out of date, and nothing was deleted. To delete everything, send /forget again.",
    nothing_kept="I keep nothing about you.",
    wait_cancelled="This request is cancelled: you asked me to delete everything.",
    my_data="Everything that I keep about you. What it is for: /privacy; to delete it: /forget.",
    data_unavailable="That did not work just now. Please try again a little later.",
    only_private="This is personal: please send me the same in a private chat.",
    commands={
        "today": "Today's horoscope",
        "sign": "Choose your sign",
        "timezone": "Time zone",
        "privacy": "What I keep about you",
        "mydata": "Get your data as a file",
        "forget": "Delete everything about me",
        "help": "What I can do",
    },
    description="A horoscope for your sign every day: at once, and by your own clock.",
)  # fmt: skip

STRINGS = {Language.RU: _RU, Language.EN: _EN}


def interface_language(language_code: str | None) -> Language:
    """The interface language for Telegram's ``language_code``: English for English, Russian otherwise."""
    return Language.EN if (language_code or "").lower().startswith("en") else Language.RU
