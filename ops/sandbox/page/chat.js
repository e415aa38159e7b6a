// The chat page: readers on the left, a conversation, and a panel of faults.
// Everything that came from a bot or a reader becomes text nodes only; no markup is ever parsed.

const WORDS = {
  ru: {
    readers: "Читатели", add_reader: "Добавить читателя", new_reader: "Новый читатель", name: "Имя",
    app_language: "Язык приложения Telegram", add: "Добавить", cancel: "Отмена", close: "Закрыть",
    fine_print: "Песочница: вместо Telegram и нейросети здесь их имитация. Ничто не покидает этот компьютер.",
    online: "на связи", offline: "бот не запущен", typing: "печатает", lost: "Песочница не отвечает. Переподключаюсь…",
    what_can: "Что умеет этот бот?", no_description: "Напишите боту — он ответит здесь же, как в Telegram.",
    start: "Начать", message: "Сообщение", send: "Отправить", commands: "Команды", to_end: "К последнему сообщению",
    block: "Заблокировать бота", unblock: "Разблокировать бота", blocked: "бот заблокирован", edited: "изменено",
    empty: "нет сообщений", bot: "Бот", you: "Вы", today: "Сегодня", yesterday: "Вчера", unread: "новых",
    more: (n) => `и ещё ${n}`, other_content: "вложение", failed: "Не получилось",
    panel: "Сбои", all_off: "Выключить все", how_often: "Сколько раз", until_off: "пока включено", once: "один раз",
    thrice: "три раза", latency: "Задержка", model: "Нейросеть", for_sign: "Для знака", any_sign: "любого",
    panel_lead: "Испортите что-нибудь и посмотрите, что увидит читатель.",
    limits: "Лимиты Telegram", limits_hint: "1 и 30 в секунду", seconds: (n) => `${n} с`,
    met: "сбоев случилось", pending: "обновлений ждёт", delivery: "бот получает", calls: "вызовов бота",
    polling: "опросом", webhook: "вебхуком", nothing: "—", in_flight: "пишется сейчас", max_in_flight: "одновременно, самое большее",
    texts: "запросов", went_wrong: "из них с ошибкой",
    t429: ["Слишком много запросов", "429"], t403: ["Бот заблокирован", "403"],
    t400: ["Чат не найден", "400"], t500: ["Ошибка сервера", "500"],
    thang: ["Нет ответа", "ничего не сделано"], ttimeout_after_doing: ["Нет ответа", "всё сделано"],
    tdisconnect: ["Обрыв связи", "ничего не сделано"], tdisconnect_after_doing: ["Обрыв связи", "всё сделано"],
    tgarbage: ["Мусор вместо ответа", "не JSON"],
    m500: ["Ошибка сервера", "500"], m503: ["Перегружена", "503"], m429: ["Слишком много запросов", "429"],
    m401: ["Неверный ключ", "401"], m400: ["Запрос отклонён", "400"], m404: ["Нет такой модели", "404"],
    mhang: ["Нет ответа", "соединение висит"], mdisconnect: ["Обрыв связи", ""], mgarbage: ["Мусор вместо ответа", "не JSON"],
    mempty: ["Пустой текст", ""], mrefusal: ["Отказ", "«Извините, но я не могу…»"], menglish: ["Не тот язык", ""],
    mtoo_long: ["Слишком длинный текст", ""], mshort: ["Слишком короткий текст", ""], mhtml: ["Разметка в тексте", "HTML и скрипт"],
    msame: ["Один текст для всех", ""], malike: ["Почти тот же текст", "другого знака или дня"],
    mcut: ["Текст оборван", "кончились токены"],
    names: ["Борис", "Вера", "Глеб", "Даша", "Егор", "Женя", "Зоя", "Илья", "Кира", "Лев"],
  },
  en: {
    readers: "Readers", add_reader: "Add a reader", new_reader: "New reader", name: "Name",
    app_language: "Language of the Telegram app", add: "Add", cancel: "Cancel", close: "Close",
    fine_print: "A sandbox: Telegram and the language model are imitations. Nothing leaves this machine.",
    online: "online", offline: "the bot is not running", typing: "typing", lost: "The sandbox does not answer. Reconnecting…",
    what_can: "What can this bot do?", no_description: "Write to the bot: it answers here, as in Telegram.",
    start: "Start", message: "Message", send: "Send", commands: "Commands", to_end: "To the latest message",
    block: "Block the bot", unblock: "Unblock the bot", blocked: "bot blocked", edited: "edited",
    empty: "no messages", bot: "Bot", you: "You", today: "Today", yesterday: "Yesterday", unread: "new",
    more: (n) => `and ${n} more`, other_content: "attachment", failed: "That did not work",
    panel: "Faults", all_off: "All off", how_often: "How often", until_off: "until switched off", once: "once",
    thrice: "three times", latency: "Latency", model: "Language model", for_sign: "For the sign", any_sign: "any",
    panel_lead: "Break something and see what the reader gets to see.",
    limits: "Telegram's limits", limits_hint: "1 and 30 a second", seconds: (n) => `${n} s`,
    met: "faults met", pending: "updates waiting", delivery: "the bot uses", calls: "calls of the bot",
    polling: "polling", webhook: "a webhook", nothing: "—", in_flight: "being written", max_in_flight: "at once, at most",
    texts: "requests", went_wrong: "of them failed",
    t429: ["Too many requests", "429"], t403: ["Bot blocked", "403"],
    t400: ["Chat not found", "400"], t500: ["Server error", "500"],
    thang: ["No answer", "nothing done"], ttimeout_after_doing: ["No answer", "all done"],
    tdisconnect: ["Connection cut", "nothing done"], tdisconnect_after_doing: ["Connection cut", "all done"],
    tgarbage: ["Garbage for an answer", "no JSON"],
    m500: ["Server error", "500"], m503: ["Overloaded", "503"], m429: ["Too many requests", "429"],
    m401: ["Wrong key", "401"], m400: ["Request refused", "400"], m404: ["No such model", "404"],
    mhang: ["No answer", "the connection hangs"], mdisconnect: ["Connection cut", ""], mgarbage: ["Garbage for an answer", "no JSON"],
    mempty: ["Empty text", ""], mrefusal: ["Refusal", "“I'm sorry, but I can't…”"], menglish: ["The other language", ""],
    mtoo_long: ["Text too long", ""], mshort: ["Text too short", ""], mhtml: ["Markup in the text", "HTML and a script"],
    msame: ["One text for all", ""], malike: ["Almost the same text", "of another sign or day"],
    mcut: ["Text cut off", "out of tokens"],
    names: ["Boris", "Clara", "Daniel", "Emma", "Frank", "Grace", "Henry", "Iris", "Jack", "Kate"],
  },
};
const SIGNS = ["aries", "taurus", "gemini", "cancer", "leo", "virgo", "libra", "scorpio", "sagittarius", "capricorn", "aquarius", "pisces"];
const SIGN_NAMES = {
  ru: ["Овен", "Телец", "Близнецы", "Рак", "Лев", "Дева", "Весы", "Скорпион", "Стрелец", "Козерог", "Водолей", "Рыбы"],
  en: SIGNS.map((sign) => sign[0].toUpperCase() + sign.slice(1)),
};
const SHOWN_READERS = 60;
const RETRY_AFTER = 3;

