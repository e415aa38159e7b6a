"""Every string that an operator sees on the page, in both languages."""

from dataclasses import dataclass

from schema.signs import Language
from services.admin.dead_strings import DEAD_STRINGS, DeadStrings

#: The forms of a noun: for 1, 2 and 5 in Russian, for 1 and 2 in English.
Forms = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Strings:
    """The page in one language."""

    product: str
    other_language: str
    skip: str
    pages: dict[str, str]
    sections: str
    sign_out: str
    zone: str
    figures_as_json: str

    refresh: dict[str, str]

    sign_in: str
    sign_in_title: str
    door_label: str
    not_accepted: str
    locked: str
    forward: str
    forward_link: str

    errors: dict[int, str]
    error: str
    back: str

    units: dict[str, str]
    weekdays: tuple[str, ...]
    weekdays_short: tuple[str, ...]
    days: dict[int, str]

    alarms: Forms
    alarms_hint: str
    well: str
    well_as_far_as_known: str
    away: str
    away_ever_since: str
    away_hints: dict[str, str]
    figures_of: str
    nothing_to_show: str

    horoscopes_today: str
    up: str
    down: str
    against: str
    same: str
    none_then: str
    yesterday_in_full: str
    week: str
    readers_on: Forms
    texts_ready: str
    ready_of: str
    readers_today: str
    readers_of: str
    from_cache: str
    from_cache_hint: str
    answer_time: str
    answer_time_hint: str
    waiting: str
    parked: str
    tokens: str
    none: str

    by_hour: str
    by_hour_hint: str
    by_hour_summary: str
    as_table: str
    hour: str
    today: str
    yesterday: str
    running_hour: str
    by_sign: str
    by_sign_hint: str

    texts: str
    texts_hint: str
    sign: str
    states: dict[str, str]
    anew_states: dict[str, str]
    anew_short: str
    attempts: Forms
    attempt_number: str
    ready_count: str
    write_again: str
    trouble: str
    since: str
    next_try: str
    last_error: str
    no_error: str
    ticks: str
    tick_names: dict[str, str]
    tick_never: str
    tick_next: str
    ago: str

    text_title: str
    text_now: str
    text_none: str
    text_over: str
    written_at: str
    state: str
    writer: str
    ask_again: str
    ask_first: str
    ask_again_hint: str
    ask_first_hint: str
    busy_hint: str
    order_again: str
    order_first: str
    cancel: str
    ordered: str
    order_kept: str
    text_changed: str

    queues_hint: str
    queue: str
    messages: str
    at_work: str
    rate_in: str
    rate_out: str
    consumers: str
    oldest: str
    work_queues: str
    waiting_queues: str
    waiting_queues_hint: str
    waiting_none: str
    waiting_empty: Forms
    dead_letters: str
    dead_letters_hint: str
    unmanaged: str
    per_second: str
    per_s: str
    no_queues: str
    queue_paused: str
    queue_pause: str
    queue_pause_hint: str
    queue_why: str
    queue_resume: str
    queue_resume_hint: str
    queue_peek: str
    queue_peek_hint: str
    queue_peek_consumed: str
    queue_peeked: str
    queue_empty: str
    queue_purge: str
    queue_purge_hint: str
    queue_purge_ask: str
    queue_purge_dead: str
    queue_purge_order: str
    queue_changed: str
    queue_notes: dict[str, str]
    no_message: str
    published_at: str
    failed_attempts: str
    redelivered: str

    processes_hint: str
    kinds: dict[str, str]
    kind: str
    host: str
    pid: str
    release: str
    running: str
    last_sign: str
    live: str
    lost: str
    lost_hint: str
    several_releases: str
    no_processes: str

    dead: DeadStrings
    dead_waiting: str


