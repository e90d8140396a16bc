// Live content: when something happens in what an element shows, read the page again and change
// only what differs. The service renders everything, so there is one rendering, and one escaping.

import { Idiomorph } from "idiomorph";
import { showTimes } from "./times.js";

const QUIET_MS = 150;
const RUNNING_MS = 2000;
// Reading may take at most a third of the time.
const SHARE = 3;

const policy = globalThis.trustedTypes?.createPolicy("deploylog", { createHTML: (text) => text });

/** A document of the service's markup, in which nothing runs. */
export function parse(text) {
  return new DOMParser().parseFromString(policy ? policy.createHTML(text) : text, "text/html");
}

/**
 * The page at `url` as text; `null` when it is not to be had.
 *
 * A page may leave out what is not in the `part` that is asked for.
 */
export async function readText(url, part = "") {
  const headers = { accept: "text/html", "deploylog-part": part };
  const response = await fetch(url, { headers }).catch(() => null);
  if (response?.status === 401) location.reload();
  return response?.ok ? response.text() : null;
}

async function readPage(url) {
  const text = await readText(url);
  return text === null ? null : parse(text);
}

/** Make `old` like `fresh`, and leave what the reader has opened, chosen or typed. */
export function morph(old, fresh) {
  showTimes(fresh);
  Idiomorph.morph(old, fresh, {
    ignoreActiveValue: true,
    callbacks: {
      beforeNodeMorphed: (node, successor) =>
        !(node.dataset && "keep" in node.dataset) && !node.isEqualNode(successor),
      beforeNodeRemoved: (node) => !(node.dataset && "keep" in node.dataset),
      beforeAttributeUpdated: (name, node) =>
        // What scripts have set: the zoom, and what was opened.
        name !== "style" && !(name === "open" && node.localName === "details"),
    },
  });
  document.dispatchEvent(new CustomEvent("deploylog:fresh"));
}

/** Follow a link by changing what differs, so that nothing scrolls or flickers. */
async function swap(url) {
  const fresh = await readPage(url);
  if (!fresh) location.assign(url);
  else {
    document.title = fresh.title;
    morph(document.getElementById("main"), fresh.getElementById("main"));
  }
}

/** Follow links with `data-swap` in place, back and forward too. */
export function swapLinks() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-swap]");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    history.pushState({ swapped: true }, "", link.search + location.hash || location.pathname);
    swap(location.href);
  });
  addEventListener("popstate", () => swap(location.href));
}

/** Whether one of the scopes is, or is below, one that the element shows; scopes hold no space. */
function concerns(element, scopes) {
  const shown = element.dataset.live.split(" ");
  const isShown = (scope) => shown.some((each) => !each || scope === each || scope.startsWith(`${each}/`));
  return scopes.some((scope) => !scope || isShown(scope));
}

class Refresher {
  #timer = null;
  #isReading = false;
  #isStale = false;
  #rest = 0;
  #readAt = 0;

  /** Read the page soon; many calls in a moment are one. */
  request() {
    this.#isStale = true;
    if (this.#timer === null && !this.#isReading) {
      const seconds = [...document.querySelectorAll("[data-every]")].map((e) => Number(e.dataset.every));
      const rest = Math.max(this.#rest, ...seconds.map((each) => each * 1000));
      const wait = this.#readAt + rest - performance.now();
      this.#timer = setTimeout(() => this.#read(), Math.max(QUIET_MS, wait));
    }
  }

  async #read() {
    this.#timer = null;
    this.#isReading = true;
    this.#isStale = false;
    const started = performance.now();
    const fresh = await readPage(location.href);
    if (fresh) document.title = fresh.title;
    for (const element of document.querySelectorAll("[data-live]")) {
      const successor = fresh?.getElementById(element.id);
      if (successor && !("paused" in element.dataset)) morph(element, successor);
    }
    this.#readAt = performance.now();
    this.#rest = (this.#readAt - started) * (SHARE - 1);
    this.#isReading = false;
    if (!fresh) this.#isStale = true;
    if (this.#isStale) this.request();
  }
}

/** Keep every element with `data-live`, a scope, as the service would render it now. */
export function keepLive(hints) {
  const refresher = new Refresher();
  const indicator = document.getElementById("connection");
  hints.addEventListener("hint", ({ detail: { kind, scopes } }) => {
    if (kind === "signed-out") location.reload();
    indicator.hidden = false;
    indicator.dataset.state = kind === "lost" ? "lost" : "live";
    const text = kind === "lost" ? "Reconnecting…" : "Live";
    if (indicator.textContent !== text) indicator.textContent = text;
    const elements = [...document.querySelectorAll("[data-live]")];
    const isStale = kind === "open" || (kind === "hint" && elements.some((e) => concerns(e, scopes)));
    if (!isStale) return;
    refresher.request();
    document.dispatchEvent(new CustomEvent("deploylog:stale"));
  });
  // What runs grows without any event.
  setInterval(() => {
    if (!document.hidden && document.querySelector("[data-running]")) refresher.request();
  }, RUNNING_MS);
  // A tab that joins may have missed what happened since its page was rendered.
  refresher.request();
}
