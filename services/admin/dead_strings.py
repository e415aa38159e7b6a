"""Every string about dead letters that an operator sees on the page, in both languages."""

from dataclasses import dataclass

from schema.signs import Language


@dataclass(frozen=True, slots=True)
class DeadStrings:
    """The pages of dead letters in one language; ``hint`` and what comes after it in the order of the pages."""

    hint: str
    match: str
    none: str
    well: str
    filter: str
    named: str
    any: str
    age_hint: str
    apply: str
    clear: str
    fields: dict[str, str]
    faults: dict[str, str]
    states: dict[str, str]
    replay_states: dict[str, str]
    run_states: dict[str, str]
    judgements: dict[str, str]
    judged: dict[str, str]
    groups: str
    groups_hint: str
    more_groups: str
    group: str
    dead_of_all: str
    first_seen: str
    last_seen: str
    letters: str
    number: str
    letter_number: str
    choose: str
    asks: str
    error: str
    actor: str
    died: str
    no_message: str
    replayed_times: str
    replay_chosen: str
    drop_chosen: str
    restore_chosen: str
    earlier: str
    latest: str
    everything: str
    replay_all: str
    drop_all: str
    replay_group: str
    drop_group: str
    narrow: str
    note: str
    note_hint: str
    noted_by: str
    save_note: str
    who: str
    why: str
    why_needed: str
    why_short: str
    why_who: str
    asked: str
    no_message_hint: str
    message_id: str
    published: str
    masked: str
    death: str
    cause: str
    imported: str
    trace: str
    attempts: str
    no_attempts: str
    last_attempts: str
    edits: str
    same: str
    history: str
    edited: str
    died_as: str
    is_child: str
    dropped_by: str
    verdict: str
    replay: str
    edit: str
    edit_hint: str
    unknown_actor: str
    choose_actor: str
    arguments: str
    signatures: str
    save_edit: str
    drop: str
    drop_hint: str
    restore: str
    restore_hint: str
    drop_ask: str
    restore_ask: str
    none_such: dict[str, str]
    nothing_chosen: str
    nothing_chosen_hint: str
    back: str
    replay_ask: str
    outlook: str
    at_once: str
    taken: str
    if_insisted: str
    left_out: str
    by_actor: str
    first: str
    none_ready: str
    will_replay: str
    replay_hint: str
    rate: str
    rate_needed: str
    rate_short: str
    insist: str
    runs: str
    runs_hint: str
    no_runs: str
    run_number: str
    counts: dict[str, str]
    progress: str
    settled: str
    all_published: str
    abandoned: str
    cancel_run: str
    resume_run: str
    its_letters: str
    order: str
    what: str
    by: str
    holder: str
    cancelled_by: str
    ended: str
    all_of_them: str
    cancel_ask: str
    cancel_hint: str
    resume_ask: str
    resume_hint: str
    refusals: dict[str, str]
    notes: dict[str, str]


