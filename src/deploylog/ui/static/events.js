// The list of events: older ones by scrolling, newer ones live. Each step goes on from the cursor
// of the one before, so that nothing is missed and nothing comes twice.

import { brush } from "./brush.js";
import { readPage } from "./live.js";
import { showTimes } from "./times.js";

const list = document.getElementById("events");
const liveButton = document.getElementById("live");
const search = document.getElementById("search");
const suggestions = document.getElementById("suggestions");

/** What one link leads to, one step at a time. */
function stepper(id, add) {
  let running = null;
  async function step() {
    const link = document.getElementById(id);
    const fresh = link && (await readPage(link.href, "list"));
    if (!fresh) return 0;
    showTimes(fresh);
    const items = [...fresh.querySelectorAll("#events li")].filter((each) => !document.getElementById(each.id));
    // A list for each page: one that is out of sight costs nothing while others scroll.
    const block = fresh.querySelector("#events ol");
    block?.replaceChildren(...items);
    if (items.length) add(block);
    if (items.length) document.getElementById("none")?.remove();
    const next = fresh.getElementById(id);
    if (id === "newer" && !items.length && list.children.length) return 0;
    if (next) link.href = next.href;
    else link.remove();
    return items.length;
  }
  return () => (running ??= step().finally(() => (running = null)));
}

const older = stepper("older", (block) => list.append(block));
const newer = stepper("newer", (block) => list.prepend(block));

// Older events

const sight = new IntersectionObserver(async (entries) => {
  if (!entries.some((each) => each.isIntersecting)) return;
  const link = document.getElementById("older");
  if (!link || !(await older())) return;
  // Ask again, as the end may still be in sight.
  sight.unobserve(link);
  if (link.isConnected) sight.observe(link);
}, { rootMargin: "1200px" });

const end = document.getElementById("older");
if (end) sight.observe(end);
end?.addEventListener("click", (event) => {
  event.preventDefault();
  older();
});

// Newer events, while the list begins with the newest

let isLive = list.dataset.newest === "true";
liveButton.hidden = !isLive;

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

document.addEventListener("deploylog:stale", catchUpSoon);
// The page has been read again, for whatever reason.
document.addEventListener("deploylog:fresh", catchUpSoon);

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