const $ = (id) => document.getElementById(id);
const remembered = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
const remember = (key, value) => { try { localStorage.setItem(key, value); } catch { /* private windows */ } };

const state = {
  language: remembered("language") || (navigator.language.toLowerCase().startsWith("ru") ? "ru" : "en"),
  bot: {}, profile: [], commands: [], readers: new Map(), messages: new Map(), unread: new Map(),
  current: Number(remembered("reader")) || 0, telegram: null, model: null,
  typing: new Map(), waiting: new Map(), connected: false,
};
const t = (key) => WORDS[state.language][key];

// Helpers

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

async function request(method, path, body) {
  const options = { method };
  if (body !== undefined) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  const response = await fetch(path, options);
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

function attempt(promise) {
  return promise.catch((error) => { toast(`${t("failed")}: ${error.message}`); return null; });
}

// Calls once after a pause, however often it is asked to.
function calmly(task, pause) {
  let timer = 0;
  return () => { if (!timer) timer = setTimeout(() => { timer = 0; task(); }, pause); };
}

// British English, for the clock of 24 hours.
const locale = () => ({ ru: "ru", en: "en-GB" })[state.language];
const clock = (seconds) => new Intl.DateTimeFormat(locale(), { hour: "2-digit", minute: "2-digit" }).format(seconds * 1000);
const dayKey = (seconds) => new Date(seconds * 1000).toDateString();

function dayName(seconds) {
  const age = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(seconds * 1000).setHours(0, 0, 0, 0)) / 864e5);
  if (age === 0) return t("today");
  if (age === 1) return t("yesterday");
  return new Intl.DateTimeFormat(locale(), { day: "numeric", month: "long" }).format(seconds * 1000);
}