_RU = DeadStrings(
    hint="Сообщения, которые больше не обрабатываются: ждут, пока кто-нибудь решит, что с ними делать. Сами они не исчезают.",
    match="подходит под фильтр: {count}",
    none="Таких нет.",
    well="Мёртвых писем нет.",
    filter="Фильтр",
    named="Выбраны по номерам: {count}.",
    any="все",
    age_hint="2h, 3d или 2026-11-22 14:00",
    apply="Показать",
    clear="Сбросить",
    fields={
        "actor": "Актор",
        "queue": "Очередь",
        "cause": "Причина",
        "error": "Ошибка",
        "text": "Слова в ошибке или аргументах",
        "sign": "Знак",
        "day": "День",
        "since": "Умерли не раньше",
        "until": "Умерли раньше",
        "state": "Состояние",
        "group": "Группа",
        "run": "Повтор №",
    },
    faults={
        "sign": "Такого знака нет.",
        "day": "Нужна дата, например 2026-11-22.",
        "since": "Нужен возраст (30m, 2h, 3d, 1w) или время, например 2026-11-22 14:00.",
        "until": "Нужен возраст (30m, 2h, 3d, 1w) или время, например 2026-11-22 14:00.",
        "state": "Такого состояния нет.",
        "run": "Нужен номер повтора.",
        "id": "Нужны номера писем, не больше тысячи.",
    },
    states={
        "dead": "мёртвое",
        "waiting": "ждёт исхода",
        "succeeded": "удалось",
        "died_again": "умерло снова",
        "dropped": "снято",
    },
    replay_states={
        "planned": "запланировано",
        "publishing": "отправляется",
        "published": "отправлено",
        "succeeded": "удалось",
        "died_again": "умерло снова",
        "cancelled": "отменено",
        "superseded": "заменено новым",
    },
    run_states={
        "running": "идёт",
        "cancelling": "отменяется",
        "cancelled": "отменён",
        "finished": "отправлен",
    },
    judgements={
        "ready": "готово",
        "unfit": "непригодно",
        "done": "уже сделано",
        "capped": "предел повторов",
        "waiting": "уже повторяется",
        "settled": "не мёртвое",
    },
    judged={
        "ready": "Можно повторить.",
        "unfit": "Повторить нельзя, пока не исправлены аргументы или актор.",
        "done": "Повтор ничего не изменит; только если настоять.",
        "capped": "Повторялось слишком часто; только если настоять.",
        "waiting": "Исход прошлого повтора ещё неизвестен; только если настоять.",
        "settled": "Повторять нечего.",
    },
    groups="Группы",
    groups_hint="Одного рода: причина, исключение и путь по нашему коду совпадают.",
    more_groups="Это не все группы: сузьте фильтр.",
    group="Группа",
    dead_of_all="Мёртвых / всего",
    first_seen="Впервые",
    last_seen="Последнее",
    letters="Письма",
    number="№",
    letter_number="Письмо {number}",
    choose="Выбрать письмо {number}",
    asks="О чём просит",
    error="Ошибка",
    actor="Актор",
    died="Умерло",
    no_message="не сообщение",
    replayed_times="повторов до этого: {count}",
    replay_chosen="Повторить выбранные…",
    drop_chosen="Снять выбранные…",
    restore_chosen="Вернуть выбранные…",
    earlier="Раньше",
    latest="К последним",
    everything="Всё, что подходит под фильтр ({count}):",
    replay_all="повторить…",
    drop_all="снять…",
    replay_group="Повторить мёртвые: {count}…",
    drop_group="Снять…",
    narrow="Сузить",
    note="Заметка",
    note_hint="Видна всем, кто смотрит на эту группу. Пустая заметка удаляется.",
    noted_by="{by}, {time}",
    save_note="Сохранить",
    who="Ваше имя (для записи, не обязательно)",
    why="Почему (останется в записи)",
    why_needed="Напишите почему.",
    why_short="Почему",
    why_who="Почему, кто, что",
    asked="О чём просило",
    no_message_hint="Эти байты — не сообщение. Чтобы их повторить, задайте актора и аргументы.",
    message_id="Номер сообщения",
    published="Отправлено",
    masked="В нём был секрет; он не сохранён и заменён на ***.",
    death="Смерть",
    cause="Причина",
    imported="Перенесено сюда",
    trace="Последний traceback",
    attempts="Попытки",
    no_attempts="О попытках ничего не известно.",
    last_attempts="Показаны последние {count}.",
    edits="Правки",
    same="без изменений",
    history="Повторы",
    edited="с правкой",
    died_as="Умерло снова как письмо {number}",
    is_child="Это смерть повтора:",
    dropped_by="Снято: {by}. Почему: {why}",
    verdict="Что будет при повторе",
    replay="Повторить",
    edit="Исправить",
    edit_hint="При повторе вместо сообщения уйдёт исправленное. Само письмо и все правки сохраняются.",
    choose_actor="выберите актора",
    unknown_actor="такого актора нет: {actor}",
    arguments="Аргументы (JSON)",
    signatures="Чего ждут акторы",
    save_edit="Сохранить правку",
    drop="Снять",
    drop_hint="Больше не ждёт решения и не повторяется. Вернуть можно в течение 30 дней, потом письмо удаляется.",
    restore="Вернуть",
    restore_hint="Снова мёртвое: ждёт решения, и его можно повторить.",
    drop_ask="Снять писем: {count}?",
    restore_ask="Вернуть писем: {count}?",
    none_such={
        "drop": "Снять можно только мёртвые; таких здесь нет.",
        "restore": "Вернуть можно только снятые; таких здесь нет.",
    },
    nothing_chosen="Ничего не выбрано",
    nothing_chosen_hint="Отметьте письма в списке или возьмите всё, что подходит под фильтр.",
    back="Назад",
    replay_ask="Повторить?",
    outlook="Писем: {count}",
    at_once="За один раз берётся не больше {count}, самые ранние.",
    taken="будут повторены",
    if_insisted="не будут; только если настоять",
    left_out="не будут",
    by_actor="По акторам",
    first="Последние из них: {count}",
    none_ready="Повторить нечего",
    will_replay="Будет повторено: {count}",
    replay_hint="Сообщения уйдут в свои очереди заново. Ничего не делается дважды: что уже сделано, воркер пропустит.",
    rate="Сообщений в секунду, не больше",
    rate_needed="Нужно число от 1 до {most}.",
    rate_short="Скорость",
    insist="Настоять: повторить и остальные ({count})",
    runs="Повторы",
    runs_hint="Кто, когда и что повторял и чем это кончилось.",
    no_runs="Ещё никто ничего не повторял.",
    run_number="Повтор {number}",
    counts={
        "planned": "ещё не отправлены",
        "waiting": "ждут исхода",
        "succeeded": "удались",
        "died_again": "умерли снова",
        "cancelled": "отменены",
        "superseded": "заменены",
    },
    progress="Исход известен: {known} из {count}",
    settled="Исход каждого известен.",
    all_published="Отправлено; воркеры ещё отвечают.",
    abandoned="Сейчас повтор не выполняет ни один процесс: воркер запущен?",
    cancel_run="Отменить",
    resume_run="Продолжить",
    its_letters="Его письма",
    order="Заказ",
    what="Что",
    by="Кто",
    holder="Выполняет",
    cancelled_by="Отменил",
    ended="Закончен",
    all_of_them="Все, что умерли снова",
    cancel_ask="Отменить повтор {number}?",
    cancel_hint="Ещё не отправлены: {planned}; они останутся мёртвыми. Отправленного не вернуть: {published}.",
    resume_ask="Продолжить повтор {number}?",
    resume_hint="Осталось: {count}. Что тем временем снято или повторено иначе, пропускается.",
    refusals={
        "changed": "Тем временем что-то изменилось: это уже не те письма или не то, что о них сказано. Ничего не сделано; посмотрите ещё раз.",
        "no_reason": "Ничего не сделано: напишите почему.",
        "edited_meanwhile": "Тем временем письмо исправил кто-то другой. Ничего не сохранено; посмотрите на его правку ниже.",
        "not_dropped": "Не снято: письмо уже не мёртвое или вот-вот будет повторено.",
        "not_restored": "Не возвращено: письмо не снято.",
    },
    notes={
        "edited": "Правка письма {0} сохранена.",
        "noted": "Заметка сохранена.",
        "unnoted": "Заметка удалена.",
        "dropped": "Снято писем: {0}.",
        "restored": "Возвращено писем: {0}.",
        "ordered": "Повтор {0} заказан.",
        "cancelled": "Повтор {0} отменяется.",
        "resumed": "Повтор {0} продолжается.",
    },
)


