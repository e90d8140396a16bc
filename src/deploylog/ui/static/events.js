// The list of events: older ones by scrolling down, newer ones by scrolling up, or live. Each step
// goes on from the cursor of the one before, so that nothing is missed and nothing comes twice.

import { keepAddress } from "./address.js";
import { brush } from "./brush.js";
import { folding } from "./folding.js";
import { parse, readPart } from "./live.js";
import { showTimes } from "./times.js";

const list = document.getElementById("events");
const liveButton = document.getElementById("live");
const search = document.getElementById("search");
const suggestions = document.getElementById("suggestions");
const watch = folding();

const idOf = (line) => line?.id.slice("e-".length);

/** The list of a page, as it is shown here. */
function blockOf(fresh) {
  const block = fresh.querySelector("#events ol");
  if (!block) return null;
  showTimes(block);
  block.dataset.last = idOf(block.lastElementChild);
  return block;
}

/** What one link leads to, one step at a time. */
function stepper(id, add) {
  let running = null;
  async function step() {
    const link = document.getElementById(id);
    const text = link && (await readPart(link.href, "list"));
    if (!text) return 0;
    const fresh = await parse(text);
    const block = blockOf(fresh);
    const number = block?.children.length ?? 0;
    if (block) {
      add(block);
      watch(block, async () => blockOf(await parse(text)));
      document.getElementById("none")?.remove();
    }
    if (id === "newer" && fresh.getElementById("events").dataset.newest === "true") reachedNewest();
    // An empty page has no cursor of its own.
    if (id === "newer" && !number && list.children.length) return 0;
    const next = fresh.getElementById(id);
    if (next) link.href = next.href;
    else link.remove();
    moved();
    return number;
  }
  return () => (running ??= step().finally(() => (running = null)));
}

/** Change what is above without moving what the reader sees. */
function keepPlace(change) {
  const seen = list.firstElementChild;
  const top = seen?.getBoundingClientRect().top;
  change();
  if (seen) scrollBy({ top: seen.getBoundingClientRect().top - top, behavior: "instant" });
}

const older = stepper("older", (block) => list.append(block));
const newer = stepper("newer", (block) => {
  if (isLive) list.prepend(block);
  else keepPlace(() => list.prepend(block));
});

/** Follow a link as long as it is in sight. */
function scrolling(id, step) {
  const sight = new IntersectionObserver(async (entries) => {
    if (!entries.some((each) => each.isIntersecting)) return;
    const link = document.getElementById(id);
    if (!link || !(await step())) return;
    // Ask again, as the end may still be in sight.
    sight.unobserve(link);
    if (link.isConnected) sight.observe(link);
  }, { rootMargin: "1200px" });
  const link = document.getElementById(id);
  if (!link || link.hidden) return;
  sight.observe(link);
  link.addEventListener("click", (event) => {
    event.preventDefault();
    step();
  });
}

// Newer events come live while the list begins with the newest.

let isLive = false;

function reachedNewest() {
  if (!liveButton.hidden) return;
  isLive = true;
  liveButton.hidden = false;
  liveButton.setAttribute("aria-pressed", "true");
  for (const id of ["newer", "newest"]) {
    const link = document.getElementById(id);
    if (link) link.hidden = true;
  }
}

liveButton.addEventListener("click", () => {
  isLive = !isLive;
  liveButton.setAttribute("aria-pressed", String(isLive));
  if (isLive) catchUp();
});

async function catchUp() {
  while (isLive && (await newer()));
}

// Many hints in a moment are one.
let soon = null;
function catchUpSoon() {
  soon ??= setTimeout(() => ((soon = null), catchUp()), 150);
}

blockOf(document);
if (list.dataset.newest === "true") reachedNewest();
scrolling("older", older);
scrolling("newer", newer);
document.addEventListener("deploylog:stale", catchUpSoon);
// The page has been read again, for whatever reason.
document.addEventListener("deploylog:fresh", catchUpSoon);

// The address holds the cursor of what is in sight; its state, how far down the screen that is.

history.scrollRestoration = "manual";

/** The first event in sight. */
function lineInSight() {
  const isInSight = (element) => element.getBoundingClientRect().bottom > 0;
  const block = [...list.children].find(isInSight);
  return block && [...block.children].find(isInSight);
}

/** The event before; none at the top of the list. */
function cursorOf(line) {
  return idOf(line?.previousElementSibling) ?? line?.parentElement.previousElementSibling?.dataset.last;
}

const moved = keepAddress(() => {
  const query = new URLSearchParams(location.search);
  const line = lineInSight();
  const cursor = cursorOf(line);
  // Above the list, the address stays what led here.
  if (!cursor && (scrollY > 0 || !isLive)) return null;
  for (const name of ["before", "after"]) query.delete(name);
  if (cursor) query.set("before", cursor);
  const url = query.size ? `?${query}` : location.pathname;
  return { url, state: { top: line?.getBoundingClientRect().top } };
});

// A link, and the way back, lead to the event after the cursor, which begins the list.
const linked = new URLSearchParams(location.search).has("before") && list.querySelector("li");
if (linked) {
  const top = linked.getBoundingClientRect().top - (history.state?.top ?? 0);
  scrollBy({ top, behavior: "instant" });
}
document.addEventListener("scrollend", moved);

// The histogram chooses a time

brush(() => document.getElementById("histogram"), (from, to) => {
  const { dataset } = document.getElementById("histogram");
  const [since, until] = [dataset.from, dataset.to].map((each) => new Date(each).getTime());
  const at = (part) => new Date(since + (until - since) * part).toISOString();
  const query = new URLSearchParams(location.search);
  for (const name of ["before", "after"]) query.delete(name);
  query.set("since", at(from));
  query.set("until", at(to));
  location.search = query;
});

// Suggestions: names of filters, then their frequent values

const FIELDS = ["type", "actor", "source", "subject", "resourcetype", "resourcename", "resourcekey", "resourceaddress", "resourceid"];
const OTHERS = ["project", "stack", "environment", "deployment", "version", "commit", "label", "resource", "since", "until"];
const values = new Map();

async function valuesOf(field) {
  if (!values.has(field)) {
    const url = `${document.body.dataset.base}/suggestions?field=${field}`;
    const answer = await fetch(url).catch(() => null);
    values.set(field, answer?.ok ? await answer.json() : []);
  }
  return values.get(field);
}

function option(value, label) {
  return Object.assign(document.createElement("option"), { value, label });
}

search.addEventListener("input", async () => {
  const [, before, minus, name, colon, start] = /^(.*?)(-?)([a-z]*)(:?)([^\s:]*)$/s.exec(search.value) ?? [];
  if (before === undefined) return;
  const head = before + minus;
  if (!colon) {
    const names = [...FIELDS, ...OTHERS].filter((each) => name && each.startsWith(name));
    suggestions.replaceChildren(...names.map((each) => option(`${head}${each}:`, each)));
  } else if (FIELDS.includes(name)) {
    const found = (await valuesOf(name)).filter(({ value }) => value.includes(start));
    const quoted = (text) => (/\s/.test(text) ? `"${text}"` : text);
    suggestions.replaceChildren(
      ...found.map(({ value, count }) => option(`${head}${name}:${quoted(value)}`, `${count}`)),
    );
  }
});