function avatar(reader) {
  const circle = make("span", `avatar tint-${reader.id % 7}`, [...reader.name][0] || "?");
  circle.setAttribute("aria-hidden", "true");
  return circle;
}

// As Telegram compares it: two letters.
const readerLanguage = () => (state.readers.get(state.current)?.language ?? "").slice(0, 2);

// The bot's texts exist in several languages; the reader's own comes first.
function profileText(name) {
  const language = readerLanguage();
  const texts = state.profile.filter(([key]) => key === name);
  const found = texts.find(([, code, text]) => code === language && text) || texts.find(([, code]) => !code);
  return found ? found[2] : "";
}

function commandList() {
  const reader = state.readers.get(state.current);
  const scopes = [`chat:${reader?.id}`, "all_private_chats", "default"];
  for (const scope of scopes) {
    for (const code of [readerLanguage(), ""]) {
      const found = state.commands.find(([where, language]) => where === scope && language === code);
      if (found && found[2].length) return found[2];
    }
  }
  return [];
}

// Readers

function preview(reader) {
  if (reader.blocked) return t("blocked");
  if (!reader.last) return t("empty");
  const words = reader.last.text || t("other_content");
  return reader.last.from_bot ? words : `${t("you")}: ${words}`;
}

const showReaders = calmly(() => {
  const order = [...state.readers.values()].sort((a, b) => (b.last?.message_id ?? 0) - (a.last?.message_id ?? 0) || a.id - b.id);
  const shown = order.slice(0, SHOWN_READERS);
  const focused = document.activeElement?.dataset?.reader;
  $("readers").replaceChildren(...shown.map((reader) => {
    const first = make("div", "", make("span", "name", reader.name), make("span", "tag", reader.language));
    if (reader.last) first.append(make("time", "", clock(reader.last.date)));
    const second = make("div", "", make("span", reader.blocked ? "preview blocked" : "preview", preview(reader)));
    const unread = state.unread.get(reader.id);
    if (unread) {
      const count = make("span", "unread", String(unread));
      count.setAttribute("aria-label", `${unread} ${t("unread")}`);
      second.append(count);
    }
    const button = make("button", "reader", avatar(reader), make("div", "reader-lines", first, second));
    button.type = "button";
    button.dataset.reader = reader.id;
    button.setAttribute("aria-current", String(reader.id === state.current));
    button.addEventListener("click", () => { choose(reader.id); showView("chat"); });
    return make("li", "", button);
  }));
  if (order.length > SHOWN_READERS) $("readers").append(make("li", "more", t("more")(order.length - SHOWN_READERS)));
  if (focused) document.querySelector(`[data-reader="${focused}"]`)?.focus();
}, 50);

async function choose(id) {
  state.current = id;
  state.unread.delete(id);
  remember("reader", id);
  showReaders();
  showChat();
  if (!state.messages.has(id)) {
    const messages = await attempt(request("GET", `/sandbox/readers/${id}/messages`));
    if (!messages) return;
    // Events that came meanwhile are newer than this answer.
    const known = state.messages.get(id) ?? new Map();
    state.messages.set(id, new Map([...messages.map((message) => [message.message_id, message]), ...known]));
  }
  if (state.current === id) showConversation();
}

function showView(view) {
  $("app").dataset.view = view;
}

// Conversation

function formatted(text, entities) {
  const nest = (start, end, inside) => {
    const nodes = [];
    let at = start;
    for (let i = 0; i < inside.length; i += 1) {
      const entity = inside[i];
      const stop = Math.min(entity.offset + entity.length, end);
      if (entity.offset < at || stop <= at) continue;
      if (entity.offset > at) nodes.push(text.slice(at, entity.offset));
      const within = inside.slice(i + 1).filter((other) => other.offset >= entity.offset && other.offset < stop);
      nodes.push(decorated(entity, text.slice(entity.offset, stop), nest(entity.offset, stop, within)));
      at = stop;
    }
    if (at < end) nodes.push(text.slice(at, end));
    return nodes;
  };
  return nest(0, text.length, entities);
}

