// The panel: what can be shown to somebody new, the faults, the journal.

import { showJournal } from "./journal.js";
import { $, attempt, calmly, confirmed, locale, make, remember, remembered, request, state, t } from "./state.js";
import { SIGN_NAMES, SIGNS } from "./words.js";

const RETRY_AFTER = 3;
const TABS = ["demo", "faults", "journal"];
let refreshed = () => {};

// Tabs

function chooseTab(chosen) {
  for (const name of TABS) {
    $(`tab-${name}`).setAttribute("aria-selected", String(name === chosen));
    $(`tab-${name}`).tabIndex = name === chosen ? 0 : -1;
    $(`part-${name}`).hidden = name !== chosen;
  }
  remember("tab", chosen);
  showPanel();
}

for (const name of TABS) {
  $(`tab-${name}`).addEventListener("click", () => chooseTab(name));
  $(`tab-${name}`).addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = TABS[(TABS.indexOf(name) + step + TABS.length) % TABS.length];
    chooseTab(next);
    $(`tab-${next}`).focus();
  });
}

const isOpen = () => !$("panel").hidden;

// The text of the chosen reader

let text = null; // what the server said last: {reader, missing, text}

const signName = (sign) => SIGN_NAMES[state.language][SIGNS.indexOf(sign)];
const dateName = (day) => new Intl.DateTimeFormat(locale(), { day: "numeric", month: "long", timeZone: "UTC" }).format(new Date(day));

function showText() {
  const reader = state.readers.get(state.current);
  const known = text?.reader === state.current ? text : null;
  const found = known?.text;
  $("forget").disabled = !found?.exists;
  if (!reader) $("text-state").textContent = t("no_reader");
  else if (!known || known.failed) $("text-state").textContent = t("text_unknown");
  else if (known.missing) $("text-state").textContent = t("missing")[known.missing];
  else if (!found) $("text-state").textContent = t("text_no_sign")(reader.name);
  else $("text-state").textContent = t(found.exists ? "text_exists" : "text_missing")(signName(found.sign), dateName(found.day));
  const bites = state.model?.faults.some((fault) => !fault.sign || fault.sign === found?.sign);
  $("cannot-bite").hidden = !(found?.exists && bites);
}

export const refreshText = calmly(async () => {
  const reader = state.current;
  if (!isOpen() || !state.readers.has(reader)) return showText();
  try {
    text = { reader, ...await request("GET", `/sandbox/readers/${reader}/text`) };
  } catch {
    text = { reader, failed: true };
  }
  return showText();
}, 200);

async function forget() {
  const reader = state.current;
  const answer = await attempt(request("DELETE", `/sandbox/readers/${reader}/text`));
  if (answer) text = { reader, ...answer };
  showText();
}
$("forget").addEventListener("click", forget);
$("forget-here").addEventListener("click", forget);

// The clock

let clockRead = 0; // when the server said it, on the page's own clock

export function clockChanged(clock) {
  state.clock = clock;
  clockRead = performance.now();
  showClock();
}

function showClock() {
  const { missing, now, offset, zone } = state.clock;
  $("clock-missing").hidden = !missing;
  $("clock-missing").textContent = missing ? t("missing")[missing] : "";
  $("clock-parts").hidden = Boolean(missing);
  if (missing || !zone) return;
  const shown = (now * 1000) + performance.now() - clockRead;
  $("clock-time").textContent = new Intl.DateTimeFormat(locale(),
    { day: "numeric", month: "long", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZone: zone }).format(shown);
  $("clock-zone").textContent = zone;
  const hours = `${Math.floor(offset % 86400 / 3600)}:${String(Math.floor(offset % 3600 / 60)).padStart(2, "0")}`;
  $("clock-offset").textContent = offset ? t("ahead")(Math.floor(offset / 86400), hours) : t("clock_is_real");
}

for (const button of document.querySelectorAll("[data-move]")) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    const clock = await attempt(request("POST", "/sandbox/clock", { to: button.dataset.move }));
    button.disabled = false;
    if (clock) clockChanged(clock);
    button.focus();
    refreshText();
  });
}
setInterval(() => { if (isOpen() && !$("part-demo").hidden) showClock(); }, 1000);

// Readers and everything

$("delete-reader").addEventListener("click", async () => {
  const reader = state.readers.get(state.current);
  if (!reader || !await confirmed(t("delete_lead")(reader.name), t("delete"))) return;
  await attempt(request("DELETE", `/sandbox/readers/${reader.id}`));
});
$("reset").addEventListener("click", async () => {
  if (!await confirmed(t("reset_lead"), t("reset"))) return;
  await attempt(request("POST", "/sandbox/reset", { name: t("first_name"), language: state.language }));
});

// Faults

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

export function showPanel() {
  const { telegram, model } = state;
  if (!telegram || !model) return;
  const active = telegram.faults.length + model.faults.length;
  $("fault-badge").hidden = active === 0;
  $("fault-badge").textContent = active;
  if (!isOpen()) return;
  showText();
  showClock();
  showJournal(!$("part-journal").hidden);
  $("delete-reader").disabled = !state.readers.has(state.current);
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

export const refreshFaults = calmly(async () => {
  try { await loadFaults(); } catch { return; }
  showPanel();
  refreshText();
  refreshed();
}, 150);

function openPanel(open) {
  $("panel").hidden = !open;
  $("app").classList.toggle("with-panel", open);
  $("open-panel").setAttribute("aria-expanded", String(open));
  remember("panel", open ? "open" : "");
  if (open) refreshFaults();
  showPanel();
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

export function startPanel(whenRefreshed) {
  refreshed = whenRefreshed;
  const tab = remembered("tab");
  chooseTab(TABS.includes(tab) ? tab : "demo");
  openPanel(remembered("panel") === "open" && window.innerWidth > 1100);
}
