// Times: in the reader's zone, with UTC in the tooltip, and as so long ago where that says more. Who
// chooses so sees all of them in the zone, or in UTC, as there is no tooltip on a phone.

const DAY = 86_400_000;
const CHOICE = "deploylog-times";
const ZONES = { local: undefined, utc: "UTC" };

let choice, time, date;
choose(localStorage.getItem(CHOICE));

function choose(name) {
  choice = name in ZONES ? name : "relative";
  const options = { timeStyle: "medium", timeZone: ZONES[choice] };
  time = new Intl.DateTimeFormat(undefined, options);
  date = new Intl.DateTimeFormat(undefined, { ...options, dateStyle: "medium" });
}

const ago = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });

// Seconds up to which a unit is used, and how many there are in one.
const UNITS = [
  [60, 1, "second"],
  [3600, 60, "minute"],
  [86_400, 3600, "hour"],
  [7 * 86_400, 86_400, "day"],
];

function inZone(moment) {
  const isRecent = Math.abs(Date.now() - moment) < DAY && moment.getDate() === new Date().getDate();
  return (isRecent ? time : date).format(moment) + (choice === "utc" ? " UTC" : "");
}

function relative(moment) {
  const seconds = (moment - Date.now()) / 1000;
  const unit = UNITS.find(([limit]) => Math.abs(seconds) < limit);
  return unit ? ago.format(Math.round(seconds / unit[1]), unit[2]) : inZone(moment);
}

/** As `duration` in ui/rendering.py has it. */
function elapsed(milliseconds) {
  const seconds = Math.max(milliseconds, 0) / 1000;
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}

function showTime(element) {
  const moment = new Date(element.dateTime);
  if (Number.isNaN(moment.getTime())) return;
  const isRelative = element.dataset.time === "relative";
  const text = isRelative && choice === "relative" ? relative(moment) : inZone(moment);
  if (element.textContent !== text) element.textContent = text;
  if (isRelative && !("zoned" in element.dataset)) {
    element.title = `${inZone(moment)} · ${element.title}`;
    element.dataset.zoned = "";
  }
}

/** Show every time below `root`. */
export function showTimes(root) {
  root.querySelectorAll("time[data-time=absolute]").forEach(showTime);
  for (const element of root.querySelectorAll("[data-clock]")) {
    element.textContent = time.format(new Date(element.dataset.clock));
  }
  passTime(root);
}

/** Show how much time has passed by now. */
export function passTime(root) {
  // The browser keeps what it finds by class, however long the page is.
  for (const element of [...root.getElementsByClassName("passing")]) {
    if (element.dataset.since) element.textContent = elapsed(Date.now() - new Date(element.dataset.since));
    else showTime(element);
  }
}

/** Let the reader choose how times are shown, here and on every page. */
export function offerTimes(select) {
  select.value = choice;
  select.addEventListener("change", () => {
    localStorage.setItem(CHOICE, select.value);
    choose(select.value);
    showTimes(document);
  });
}