const TAGS = { bold: "strong", italic: "em", underline: "u", strikethrough: "s", code: "code", pre: "pre", blockquote: "blockquote", expandable_blockquote: "blockquote" };

function decorated(entity, words, children) {
  if (entity.type === "text_link" && /^(https?|tg|mailto):/i.test(entity.url)) {
    const link = make("a", "", ...children);
    link.href = entity.url;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    return link;
  }
  if (entity.type === "bot_command") {
    // Not a button element: that would not break lines as words do.
    const command = make("span", "command", ...children);
    command.tabIndex = 0;
    command.setAttribute("role", "button");
    command.addEventListener("click", () => say(words));
    command.addEventListener("keydown", (event) => { if (event.key === "Enter") say(words); });
    return command;
  }
  if (entity.type === "spoiler") {
    const spoiler = make("span", "spoiler", ...children);
    spoiler.tabIndex = 0;
    return spoiler;
  }
  return make(TAGS[entity.type] ?? "span", "", ...children);
}

function keyOf(message, button) {
  if (button.url) {
    const link = make("a", "key", button.text, icon("link"));
    if (/^https?:/i.test(button.url)) link.href = button.url;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    return link;
  }
  const key = make("button", "key", button.text);
  key.type = "button";
  key.dataset.data = button.callback_data ?? "";
  if (state.waiting.has(`${message.message_id} ${button.callback_data}`)) key.classList.add("waiting");
  key.addEventListener("click", () => press(message, button));
  return key;
}

function messageNode(message) {
  const words = make("span", "words", ...formatted(message.text, message.entities));
  if (!message.text) words.append(make("em", "", `[${Object.keys(message.content)[0] ?? t("other_content")}]`));
  const time = make("time", "", clock(message.date));
  const meta = make("span", "meta", ...(message.edited ? [`${t("edited")} `] : []), time);
  const bubble = make("div", "bubble", words, meta);
  const node = make("li", message.from_bot ? "message" : "message mine", bubble);
  node.dataset.message = message.message_id;
  node.dataset.day = dayKey(message.date);
  const rows = message.reply_markup?.inline_keyboard ?? [];
  if (rows.length) {
    node.append(make("div", "keys", ...rows.map((row) => make("div", "row", ...row.map((button) => keyOf(message, button))))));
  }
  return node;
}

// Day marks and rounded corners depend on the neighbours.
function arrange(list) {
  list.querySelectorAll(".day").forEach((mark) => mark.remove());
  let day = "";
  let mine = null;
  for (const node of [...list.children]) {
    if (node.dataset.day !== day) {
      day = node.dataset.day;
      mine = null;
      const message = state.messages.get(state.current).get(Number(node.dataset.message));
      node.before(make("li", "day", dayName(message.date)));
    }
    const isMine = node.classList.contains("mine");
    node.classList.toggle("first", isMine !== mine);
    mine = isMine;
  }
}

const atEnd = () => $("scroll").scrollHeight - $("scroll").scrollTop - $("scroll").clientHeight < 120;

function toEnd() {
  $("scroll").scrollTop = $("scroll").scrollHeight;
  $("to-end").hidden = true;
}

function showConversation() {
  const messages = [...(state.messages.get(state.current)?.values() ?? [])].filter((message) => !message.deleted);
  $("messages").replaceChildren(...messages.map(messageNode));
  arrange($("messages"));
  showIntro();
  toEnd();
}

function showIntro() {
  const loaded = state.messages.get(state.current);
  $("intro").hidden = !loaded || $("messages").childElementCount > 0;
  $("description").textContent = profileText("description") || t("no_description");
}

function showChat() {
  const reader = state.readers.get(state.current);
  $("bot-name").textContent = profileText("name") || state.bot.first_name || "…";
  document.title = $("bot-name").textContent;
  const label = reader?.blocked ? t("unblock") : t("block");
  $("block").title = label;
  $("block").setAttribute("aria-label", label);
  $("block").setAttribute("aria-pressed", String(Boolean(reader?.blocked)));
  $("composer").hidden = Boolean(reader?.blocked);
  $("unblock").hidden = !reader?.blocked;
  $("menu").hidden = commandList().length === 0;
  showStatus();
  showKeyboard(reader);
  showIntro();
}

