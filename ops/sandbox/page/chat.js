// The chat page: readers on the left, a conversation, and a panel.
// What came from a bot or a reader becomes text nodes only; no markup is ever parsed.

import { callChanged, forgetCalls } from "./journal.js";
import { clockChanged, refreshFaults, refreshText, showPanel, startPanel } from "./panel.js";
import { $, attempt, calmly, clock, dayKey, dayName, icon, locale, make, remember, request, state, t, toast } from "./state.js";
import { SIGN_NAMES, SIGNS } from "./words.js";

const SHOWN_READERS = 60;

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
  const words = reader.last.text || reader.last.content.document?.file_name || t("other_content");
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
  refreshText();
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

function fileLink(document) {
  const size = t("kilobytes")((document.file_size / 1024).toLocaleString(locale(), { maximumFractionDigits: 1 }));
  const link = make("a", "file", icon("file"), make("b", "", document.file_name), make("small", "", size));
  link.href = `/sandbox/files/${encodeURIComponent(document.file_id)}`;
  link.download = document.file_name;
  return link;
}

function messageNode(message) {
  const words = make("span", "words", ...formatted(message.text, message.entities));
  if (message.content.document) words.prepend(fileLink(message.content.document));
  else if (!message.text) words.append(make("em", "", `[${Object.keys(message.content)[0] ?? t("other_content")}]`));
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
  $("block").disabled = $("block-reader").disabled = !reader;
  $("block-reader").textContent = label;
  $("composer").hidden = !reader || reader.blocked;
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
  $("notice").hidden = state.connected && state.readers.size > 0;
  $("notice").classList.toggle("quiet", state.connected);
  $("notice").textContent = t(state.connected ? "no_reader" : "lost");
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
  if (message.chat_id === state.current) refreshText();
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

// Buttons around

async function block(blocked) {
  await attempt(request("POST", `/sandbox/readers/${state.current}/block`, { blocked }));
}
for (const id of ["block", "block-reader"]) {
  $(id).addEventListener("click", () => block(!state.readers.get(state.current)?.blocked));
}
$("unblock").addEventListener("click", () => block(false));
$("back").addEventListener("click", () => { showView("list"); document.querySelector('.reader[aria-current="true"]')?.focus(); });
$("start").addEventListener("click", () => say("/start"));
$("to-end").addEventListener("click", toEnd);
$("scroll").addEventListener("scroll", () => { if (atEnd()) $("to-end").hidden = true; });

$("add").addEventListener("click", () => {
  const taken = new Set([...state.readers.values()].map((reader) => reader.name));
  document.querySelector(`input[name="new-language"][value="${state.language}"]`).checked = true;
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
  clockChanged(fresh.clock);
  forgetCalls();
  state.readers = new Map(fresh.readers.map((reader) => [reader.id, reader]));
  state.messages.clear();
  if (!state.readers.has(state.current)) state.current = fresh.readers[0]?.id ?? 0;
  state.connected = true;
  showPanel();
  if (state.current) await choose(state.current); else { showReaders(); showChat(); showConversation(); }
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
  on("model", (model) => { state.model = model; showPanel(); refreshText(); });
  on("call", callChanged);
  on("clock", (fresh) => { clockChanged(fresh); showConversation(); });
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
startPanel(showStatus);
listen();
// Whether a bot is there is no event: it shows by what does not happen.
setInterval(() => { if (state.connected && !document.hidden) refreshFaults(); }, 3000);
