// Keeps a page up to date: asks the server for its live parts, and changes only what differs.
// Focus, scroll position, open tables, selected text and ticked boxes stay.
"use strict";

(() => {
  const PATIENCE_MS = 15000;

  const content = document.getElementById("content");
  const bar = document.getElementById("refresh");
  if (!bar) {
    recover(1000 * content.dataset.recovers);
    return;
  }
  const said = document.getElementById("refresh-said");
  const news = document.getElementById("refresh-news");
  const button = document.getElementById("refresh-pause");
  const words = bar.dataset;
  const EVERY_MS = 1000 * words.every;

  let shown = content.dataset.time;
  let paused = false;
  let lost = false;
  let timer = 0;
  let asking = null;

  const say = (state, text) => {
    bar.dataset.state = state;
    said.textContent = text.replace("{time}", shown);
  };
  const announce = (text) => { news.textContent = text.replace("{time}", shown); };

  const isSelecting = () => {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && [...document.querySelectorAll("[data-live]")]
      .some((root) => selection.containsNode(root, true));
  };

  const schedule = (after = EVERY_MS) => {
    clearTimeout(timer);
    if (!paused && !document.hidden) timer = setTimeout(refresh, after);
  };

  async function refresh() {
    if (asking) return;
    asking = new AbortController();
    const patience = setTimeout(() => asking.abort(), PATIENCE_MS);
    try {
      const response = await fetch(location.href, {
        headers: { "X-Live": "1" }, cache: "no-store", redirect: "error", signal: asking.signal,
      });
      if (response.status === 401) {
        location.assign(`/sign-in?next=${encodeURIComponent(location.pathname)}`);
        return;
      }
      // 422: a condition of the filter cannot be understood; the page says which.
      if (!response.ok && response.status !== 422) throw new Error(response.statusText);
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      if (paused) return;
      if (isSelecting()) {
        say("selected", words.selected);
      } else {
        update(fresh);
        shown = content.dataset.time;
        say("live", words.updated);
      }
      if (lost) announce(words.back);
      lost = false;
    } catch {
      if (paused || document.hidden) return;
      say("lost", words.lost);
      if (!lost) announce(words.lost);
      lost = true;
    } finally {
      clearTimeout(patience);
      asking = null;
      schedule();
    }
  }

  // The error page of a server that is away: load the page again when the server is back.
  function recover(every) {
    setTimeout(async () => {
      const response = await fetch(location.href, { headers: { "X-Live": "1" }, cache: "no-store" }).catch(() => null);
      if (!response || response.status >= 500) recover(every);
      else location.reload();
    }, every);
  }

  function update(fresh) {
    for (const root of fresh.querySelectorAll("[data-live]")) {
      const here = document.getElementById(root.id);
      if (here) become(here, root);
    }
  }

  // Make one element like another. Parts that are in both are kept, and so are rows with a ticked box.
  function become(old, fresh) {
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !isOwn(old, name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value && !isOwn(old, name)) old.setAttribute(name, value);
    }
    let place = old.firstChild;
    for (const wanted of [...fresh.childNodes]) {
      let part = sought(old, place, wanted);
      // Remove what is gone before the part that is wanted: moving that part instead would take its focus away.
      while (part && place && place !== part && !isWanted(fresh, place)) place = dismiss(place);
      if (!part) {
        part = old.insertBefore(document.importNode(wanted, true), place);
      } else {
        if (part === place) place = place.nextSibling;
        else old.insertBefore(part, place);
        if (part.nodeType === Node.ELEMENT_NODE) become(part, wanted);
        else if (part.nodeValue !== wanted.nodeValue) part.nodeValue = wanted.nodeValue;
      }
    }
    while (place) place = dismiss(place);
  }

  // Remove a part that is gone, unless a box in it is ticked: then only mark it. Returns what comes after it.
  function dismiss(part) {
    const next = part.nextSibling;
    if (part.nodeName === "TR" && part.querySelector("input:checked")) part.className = "is-gone";
    else part.remove();
    return next;
  }

  // The part of the page that `wanted` is a newer state of: the one with its id, or else the one in its place.
  function sought(old, place, wanted) {
    const id = idOf(wanted);
    if (id) {
      const same = document.getElementById(id);
      return same && same.parentNode === old && same.nodeName === wanted.nodeName ? same : null;
    }
    return place && !idOf(place) && place.nodeName === wanted.nodeName ? place : null;
  }

  function isWanted(fresh, part) {
    const id = idOf(part);
    return Boolean(id) && [...fresh.children].some((child) => idOf(child) === id);
  }

  // Not `part.id`: of a form that is a field with this name.
  function idOf(part) {
    return part.nodeType === Node.ELEMENT_NODE ? part.getAttribute("id") : null;
  }

  // The reader opens and closes details; an update does not.
  function isOwn(element, attribute) {
    return attribute === "open" && element.nodeName === "DETAILS";
  }

  button.addEventListener("click", () => {
    paused = !paused;
    if (paused) {
      clearTimeout(timer);
      say("paused", words.paused);
      announce(words.paused);
    } else {
      say("live", words.updated);
      refresh();
    }
  });

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else if (!paused) refresh();
  });

  bar.hidden = false;
  say("live", words.updated);
  schedule();
})();