function showStatus() {
  const until = state.typing.get(state.current) ?? 0;
  const kind = until > Date.now() ? "typing" : state.telegram?.online ? "online" : "offline";
  $("status").className = kind;
  $("status").textContent = state.connected ? t(kind) : "";
  $("notice").hidden = state.connected;
  $("notice").textContent = t("lost");
}

function showKeyboard(reader) {
  const rows = (!reader?.blocked && reader?.keyboard?.keyboard) || [];
  $("keyboard").hidden = rows.length === 0;
  $("keyboard").replaceChildren(...rows.map((row) => make("div", "row", ...row.map((button) => {
    const words = typeof button === "string" ? button : button.text;
    const key = make("button", "key", words);
    key.type = "button";
    key.addEventListener("click", () => say(words));
    return key;
  }))));
}

function messageChanged(message) {
  const reader = state.readers.get(message.chat_id);
  if (!reader) return;
  const messages = state.messages.get(message.chat_id);
  const before = messages?.get(message.message_id);
  const isNew = !before && message.message_id > (reader.last?.message_id ?? 0);
  messages?.set(message.message_id, message);
  if (message.deleted) {
    if (reader.last?.message_id === message.message_id) {
      reader.last = [...(messages?.values() ?? [])].filter((other) => !other.deleted).at(-1) ?? null;
    }
  } else if (isNew || reader.last?.message_id === message.message_id || !reader.last) {
    reader.last = message;
  }
  if (message.from_bot) state.typing.delete(message.chat_id);
  if (isNew && message.from_bot && message.chat_id !== state.current) {
    state.unread.set(message.chat_id, (state.unread.get(message.chat_id) ?? 0) + 1);
  }
  showReaders();
  if (message.chat_id === state.current && messages) showMessage(message, before);
}

function showMessage(message, before) {
  const stay = !atEnd() && message.from_bot;
  const old = document.querySelector(`[data-message="${message.message_id}"]`);
  if (message.deleted) {
    old?.remove();
  } else if (old) {
    const focused = old.contains(document.activeElement) ? document.activeElement.dataset.data : null;
    const fresh = messageNode(message);
    if (before?.text !== message.text) fresh.querySelector(".bubble").classList.add("fresh");
    fresh.style.animation = "none";
    old.replaceWith(fresh);
    if (focused) [...fresh.querySelectorAll(".key")].find((key) => key.dataset.data === focused)?.focus();
  } else {
    $("messages").append(messageNode(message));
  }
  arrange($("messages"));
  showStatus();
  showIntro();
  if (stay) $("to-end").hidden = false; else toEnd();
}

// What the reader does

async function say(text) {
  if (!text.trim()) return;
  await attempt(request("POST", `/sandbox/readers/${state.current}/say`, { text: text.trim() }));
  toEnd();
}

function waitingOver(token) {
  state.waiting.delete(token);
  const [message, data] = [token.slice(0, token.indexOf(" ")), token.slice(token.indexOf(" ") + 1)];
  const node = document.querySelector(`[data-message="${message}"]`);
  [...(node?.querySelectorAll(".key") ?? [])].filter((key) => key.dataset.data === data).forEach((key) => key.classList.remove("waiting"));
}

async function press(message, button) {
  const token = `${message.message_id} ${button.callback_data}`;
  if (state.waiting.has(token)) return;
  state.waiting.set(token, "");
  const node = document.querySelector(`[data-message="${message.message_id}"]`);
  [...node.querySelectorAll(".key")].find((key) => key.dataset.data === button.callback_data)?.classList.add("waiting");
  const pressed = await attempt(request("POST", `/sandbox/readers/${state.current}/press`,
    { message_id: message.message_id, button: button.callback_data ?? button.text }));
  if (!pressed?.callback_query_id || state.waiting.get(token) === "answered") waitingOver(token);
  else state.waiting.set(token, pressed.callback_query_id);
  setTimeout(() => waitingOver(token), 15000);
}

function answered(answer) {
  for (const [token, queryId] of state.waiting) {
    // The answer may come before the page knows the id of its own query.
    if (queryId === answer.callback_query_id) waitingOver(token);
    else if (!queryId && answer.chat_id === state.current) state.waiting.set(token, "answered");
  }
  if (!answer.text || answer.chat_id !== state.current) return;
  if (answer.show_alert) {
    $("alert-text").textContent = answer.text;
    if (!$("alert-dialog").open) $("alert-dialog").showModal();
  } else toast(answer.text);
}