_RU = Strings(
    product="Гороскоп",
    other_language="English",
    skip="К содержанию",
    pages={"today": "Сегодня", "queues": "Очереди", "dead": "Мёртвые письма", "processes": "Процессы"},
    sections="Разделы",
    sign_out="Выйти",
    zone="Время: {zone}",
    figures_as_json="Те же цифры в JSON",
    refresh={
        "pause": "Пауза",
        "resume": "Продолжить",
        "updated": "Обновлено в {time}",
        "paused": "На паузе с {time}",
        "selected": "Обновление ждёт: выделен текст",
        "lost": "Нет связи со страницей; данные от {time}",
        "back": "Связь восстановлена",
        "reload": "Обновить",
    },
    sign_in="Войти",
    sign_in_title="Вход для операторов",
    door_label="Пароль",
    not_accepted="Пароль не подошёл.",
    locked="Слишком много неудачных попыток. Попробуйте снова через {wait}; до тех пор не подойдёт и верный пароль.",
    forward="Открываем страницу…",
    forward_link="Открыть",
    errors={
        400: "Запрос не разобрать.",
        403: "Форма устарела или отправлена не с этой страницы. Ничего не сделано. Вернитесь и попробуйте ещё раз.",
        404: "Такой страницы нет.",
        405: "Так эту страницу не открыть.",
        413: "Слишком большой запрос.",
        500: "На этой странице ошибка. Подробности — в журнале процесса, событие admin.failed.",
        502: "RabbitMQ недоступен: показать нечего, и ничего не сделано. Попробуйте, когда он вернётся.",
        503: "PostgreSQL недоступен: показать нечего, и ничего не заказано. Попробуйте, когда он вернётся.",
    },
    error="Ошибка {status}",
    back="На главную",
    units={"thousands": "тыс.", "ms": "мс", "s": "с", "min": "мин", "h": "ч", "d": "д"},
    weekdays=("понедельник", "вторник", "среда", "четверг", "пятница", "суббота", "воскресенье"),
    weekdays_short=("пн", "вт", "ср", "чт", "пт", "сб", "вс"),
    days={-1: "вчера", 0: "сегодня", 1: "завтра", 2: "послезавтра"},
    alarms=("тревога", "тревоги", "тревог"),
    alarms_hint="Словами команды horoscope status; что делать, сказано в ops/RUNBOOK.md.",
    well="Всё в порядке",
    well_as_far_as_known="Насколько видно, всё в порядке",
    away="{server} недоступен с {time}",
    away_ever_since="{server} недоступен: с {time}, когда эта страница впервые к нему обратилась",
    away_hints={
        "PostgreSQL": (
            "Известно только то, что говорит RabbitMQ: глубина очередей и кто их слушает. Бот отвечает из памяти тем, "
            "кому недавно отвечал. Остальное появится здесь само, как только PostgreSQL вернётся."
        ),
        "RabbitMQ": (
            "Что в очередях, сейчас не видно. Цифры из PostgreSQL верны для всего, что уже посчитано; новые показы "
            "сохраняются и будут учтены, когда RabbitMQ вернётся. Заказы с этой страницы уйдут тогда же."
        ),
    },
    figures_of="Ниже цифры на {time}.",
    nothing_to_show="Без PostgreSQL показать здесь нечего.",
    horoscopes_today="Гороскопов сегодня",
    up="больше на",
    down="меньше на",
    against="ко вчерашнему дню на {time}",
    same="как вчера на {time}",
    none_then="вчера к {time} не было ни одного",
    yesterday_in_full="Вчера за весь день — {views}",
    week="Показы за семь дней",
    readers_on=("читатель", "читателя", "читателей"),
    texts_ready="Тексты",
    ready_of="{ready} из {total}",
    readers_today="Читателей сегодня",
    readers_of="всего с выбранным знаком — {readers}",
    from_cache="Ответов сразу",
    from_cache_hint="остальные ждали, пока текст напишут: {waited}",
    answer_time="Ответ, p50 и p99",
    answer_time_hint="как измерили боты, без тех, кто ждал",
    waiting="ждут ответа: {count}",
    parked="отложено сообщений: {count}",
    tokens="токенов сегодня: {count}",
    none="—",
    by_hour="По часам",
    by_hour_hint="Все показы за час, какой бы день ни был у читателя.",
    by_hour_summary="Показы по часам. Сегодня к {time} — {today}, вчера за весь день — {yesterday}.",
    as_table="Таблицей",
    hour="Час",
    today="Сегодня",
    yesterday="Вчера",
    running_hour="ещё идёт",
    by_sign="По знакам",
    by_sign_hint="Показы сегодняшнего текста и изменение ко вчерашнему дню на {time}.",
    texts="Тексты",
    texts_hint="Готов ли текст каждого знака на каждый день, который где-нибудь идёт или скоро начнётся.",
    sign="Знак",
    states={
        "written": "готов",
        "writing": "пишется",
        "pending": "заказан",
        "retrying": "ждёт повтора",
        "given_up": "не вышло",
        "missing": "нет",
        "over": "день прошёл",
    },
    anew_states={
        "writing": "Пишется новый текст; пока показывается прежний.",
        "retrying": "Новый текст не получился и ждёт повтора; пока показывается прежний.",
        "given_up": "Новый текст не получился; показывается прежний.",
    },
    anew_short="новый: {state}",
    attempts=("попытка", "попытки", "попыток"),
    attempt_number="×{count}",
    ready_count="готово {ready} из {total}",
    write_again="Написать заново",
    trouble="Что не готово",
    since="с {time}",
    next_try="повтор: {time}",
    last_error="Последняя ошибка",
    no_error="ошибок не было",
    ticks="Тики",
    tick_names={"midnight": "полночь", "reconcile": "сверка"},
    tick_never="ещё не было",
    tick_next="следующий: {time}",
    ago="{age} назад",
    text_title="{sign}, {day}",
    text_now="Этот текст сейчас видят читатели",
    text_none="Текста нет.",
    text_over="В этом дне уже никто не живёт: новый текст для него не пишут.",
    written_at="Написан",
    state="Состояние",
    writer="Кто брался",
    ask_again="Написать этот текст заново?",
    ask_first="Заказать этот текст?",
    ask_again_hint=(
        "Заменится только текст «{sign}» на {day}. До готовности нового показывается прежний; кто его уже прочёл, "
        "останется с ним. Новый стоит одного обращения к модели."
    ),
    ask_first_hint="Будет написан только текст «{sign}» на {day}. Это одно обращение к модели.",
    busy_hint="Над этим текстом уже работают. Заказ дождётся своей очереди.",
    order_again="Написать заново",
    order_first="Заказать",
    cancel="Не надо",
    ordered="Заказано: {sign}, {day}. RabbitMQ подтвердил; воркер начнёт, когда подойдёт очередь.",
    order_kept="Принято: {sign}, {day}. RabbitMQ сейчас не берёт сообщения; заказ сохранён и уйдёт, когда он вернётся.",
    text_changed="Этот текст тем временем изменился. Ничего не заказано; посмотрите на новый.",
    queues_hint="Что ждёт обработки, как быстро прибывает и убывает и кто этим занят.",
    queue="Очередь",
    messages="Ждут",
    at_work="В работе",
    rate_in="Приходит",
    rate_out="Уходит",
    consumers="Слушают",
    oldest="Старейшее",
    work_queues="Рабочие",
    waiting_queues="Ждут своего часа",
    waiting_queues_hint="Сообщения, которые будут обработаны ещё раз; по истечении срока RabbitMQ вернёт их сам.",
    waiting_none="Ничего не ждёт повтора.",
    waiting_empty=("пустая очередь", "пустые очереди", "пустых очередей"),
    dead_letters="Мёртвые письма",
    dead_letters_hint="Сообщения, которые больше не обрабатываются. Сами они не исчезают.",
    unmanaged=(
        "Скорости и возраст неизвестны: API управления RabbitMQ не отвечает на {addresses} ({reason}). Укажите его адрес в "
        "RABBITMQ_MANAGEMENT_URL."
    ),
    per_second="в секунду",
    per_s="1/с",
    no_queues="Очередей нет: ни один процесс ещё не запускался.",
    queue_paused="На паузе с {time}: {by}",
    queue_pause="Поставить на паузу",
    queue_pause_hint="Все воркеры перестанут брать сообщения из этой очереди; начатое закончат. Остальные подождут.",
    queue_why="Почему (для того, кто увидит паузу)",
    queue_resume="Снять с паузы",
    queue_resume_hint="Воркеры снова возьмутся за очередь через секунду-другую.",
    queue_peek="Показать старейшие сообщения",
    queue_peek_hint="Они останутся на своих местах.",
    queue_peek_consumed=(
        "Пока очередь слушают, сообщения достались бы воркерам не по порядку: сначала поставьте её на паузу и "
        "подождите, пока её отпустят."
    ),
    queue_peeked="Старейшие сообщения",
    queue_empty="Никто не ждёт.",
    queue_purge="Удалить все сообщения…",
    queue_purge_hint="Навсегда. То, что уже в работе, не затрагивается.",
    queue_purge_ask="Удалить все сообщения очереди {queue}: {count}?",
    queue_purge_dead="Эти письма ещё не в архиве: после удаления их уже не посмотреть и не вернуть в работу.",
    queue_purge_order="Удалить",
    queue_changed="Сообщений тем временем стало больше. Ничего не удалено.",
    queue_notes={
        "paused": "Очередь {queue} на паузе.",
        "resumed": "Очередь {queue} снята с паузы.",
        "purged": "Удалено сообщений из очереди {queue}: {count}.",
    },
    no_message="не сообщение",
    published_at="отправлено {time}",
    failed_attempts="неудачных попыток: {count}",
    redelivered="возвращалось",
    processes_hint="Каждый процесс отмечается сам, раз в {seconds}. Кто молчит дольше {lost}, считается потерянным.",
    kinds={"bot": "Бот", "worker": "Воркер", "scheduler": "Планировщик", "admin": "Админка"},
    kind="Процесс",
    host="Машина",
    pid="PID",
    release="Версия",
    running="Работает",
    last_sign="Отметился",
    live="работает",
    lost="потерян",
    lost_hint="не попрощался",
    several_releases="Работают разные версии: {releases}. Во время обновления это нормально.",
    no_processes="Не отметился ни один процесс.",
    dead=DEAD_STRINGS[Language.RU],
    dead_waiting="ждут решения",
)

