// Keeps a page up to date: asks for what may have changed, and changes only that.
// What somebody does meanwhile stays: focus, scroll, open tables, selected text.
"use strict";

(() => {
  const PATIENCE_MS = 15000;

  const bar = document.getElementById("refresh");
  const said = document.getElementById("refresh-said");
  const news = document.getElementById("refresh-news");
  const button = document.getElementById("refresh-pause");
  const words = bar.dataset;
  const EVERY_MS = 1000 * words.every;

  let shown = document.getElementById("content").dataset.time;
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
      if (!response.ok) throw new Error(response.statusText);
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      if (paused) return;
      if (isSelecting()) {
        say("selected", words.selected);
      } else {
        for (const root of fresh.querySelectorAll("[data-live]")) {
          const here = document.getElementById(root.id);
          if (here) become(here, root);
        }
        shown = document.getElementById("content").dataset.time;
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

  // Make one element like another, keeping every part that is in both.
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
      // What nobody wants any more goes, so that what comes after it need not be moved and keeps its focus.
      while (part && place && place !== part && !isWanted(fresh, place)) {
        const next = place.nextSibling;
        place.remove();
        place = next;
      }
      if (!part) {
        part = old.insertBefore(document.importNode(wanted, true), place);
      } else {
        if (part === place) place = place.nextSibling;
        else old.insertBefore(part, place);
        if (part.nodeType === Node.ELEMENT_NODE) become(part, wanted);
        else if (part.nodeValue !== wanted.nodeValue) part.nodeValue = wanted.nodeValue;
      }
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  }

  // The part of the page that `wanted` is a newer state of: by its id, or else what stands in its place.
  function sought(old, place, wanted) {
    if (wanted.id) {
      const same = document.getElementById(wanted.id);
      return same && same.parentNode === old && same.nodeName === wanted.nodeName ? same : null;
    }
    return place && !place.id && place.nodeName === wanted.nodeName ? place : null;
  }

  function isWanted(fresh, part) {
    return Boolean(part.id) && [...fresh.children].some((child) => child.id === part.id);
  }

  // Whether a table is open is for whoever looks at it to say.
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