let toastTimer = 0;
function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, 3500);
}

// Composer and its menu of commands

const composer = $("text");

function grow() {
  composer.style.height = "auto";
  composer.style.height = `${composer.scrollHeight}px`;
}

function menuItems() {
  const typed = composer.value.toLowerCase();
  if (!/^\/\w*$/.test(typed)) return [];
  return commandList().filter((command) => `/${command.command}`.startsWith(typed));
}

function showMenu(items) {
  $("commands").replaceChildren(...items.map((command, number) => {
    const item = make("li", "", make("b", "", `/${command.command}`), make("span", "", command.description));
    item.id = `command-${number}`;
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", String(number === 0));
    item.addEventListener("mousedown", (event) => { event.preventDefault(); take(`/${command.command}`); });
    return item;
  }));
  $("commands").hidden = items.length === 0;
  composer.setAttribute("aria-activedescendant", items.length ? "command-0" : "");
}

function moveInMenu(step) {
  const items = [...$("commands").children];
  const at = items.findIndex((item) => item.getAttribute("aria-selected") === "true");
  const next = items[(at + step + items.length) % items.length];
  items.forEach((item) => item.setAttribute("aria-selected", String(item === next)));
  composer.setAttribute("aria-activedescendant", next.id);
  next.scrollIntoView({ block: "nearest" });
}

function take(text) {
  composer.value = "";
  grow();
  showMenu([]);
  say(text);
  composer.focus();
}

composer.addEventListener("input", () => { grow(); showMenu(menuItems()); });
composer.addEventListener("blur", () => showMenu([]));
composer.addEventListener("keydown", (event) => {
  const open = !$("commands").hidden;
  if (open && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    event.preventDefault();
    moveInMenu(event.key === "ArrowDown" ? 1 : -1);
  } else if (open && event.key === "Escape") {
    showMenu([]);
  } else if (open && event.key === "Tab" && !event.shiftKey) {
    event.preventDefault();
    composer.value = $("commands").querySelector('[aria-selected="true"] b').textContent;
    showMenu(menuItems());
  } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    take(open ? $("commands").querySelector('[aria-selected="true"] b').textContent : composer.value);
  }
});
$("composer").addEventListener("submit", (event) => { event.preventDefault(); take(composer.value); });
$("menu").addEventListener("click", () => {
  const closed = $("commands").hidden;
  composer.focus();
  showMenu(closed ? commandList() : []);
});
$("menu").addEventListener("mousedown", (event) => event.preventDefault());

// The panel of faults

const HARMLESS = "harmless";
// What a switch was set to, by its kind, until the server has been heard to agree.
const wanted = new Map();

function switchNode(words, on, count, change, className = "") {
  const box = make("input");
  box.type = "checkbox";
  box.setAttribute("role", "switch");
  box.checked = on;
  box.addEventListener("change", () => change(box.checked));
  const label = make("span", "label", words[0]);
  if (words[1]) label.append(" ", make("small", "", words[1]));
  return make("label", `switch ${on ? "on" : ""} ${className}`, label, make("span", "count", count), box);
}

function faultSwitches(place, prefix, kinds, faults, base, where) {
  const nodes = kinds.map((kind) => {
    const words = t(prefix + kind) ?? [kind, ""];
    const mine = faults.filter((fault) => fault.kind === kind);
    const used = mine.reduce((sum, fault) => sum + fault.used, 0);
    const left = mine.some((fault) => fault.times) ? ` / ${mine.reduce((sum, fault) => sum + (fault.times ?? 0), 0)}` : "";
    const signs = mine.filter((fault) => fault.sign).map((fault) => SIGN_NAMES[state.language][SIGNS.indexOf(fault.sign)]).join(", ");
    const key = base + kind;
    return switchNode([words[0], signs || words[1]], wanted.get(key) ?? mine.length > 0, mine.length ? `${used}${left}` : "", async (on) => {
      wanted.set(key, on);
      if (on) {
        const times = Number($("times").value) || null;
        await attempt(request("POST", base, { kind, times, ...where(kind) }));
      } else {
        await Promise.all(mine.map((fault) => attempt(request("DELETE", `${base}/${fault.id}`))));
      }
      await loadFaults().catch(() => {});
      wanted.delete(key);
      showPanel();
    });
  });
  keepFocus(place, nodes);
}

