// The journal: every call of the Bot API with its answer, newest first.

import { $, attempt, locale, make, request, state, t } from "./state.js";

const KEPT = 500; // calls
const calls = new Map(); // by number, the oldest first
const nodes = new Map();
let loaded = false;
let visible = false;

export function callChanged(call) {
  if (!loaded) return;
  calls.set(call.number, call);
  if (calls.size > KEPT) {
    const [oldest] = calls.keys();
    calls.delete(oldest);
    nodes.get(oldest)?.remove();
    nodes.delete(oldest);
  }
  if (visible) showCall(call);
}

export function forgetCalls() {
  loaded = false;
  calls.clear();
  if (visible) load();
}

async function load() {
  loaded = true;
  const found = await attempt(request("GET", `/sandbox/calls?limit=${KEPT}`));
  if (!found) { loaded = false; return; }
  const newer = [...calls];
  calls.clear();
  for (const call of found) calls.set(call.number, call);
  for (const [number, call] of newer) calls.set(number, call);
  showAll();
}

// Draws the filter in the page's language, and the calls when they come into view.
export function showJournal(nowVisible) {
  const options = [...state.readers.values()].map((reader) => new Option(reader.name, reader.id));
  const chosen = $("journal-reader").value;
  $("journal-reader").replaceChildren(new Option(t("all_readers"), ""), ...options);
  $("journal-reader").value = state.readers.has(Number(chosen)) ? chosen : "";
  const appeared = nowVisible && !visible;
  visible = nowVisible;
  if (visible && !loaded) load();
  else if (appeared) showAll();
}

export function showAll() {
  nodes.clear();
  $("calls").replaceChildren();
  for (const call of calls.values()) showCall(call);
  showEmpty();
}

function isWanted(call) {
  const reader = Number($("journal-reader").value);
  return (!reader || call.reader_id === reader) && ($("journal-polls").checked || call.method.toLowerCase() !== "getupdates");
}

function showCall(call) {
  if (!isWanted(call)) return;
  const node = callNode(call);
  const old = nodes.get(call.number);
  nodes.set(call.number, node);
  if (!old) {
    $("calls").prepend(node);
  } else {
    node.firstChild.open = old.firstChild.open;
    const focused = old.contains(document.activeElement);
    old.replaceWith(node);
    if (focused) node.querySelector("summary").focus();
  }
  showEmpty();
}

function showEmpty() {
  $("calls-empty").hidden = nodes.size > 0;
}

function outcome(call) {
  if (call.fault && !call.response) return [call.fault, "bad"];
  if (!call.response) return [t("under_way"), ""];
  if (!call.response.ok) return [String(call.response.error_code), "bad"];
  return call.fault ? [call.fault, "bad"] : ["ok", "good"];
}

function callNode(call) {
  const [words, kind] = outcome(call);
  const time = new Intl.DateTimeFormat(locale(), { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(call.time * 1000);
  const reader = state.readers.get(call.reader_id)?.name ?? String(call.reader_id ?? "");
  const took = call.answered ? `${Math.round((call.answered - call.time) * 1000)} ms` : "";
  const summary = make("summary", "", make("time", "", time), make("b", "", call.method), make("span", `outcome ${kind}`, words),
    make("span", "call-reader", reader), make("span", "took", took));
  const answer = call.response ? JSON.stringify(call.response, null, 1) : t("no_answer");
  const details = make("details", "", summary,
    make("h4", "", t("arguments")), make("pre", "", JSON.stringify(call.parameters, null, 1)),
    make("h4", "", t("answer")), make("pre", "", answer));
  return make("li", "", details);
}

$("journal-reader").addEventListener("change", showAll);
$("journal-polls").addEventListener("change", showAll);
