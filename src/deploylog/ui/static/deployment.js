// The waterfall: brush, wheel and keys zoom; what the service renders anew keeps the zoom.

import { keepAddress } from "./address.js";
import { along, brush } from "./brush.js";

const FULL = { from: 0, to: 1 };
const SMALLEST = 0.0005;
let zoom = parse(location.hash);

const waterfall = () => document.getElementById("waterfall");
const chart = () => waterfall()?.querySelector(".chart .track");

/** The zoom in the address, so that a link shows what its sender saw. */
function parse(hash) {
  const [from, to] = (/^#zoom=([\d.]+)-([\d.]+)$/.exec(hash) ?? []).slice(1).map(Number);
  return from >= 0 && to <= 1 && to - from >= SMALLEST ? { from, to } : FULL;
}

function show() {
  const scale = 1 / (zoom.to - zoom.from);
  for (const svg of waterfall()?.querySelectorAll("svg.stretch") ?? []) {
    svg.style.width = `${100 * scale}%`;
    svg.style.transform = `translateX(${-100 * zoom.from}%)`;
  }
  const fit = document.getElementById("fit");
  if (fit) fit.hidden = zoom === FULL;
}

function zoomTo(from, to) {
  const length = Math.min(Math.max(to - from, SMALLEST), 1);
  const start = Math.min(Math.max(from, 0), 1 - length);
  zoom = length === 1 ? FULL : { from: start, to: start + length };
  moved();
  requestAnimationFrame(show);
}

const moved = keepAddress(() => {
  const hash = zoom === FULL ? "" : `#zoom=${zoom.from.toFixed(5)}-${zoom.to.toFixed(5)}`;
  return { url: location.pathname + location.search + hash };
});

function zoomBy(factor, at = 0.5) {
  const length = zoom.to - zoom.from;
  const point = zoom.from + length * at;
  zoomTo(point - length * factor * at, point + length * factor * (1 - at));
}

function move(by) {
  const length = zoom.to - zoom.from;
  zoomTo(zoom.from + by * length, zoom.to + by * length);
}

const KEYS = {
  "+": () => zoomBy(0.5),
  "=": () => zoomBy(0.5),
  "-": () => zoomBy(2),
  0: () => zoomTo(0, 1),
  ArrowLeft: () => move(-0.2),
  ArrowRight: () => move(0.2),
};

document.addEventListener("keydown", (event) => {
  const act = event.target === chart() && !event.ctrlKey && !event.metaKey && KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

document.addEventListener("click", (event) => {
  if (event.target.id === "fit") zoomTo(0, 1);
});

document.addEventListener("wheel", (event) => {
  if (!(event.ctrlKey || event.metaKey) || !chart()?.contains(event.target)) return;
  event.preventDefault();
  zoomBy(event.deltaY > 0 ? 1.25 : 0.8, along(chart(), event));
}, { passive: false });

brush(chart, (from, to) => {
  const length = zoom.to - zoom.from;
  zoomTo(zoom.from + from * length, zoom.from + to * length);
});

document.addEventListener("deploylog:fresh", show);
show();