// Redrawing must not take the focus away from somebody who goes through the switches by keyboard.
function keepFocus(place, nodes) {
  const boxes = [...place.querySelectorAll("input")];
  const at = boxes.indexOf(document.activeElement);
  place.replaceChildren(...nodes);
  if (at >= 0) place.querySelectorAll("input")[at]?.focus();
}

function facts(place, pairs) {
  place.replaceChildren(...pairs.flatMap(([name, value]) => [make("dt", "", name), make("dd", "", String(value))]));
}

function slider(id, seconds) {
  if (document.activeElement !== $(id)) $(id).value = seconds;
  $(`${id}-value`).textContent = t("seconds")(Number($(id).value).toLocaleString(locale()));
}

function showPanel() {
  const { telegram, model } = state;
  if (!telegram || !model) return;
  const active = telegram.faults.length + model.faults.length;
  $("fault-badge").hidden = active === 0;
  $("fault-badge").textContent = active;
  slider("telegram-latency", telegram.latency["*"] ?? 0);
  slider("model-latency", model.latency);
  faultSwitches($("telegram-faults"), "t", telegram.kinds, telegram.faults, "/sandbox/faults",
    // What breaks the bot's own polling would only make it deaf; 403 and 400 concern messages.
    (kind) => ({ method: ["403", "400"].includes(kind) ? "sendMessage" : null, retry_after: kind === "429" ? RETRY_AFTER : null }));
  const limited = telegram.limits.overall !== null;
  $("telegram-faults").append(switchNode([t("limits"), t("limits_hint")], limited, "", (on) => attempt(
    request("POST", "/sandbox/telegram", { limits: on ? { per_chat: 1, overall: 30 } : { per_chat: null, overall: null } })), HARMLESS));
  faultSwitches($("model-faults"), "m", model.kinds, model.faults, "/sandbox/model/faults",
    (kind) => ({ sign: $("sign").value || null, retry_after: kind === "429" ? RETRY_AFTER : null }));
  const delivery = telegram.webhook.url ? t("webhook") : telegram.online ? t("polling") : t("nothing");
  facts($("telegram-facts"), [[t("delivery"), delivery], [t("calls"), telegram.calls], [t("pending"), telegram.pending], [t("met"), telegram.met]]);
  const wrong = Object.entries(model.outcomes).reduce((sum, [kind, count]) => sum + (kind === "ok" ? 0 : count), 0);
  facts($("model-facts"), [[t("texts"), model.calls], [t("went_wrong"), wrong], [t("in_flight"), model.in_flight], [t("max_in_flight"), model.max_in_flight]]);
}

let newsAsked = 0;
let newsShown = 0;

// An answer that was overtaken by a later one is old news.
async function loadFaults() {
  const number = ++newsAsked;
  const news = await Promise.all([request("GET", "/sandbox/telegram"), request("GET", "/sandbox/model")]);
  if (number < newsShown) return;
  newsShown = number;
  [state.telegram, state.model] = news;
}

const refreshFaults = calmly(async () => {
  try { await loadFaults(); } catch { return; }
  showPanel();
  showStatus();
}, 150);

function openPanel(open) {
  $("panel").hidden = !open;
  $("app").classList.toggle("with-panel", open);
  $("open-panel").setAttribute("aria-expanded", String(open));
  remember("panel", open ? "open" : "");
  if (open) refreshFaults();
}

for (const [id, send] of [
  ["telegram-latency", (seconds) => request("POST", "/sandbox/telegram", { latency: { "*": seconds } })],
  ["model-latency", (seconds) => request("POST", "/sandbox/model", { latency: seconds })],
]) {
  $(id).addEventListener("input", () => slider(id, $(id).value));
  $(id).addEventListener("change", () => attempt(send(Number($(id).value))));
}
$("open-panel").addEventListener("click", () => { openPanel($("panel").hidden); if (!$("panel").hidden) $("close-panel").focus(); });
$("close-panel").addEventListener("click", () => { openPanel(false); $("open-panel").focus(); });
$("panel").addEventListener("keydown", (event) => { if (event.key === "Escape") { openPanel(false); $("open-panel").focus(); } });
$("calm").addEventListener("click", async () => {
  await Promise.all([attempt(request("DELETE", "/sandbox/faults")), attempt(request("DELETE", "/sandbox/model/faults"))]);
  refreshFaults();
});

