// Live content: when something happens in what an element shows, read the page again and change
// only what differs. The service renders everything, so there is one rendering, and one escaping.

import { Idiomorph } from "idiomorph";
import { showTimes } from "./times.js";

const QUIET_MS = 150;
const RUNNING_MS = 2000;
// Reading may take at most a third of the time.
const SHARE = 3;

const policy = globalThis.trustedTypes?.createPolicy("deploylog", { createHTML: (text) => text });

// Characters of markup that are parsed at once: some 2 ms.
const SLICE = 1 << 16;

const breath = () => globalThis.scheduler?.yield?.() ?? new Promise((resolve) => setTimeout(resolve));

/** A document of the service's markup, in which nothing runs. After each whole slice frames are drawn. */
export async function parse(text) {
  const parsed = document.implementation.createHTMLDocument("");
  parsed.open();
  for (let at = 0; at < text.length; at += SLICE) {
    const slice = text.slice(at, at + SLICE);
    parsed.write(policy ? policy.createHTML(slice) : slice);
    if (text.length > SLICE) await breath();
  }
  parsed.close();
  return parsed;
}

/** The answer of `url`; `null` when it is not to be had. */
async function ask(url, headers) {
  const response = await fetch(url, { headers: { accept: "text/html", ...headers } }).catch(() => null);
  if (response?.status === 401) location.reload();
  return response?.ok || response?.status === 304 ? response : null;
}

/** The text of a part of a page, which leaves out the rest; `null` when it is not to be had. */
export async function readPart(url, part) {
  const response = await ask(url, { "deploylog-part": part });
  return response && response.text();
}

// What the page shows. The service answers with a page only if it is another.
let { version } = document.body.dataset;

// Where the reader is; the zoom is no other page.
const place = () => location.pathname + location.search;

/**
 * The page where the reader is, `null` when it is not to be had, and `undefined` when it is shown
 * already, or the reader has gone on.
 */
async function readPage() {
  const url = place();
  const response = await ask(url, { "if-none-match": `W/"${version}"` });
  const fresh = response?.status === 200 ? await parse(await response.text()) : null;
  return response?.status === 304 || place() !== url ? undefined : fresh;
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
}

/** Say that the page shows what the service had a moment ago. */
function sayFresh() {
  document.dispatchEvent(new CustomEvent("deploylog:fresh"));
}

/** Change what differs from the page where the reader is now, so that nothing scrolls or flickers. */
async function swap() {
  const fresh = await readPage();
  if (fresh === null) location.reload();
  else if (fresh) {
    document.title = fresh.title;
    morph(document.getElementById("main"), fresh.getElementById("main"));
    ({ version } = fresh.body.dataset);
    sayFresh();
  }
}

/** Follow links with `data-swap` in place, back and forward too. */
export function swapLinks() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-swap]");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    history.pushState({ swapped: true }, "", link.search + location.hash || location.pathname);
    swap();
  });
  addEventListener("popstate", swap);
}

/** Whether one of the scopes is, or is below, one that the element shows; scopes hold no space. */
function concerns(element, scopes) {
  const shown = element.dataset.live.split(" ");
  const isShown = (scope) => shown.some((each) => !each || scope === each || scope.startsWith(`${each}/`));
  return scopes.some((scope) => !scope || isShown(scope));
}

const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex='0']";

/** Where `change` takes away what has the focus, the next one gets it, or else the one before. */
function keepFocus(change) {
  const main = document.getElementById("main");
  const focused = document.activeElement;
  const all = main.contains(focused) ? [...main.querySelectorAll(FOCUSABLE)] : [];
  const at = all.indexOf(focused);
  change();
  if (at < 0 || focused.isConnected) return;
  const neighbours = [...all.slice(at + 1), ...all.slice(0, at).reverse()];
  for (const each of neighbours) {
    if (each.isConnected) each.focus();
    if (document.activeElement === each) return;
  }
}

/** Make everything live as it is in `fresh`. */
function show(fresh) {
  document.title = fresh.title;
  for (const element of document.querySelectorAll("[data-live]")) {
    const successor = fresh.getElementById(element.id);
    if (successor) keepFocus(() => morph(element, successor));
  }
  ({ version } = fresh.body.dataset);
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
    const fresh = await readPage();
    if (fresh) show(fresh);
    if (fresh !== null) sayFresh();
    this.#readAt = performance.now();
    this.#rest = (this.#readAt - started) * (SHARE - 1);
    this.#isReading = false;
    if (fresh === null) this.#isStale = true;
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