_EN = Strings(
    product="Horoscope",
    other_language="Русский",
    skip="Skip to content",
    pages={"today": "Today", "queues": "Queues", "dead": "Dead letters", "processes": "Processes"},
    sections="Sections",
    sign_out="Sign out",
    zone="Times: {zone}",
    figures_as_json="The same figures as JSON",
    refresh={
        "pause": "Pause",
        "resume": "Resume",
        "updated": "Updated at {time}",
        "paused": "Paused since {time}",
        "selected": "Update waits: text is selected",
        "lost": "Connection lost; figures of {time}",
        "back": "Connected again",
        "reload": "Reload",
    },
    sign_in="Sign in",
    sign_in_title="For operators",
    door_label="Password",
    not_accepted="That is not the password.",
    locked="Too many failed tries. Try again in {wait}; until then the right password is refused, too.",
    forward="Opening the page…",
    forward_link="Open it",
    errors={
        400: "The request cannot be understood.",
        403: "The form is out of date or was not sent from this page. Nothing was done. Go back and try again.",
        404: "There is no such page.",
        405: "This page cannot be opened like that.",
        413: "The request is too large.",
        500: "This page has failed. The log of the process says more, at the event admin.failed.",
        502: "RabbitMQ cannot be reached: there is nothing to show, and nothing was done. Try again when it is back.",
        503: "PostgreSQL cannot be reached: there is nothing to show, and nothing was ordered. Try again when it is back.",
    },
    error="Error {status}",
    back="To the first page",
    units={"thousands": "thousands", "ms": "ms", "s": "s", "min": "min", "h": "h", "d": "d"},
    weekdays=("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    weekdays_short=("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
    days={-1: "yesterday", 0: "today", 1: "tomorrow"},
    alarms=("alarm", "alarms"),
    alarms_hint="In the words of horoscope status; ops/RUNBOOK.md says what to do.",
    well="All is well",
    well_as_far_as_known="All is well, as far as can be seen",
    away="{server} has been away since {time}",
    away_ever_since="{server} is away: since {time}, when this page first asked for it",
    away_hints={
        "PostgreSQL": (
            "Only what RabbitMQ says is known: how deep the queues are and who consumes them. The bot answers from memory those "
            "whom it has answered lately. The rest appears here by itself as soon as PostgreSQL is back."
        ),
        "RabbitMQ": (
            "What is in the queues cannot be seen now. The figures from PostgreSQL are right for all that has been counted; new "
            "views are kept and counted when RabbitMQ is back. What is ordered on this page goes out then, too."
        ),
    },
    figures_of="Below are the figures of {time}.",
    nothing_to_show="Without PostgreSQL there is nothing to show here.",
    horoscopes_today="Horoscopes today",
    up="up by",
    down="down by",
    against="against yesterday by {time}",
    same="the same as yesterday by {time}",
    none_then="none yesterday by {time}",
    yesterday_in_full="Yesterday in full: {views}",
    week="Views of seven days",
    readers_on=("reader", "readers"),
    texts_ready="Texts",
    ready_of="{ready} of {total}",
    readers_today="Readers today",
    readers_of="of {readers} who have chosen a sign",
    from_cache="Answered at once",
    from_cache_hint="the others waited for a text: {waited}",
    answer_time="Answer, p50 and p99",
    answer_time_hint="as the bots measured it, without those who waited",
    waiting="waiting for a text: {count}",
    parked="parked messages: {count}",
    tokens="tokens today: {count}",
    none="—",
    by_hour="By the hour",
    by_hour_hint="All that was shown in an hour, whatever day its readers live in.",
    by_hour_summary="Views by the hour. Today by {time}: {today}; yesterday in full: {yesterday}.",
    as_table="As a table",
    hour="Hour",
    today="Today",
    yesterday="Yesterday",
    running_hour="not over yet",
    by_sign="By sign",
    by_sign_hint="Views of today's text, and the change against yesterday by {time}.",
    texts="Texts",
    texts_hint="Is the text of each sign ready for every day that is lived in somewhere, or soon will be?",
    sign="Sign",
    states={
        "written": "written",
        "writing": "writing",
        "pending": "ordered",
        "retrying": "retrying",
        "given_up": "given up",
        "missing": "missing",
        "over": "day is over",
    },
    anew_states={
        "writing": "A new text is being written; until it is there, this one is shown.",
        "retrying": "A new text has failed and waits for its next try; until it is there, this one is shown.",
        "given_up": "A new text has failed for good; this one is shown.",
    },
    anew_short="new one: {state}",
    attempts=("attempt", "attempts"),
    attempt_number="×{count}",
    ready_count="{ready} of {total} ready",
    write_again="Write again",
    trouble="What is not ready",
    since="since {time}",
    next_try="next try: {time}",
    last_error="Last error",
    no_error="no errors",
    ticks="Ticks",
    tick_names={"midnight": "midnight", "reconcile": "reconcile"},
    tick_never="never yet",
    tick_next="next: {time}",
    ago="{age} ago",
    text_title="{sign}, {day}",
    text_now="What readers are shown now",
    text_none="There is no text.",
    text_over="Nobody lives in that day any more: no new text is written for it.",
    written_at="Written",
    state="State",
    writer="Taken by",
    ask_again="Write this text again?",
    ask_first="Order this text?",
    ask_again_hint=(
        "Only the text of {sign} for {day} is replaced. Until the new one is there, this one is shown; whoever has read it "
        "keeps it. It costs one call to the model."
    ),
    ask_first_hint="Only the text of {sign} for {day} is written. It costs one call to the model.",
    busy_hint="Somebody is at work on this text already. The order waits for its turn.",
    order_again="Write again",
    order_first="Order",
    cancel="Cancel",
    ordered="Ordered: {sign}, {day}. RabbitMQ has confirmed it; a worker begins when it is its turn.",
    order_kept="Accepted: {sign}, {day}. RabbitMQ takes no messages now; the order is kept and goes out when it is back.",
    text_changed="This text has changed meanwhile. Nothing was ordered; look at the new one.",
    queues_hint="What waits, how fast it comes and goes, and who is at it.",
    queue="Queue",
    messages="Waiting",
    at_work="At work",
    rate_in="In",
    rate_out="Out",
    consumers="Consumers",
    oldest="Oldest",
    work_queues="Work",
    waiting_queues="Waiting for their time",
    waiting_queues_hint="Messages that will be tried again; RabbitMQ hands them back by itself when their time has come.",
    waiting_none="Nothing waits for another try.",
    waiting_empty=("empty queue", "empty queues"),
    dead_letters="Dead letters",
    dead_letters_hint="Messages that are not tried any more. They never go away by themselves.",
    unmanaged=(
        "Rates and ages are not known: RabbitMQ's management API does not answer at {addresses} ({reason}). Set its address in "
        "RABBITMQ_MANAGEMENT_URL."
    ),
    per_second="a second",
    per_s="1/s",
    no_queues="There are no queues: no process has been started yet.",
    queue_paused="Paused since {time} by {by}",
    queue_pause="Pause",
    queue_pause_hint="All workers stop consuming this queue; what they have begun they finish. The rest waits.",
    queue_why="Why (for whoever sees the pause)",
    queue_resume="Resume",
    queue_resume_hint="Workers consume it again within a second or two.",
    queue_peek="Peek at the oldest messages",
    queue_peek_hint="They stay where they are.",
    queue_peek_consumed=(
        "While somebody consumes the queue, workers would get its messages out of order: pause it first, and wait until "
        "they have let go of it."
    ),
    queue_peeked="The oldest messages",
    queue_empty="Nothing waits.",
    queue_purge="Purge…",
    queue_purge_hint="For good. What is at work is not touched.",
    queue_purge_ask="Delete all messages of {queue}: {count}?",
    queue_purge_dead="These letters are not archived yet: once deleted, nobody can look at them or replay them any more.",
    queue_purge_order="Delete",
    queue_changed="There are more messages by now. Nothing was deleted.",
    queue_notes={
        "paused": "{queue} is paused.",
        "resumed": "{queue} is resumed.",
        "purged": "Deleted messages of {queue}: {count}.",
    },
    no_message="no message",
    published_at="published {time}",
    failed_attempts="failed attempts: {count}",
    redelivered="redelivered",
    processes_hint="Every process says so itself, every {seconds}. One that has been silent for {lost} counts as lost.",
    kinds={"bot": "Bot", "worker": "Worker", "scheduler": "Scheduler", "admin": "Admin"},
    kind="Process",
    host="Host",
    pid="PID",
    release="Release",
    running="Running for",
    last_sign="Last heard",
    live="running",
    lost="lost",
    lost_hint="did not say goodbye",
    several_releases="Several releases are running: {releases}. During an update that is as it should be.",
    no_processes="No process has said that it runs.",
    dead=DEAD_STRINGS[Language.EN],
    dead_waiting="wait for a person",
)

STRINGS = {Language.RU: _RU, Language.EN: _EN}