// Buttons around

async function block(blocked) {
  await attempt(request("POST", `/sandbox/readers/${state.current}/block`, { blocked }));
}
$("block").addEventListener("click", () => block(!state.readers.get(state.current)?.blocked));
$("unblock").addEventListener("click", () => block(false));
$("back").addEventListener("click", () => { showView("list"); document.querySelector('.reader[aria-current="true"]')?.focus(); });
$("start").addEventListener("click", () => say("/start"));
$("to-end").addEventListener("click", toEnd);
$("scroll").addEventListener("scroll", () => { if (atEnd()) $("to-end").hidden = true; });

$("add").addEventListener("click", () => {
  const taken = new Set([...state.readers.values()].map((reader) => reader.name));
  $("new-name").value = t("names").find((name) => !taken.has(name)) ?? "";
  $("add-dialog").showModal();
  $("new-name").select();
});
$("add-cancel").addEventListener("click", () => $("add-dialog").close());
$("add-form").addEventListener("submit", async () => {
  const language = document.querySelector('input[name="new-language"]:checked').value;
  const reader = await attempt(request("POST", "/sandbox/readers", { name: $("new-name").value.trim(), language }));
  if (!reader) return;
  state.readers.set(reader.id, reader);
  showView("chat");
  await choose(reader.id);
  $("start").focus();
});

// The page's own language

function showWords() {
  document.documentElement.lang = state.language;
  document.querySelectorAll("[data-text]").forEach((element) => { element.textContent = t(element.dataset.text); });
  document.querySelectorAll("[data-label]").forEach((element) => {
    element.setAttribute("aria-label", t(element.dataset.label));
    element.title = t(element.dataset.label);
  });
  composer.placeholder = t("message");
  composer.setAttribute("aria-label", t("message"));
  $("language").textContent = state.language === "ru" ? "English" : "Русский";
  $("language").lang = state.language === "ru" ? "en" : "ru";
  const sign = $("sign").value;
  const options = SIGNS.map((value, number) => new Option(SIGN_NAMES[state.language][number], value));
  $("sign").replaceChildren(new Option(t("any_sign"), ""), ...options);
  $("sign").value = sign;
}

$("language").addEventListener("click", () => {
  state.language = state.language === "ru" ? "en" : "ru";
  remember("language", state.language);
  showWords();
  showReaders();
  showChat();
  showConversation();
  showPanel();
});

// Live updates

async function load() {
  const fresh = await request("GET", "/sandbox/state");
  Object.assign(state, { bot: fresh.bot, profile: fresh.profile, commands: fresh.commands, telegram: fresh.telegram, model: fresh.model });
  state.readers = new Map(fresh.readers.map((reader) => [reader.id, reader]));
  state.messages.clear();
  if (!state.readers.has(state.current)) state.current = fresh.readers[0]?.id ?? 0;
  state.connected = true;
  showPanel();
  if (state.current) await choose(state.current); else { showReaders(); showChat(); }
}

const reload = calmly(() => load().catch(() => {}), 100);

function listen() {
  const events = new EventSource("/sandbox/events");
  const on = (kind, act) => events.addEventListener(kind, (event) => act(JSON.parse(event.data)));
  on("hello", reload);
  on("reload", reload);
  on("profile", reload);
  on("message", messageChanged);
  on("answer", answered);
  on("faults", refreshFaults);
  on("model", (model) => { state.model = model; showPanel(); });
  on("reader", (reader) => {
    state.readers.set(reader.id, reader);
    showReaders();
    if (reader.id === state.current) showChat();
  });
  on("action", (action) => {
    state.typing.set(action.chat_id, Date.now() + action.seconds * 1000);
    setTimeout(showStatus, action.seconds * 1000 + 50);
    showStatus();
  });
  events.addEventListener("error", () => {
    state.connected = false;
    showStatus();
    // The browser tries again by itself, unless it was answered with an error.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  });
}

showWords();
openPanel(remembered("panel") === "open" && window.innerWidth > 1100);
listen();
// Whether a bot is there is no event: it shows by what does not happen.
setInterval(() => { if (state.connected && !document.hidden) refreshFaults(); }, 3000);
