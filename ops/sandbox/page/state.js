// What every part of the page needs: the state, the server, elements.

import { WORDS } from "./words.js";

export const $ = (id) => document.getElementById(id);
export const remembered = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
export const remember = (key, value) => { try { localStorage.setItem(key, value); } catch { /* private windows */ } };

export const state = {
  language: remembered("language") || (navigator.language.toLowerCase().startsWith("ru") ? "ru" : "en"),
  bot: {}, profile: [], commands: [], readers: new Map(), messages: new Map(), unread: new Map(),
  current: Number(remembered("reader")) || 0, telegram: null, model: null, clock: { now: 0, offset: 0, missing: null },
  typing: new Map(), waiting: new Map(), connected: false,
};
export const t = (key) => WORDS[state.language][key];

export function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

export async function request(method, path, body) {
  const options = { method };
  if (body !== undefined) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  const response = await fetch(path, options);
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

export function attempt(promise) {
  return promise.catch((error) => { toast(`${t("failed")}: ${error.message}`); return null; });
}

// Calls once after a pause, however often it is asked to.
export function calmly(task, pause) {
  let timer = 0;
  return () => { if (!timer) timer = setTimeout(() => { timer = 0; task(); }, pause); };
}

// British English, for the clock of 24 hours.
export const locale = () => ({ ru: "ru", en: "en-GB" })[state.language];
export const clock = (seconds) => new Intl.DateTimeFormat(locale(), { hour: "2-digit", minute: "2-digit" }).format(seconds * 1000);
export const dayKey = (seconds) => new Date(seconds * 1000).toDateString();

export function dayName(seconds) {
  const now = new Date(Date.now() + state.clock.offset * 1000);
  const age = Math.round((now.setHours(0, 0, 0, 0) - new Date(seconds * 1000).setHours(0, 0, 0, 0)) / 864e5);
  if (age === 0) return t("today");
  if (age === 1) return t("yesterday");
  return new Intl.DateTimeFormat(locale(), { day: "numeric", month: "long" }).format(seconds * 1000);
}

let toastTimer = 0;
export function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, 3500);
}

// Asks before what cannot be undone; resolves to whether the person agreed.
export function confirmed(question, agree) {
  const dialog = $("confirm-dialog");
  $("confirm-text").textContent = question;
  $("confirm-agree").textContent = agree;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "agree"), { once: true });
  });
}