_EN = DeadStrings(
    hint="Messages that are not tried any more: they wait until somebody decides what to do. They never go away by themselves.",
    match="match the filter: {count}",
    none="There are none.",
    well="There are no dead letters.",
    filter="Filter",
    named="Chosen by number: {count}.",
    any="any",
    age_hint="2h, 3d or 2026-11-22 14:00",
    apply="Show",
    clear="Clear",
    fields={
        "actor": "Actor",
        "queue": "Queue",
        "cause": "Cause",
        "error": "Error",
        "text": "Words of the error or the arguments",
        "sign": "Sign",
        "day": "Day",
        "since": "Died since",
        "until": "Died before",
        "state": "State",
        "group": "Group",
        "run": "Run no.",
    },
    faults={
        "sign": "There is no such sign.",
        "day": "Expected a date, such as 2026-11-22.",
        "since": "Expected an age (30m, 2h, 3d, 1w) or a time, such as 2026-11-22 14:00.",
        "until": "Expected an age (30m, 2h, 3d, 1w) or a time, such as 2026-11-22 14:00.",
        "state": "There is no such state.",
        "run": "Expected the number of a run.",
        "id": "Expected the numbers of letters, a thousand at the most.",
    },
    states={
        "dead": "dead",
        "waiting": "waiting",
        "succeeded": "succeeded",
        "died_again": "died again",
        "dropped": "dropped",
    },
    replay_states={
        "planned": "planned",
        "publishing": "publishing",
        "published": "waiting",
        "succeeded": "succeeded",
        "died_again": "died again",
        "cancelled": "cancelled",
        "superseded": "superseded",
    },
    run_states={
        "running": "running",
        "cancelling": "cancelling",
        "cancelled": "cancelled",
        "finished": "finished",
    },
    judgements={
        "ready": "ready",
        "unfit": "unfit",
        "done": "done",
        "capped": "capped",
        "waiting": "waiting",
        "settled": "settled",
    },
    judged={
        "ready": "It can be replayed.",
        "unfit": "It cannot be replayed until its arguments or its actor are mended.",
        "done": "A replay would change nothing; only if you insist.",
        "capped": "It was replayed too often; only if you insist.",
        "waiting": "What came of the last replay is not known yet; only if you insist.",
        "settled": "There is nothing to replay.",
    },
    groups="Groups",
    groups_hint="Of one kind: the cause, the exception and the way through our code are the same.",
    more_groups="These are not all groups: narrow the filter.",
    group="Group",
    dead_of_all="Dead / all",
    first_seen="First seen",
    last_seen="Last seen",
    letters="Letters",
    number="No.",
    letter_number="Letter {number}",
    choose="Choose letter {number}",
    asks="What it asks for",
    error="Error",
    actor="Actor",
    died="Died",
    no_message="no message",
    replayed_times="replays before: {count}",
    replay_chosen="Replay the chosen…",
    drop_chosen="Drop the chosen…",
    restore_chosen="Restore the chosen…",
    earlier="Earlier",
    latest="Latest",
    everything="Everything that matches the filter ({count}):",
    replay_all="replay…",
    drop_all="drop…",
    replay_group="Replay the dead: {count}…",
    drop_group="Drop…",
    narrow="Narrow down",
    note="Note",
    note_hint="Seen by everybody who looks at this group. An empty note is deleted.",
    noted_by="{by}, {time}",
    save_note="Save",
    who="Your name (for the record, optional)",
    why="Why (kept on record)",
    why_needed="Say why.",
    why_short="Why",
    why_who="Why, who, what",
    asked="What it asked for",
    no_message_hint="These bytes are no message. To replay them, give them an actor and arguments.",
    message_id="Message id",
    published="Published",
    masked="It held a secret, which is not kept: *** stands in its place.",
    death="Death",
    cause="Cause",
    imported="Imported",
    trace="The last traceback",
    attempts="Attempts",
    no_attempts="Nothing is known of attempts.",
    last_attempts="The last {count} are shown.",
    edits="Edits",
    same="nothing was changed",
    history="Replays",
    edited="edited",
    died_as="Died again as letter {number}",
    is_child="This is the death of a replay:",
    dropped_by="Dropped by {by}: {why}",
    verdict="What a replay would come to",
    replay="Replay",
    edit="Edit",
    edit_hint="A replay publishes what you save in the message's place. The letter as it died and every edit are kept.",
    choose_actor="choose an actor",
    unknown_actor="there is no such actor: {actor}",
    arguments="Arguments (JSON)",
    signatures="What the actors take",
    save_edit="Save the edit",
    drop="Drop",
    drop_hint="It waits for nobody any more and is not replayed. It can be restored for 30 days; then it is deleted.",
    restore="Restore",
    restore_hint="Dead again: it waits for a person and can be replayed.",
    drop_ask="Drop letters: {count}?",
    restore_ask="Restore letters: {count}?",
    none_such={
        "drop": "Only dead letters can be dropped; there are none here.",
        "restore": "Only dropped letters can be restored; there are none here.",
    },
    nothing_chosen="Nothing is chosen",
    nothing_chosen_hint="Tick letters in the list, or take everything that matches the filter.",
    back="Back",
    replay_ask="Replay?",
    outlook="Letters: {count}",
    at_once="No more than {count} are taken at once, the earliest.",
    taken="will be replayed",
    if_insisted="left out; only if you insist",
    left_out="left out",
    by_actor="By actor",
    first="The latest of them: {count}",
    none_ready="None can be replayed",
    will_replay="Will be replayed: {count}",
    replay_hint="The messages are published to their queues again. Nothing is done twice: a worker passes over what is done.",
    rate="Messages a second, at the most",
    rate_needed="Expected a number from 1 to {most}.",
    rate_short="Rate",
    insist="Insist: replay the others, too ({count})",
    runs="Runs of replays",
    runs_hint="Who replayed what, when, and what came of it.",
    no_runs="Nobody has replayed anything yet.",
    run_number="Run {number}",
    counts={
        "planned": "planned",
        "waiting": "waiting",
        "succeeded": "succeeded",
        "died_again": "died again",
        "cancelled": "cancelled",
        "superseded": "superseded",
    },
    progress="Known what became of {known} of {count}",
    settled="What became of each is known.",
    all_published="Published; the workers are still answering.",
    abandoned="No process carries it out at this moment: is a worker running?",
    cancel_run="Cancel the run",
    resume_run="Resume the run",
    its_letters="Its letters",
    order="The order",
    what="What",
    by="Who",
    holder="Carried out by",
    cancelled_by="Cancelled by",
    ended="Ended",
    all_of_them="All that died again",
    cancel_ask="Cancel run {number}?",
    cancel_hint="Not published yet: {planned}; they stay dead. What is published stays so: {published}.",
    resume_ask="Resume run {number}?",
    resume_hint="Left: {count}. What was dropped or replayed otherwise meanwhile is left out.",
    refusals={
        "changed": "Something has changed meanwhile: these are other letters, or another verdict on them. Nothing was done; look again.",
        "no_reason": "Nothing was done: say why.",
        "edited_meanwhile": "Somebody else has edited this letter meanwhile. Nothing was saved; look at that edit below.",
        "not_dropped": "Not dropped: it is not dead any more, or about to be replayed.",
        "not_restored": "Not restored: it is not dropped.",
    },
    notes={
        "edited": "The edit of letter {0} is saved.",
        "noted": "The note is saved.",
        "unnoted": "The note is deleted.",
        "dropped": "Letters dropped: {0}.",
        "restored": "Letters restored: {0}.",
        "ordered": "Run {0} is on record.",
        "cancelled": "Run {0} is being cancelled.",
        "resumed": "Run {0} goes on.",
    },
)

DEAD_STRINGS = {Language.RU: _RU, Language.EN: _EN}
