// One stream for all tabs of a browser: the tab that holds the lock reads it, and tells the others.

const RETRY_MS = 1000;
// The service sends a sign of life every 15 s by default, and at the latest every hour.
const SILENCE_MS = 40_000;

/**
 * Send `hint` events, whose detail is `{kind: "open" | "live" | "lost" | "hint" | "signed-out", scopes}`.
 *
 * A hint says where something happened. Pages then read what they show, so a hint that is lost or
 * repeated, or a stream that is interrupted, can neither lose nor double anything on a page.
 */
export function followHints(url) {
  const target = new EventTarget();
  const channel = new BroadcastChannel("deploylog");
  let last = "";
  let state = null;
  let isReader = false;

  function hear(message) {
    if (message.id) last = message.id;
    target.dispatchEvent(new CustomEvent("hint", { detail: message }));
  }
  function tell(message) {
    if (message.kind !== "hint") state = message.kind;
    channel.postMessage(message);
    hear(message);
  }
  channel.onmessage = ({ data }) => {
    if (data.kind !== "joined") hear(data);
    else if (isReader && state) channel.postMessage({ kind: state === "open" ? "live" : state });
  };
  channel.postMessage({ kind: "joined" });

  const read = () => {
    isReader = true;
    return new Promise(() => readStream(url, () => last, tell));
  };
  if (navigator.locks) navigator.locks.request("deploylog-stream", read);
  else read();
  return target;
}

function readStream(url, last, tell) {
  let source, watchdog;

  function open() {
    clearTimeout(watchdog);
    source?.close();
    source = new EventSource(last() ? `${url}?after=${encodeURIComponent(last())}` : url);
    source.onopen = () => (tell({ kind: "open" }), watch());
    source.onmessage = (event) => {
      tell({ kind: "hint", id: event.lastEventId, scopes: JSON.parse(event.data) });
      watch();
    };
    source.addEventListener("alive", watch);
    source.addEventListener("gap", () => tell({ kind: "hint", scopes: [""] }));
    source.onerror = () => {
      tell({ kind: "lost" });
      // The browser itself comes back after a lost connection, but not after an answer with an error.
      if (source.readyState === EventSource.CLOSED) askAgain();
    };
  }
  function watch() {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => (tell({ kind: "lost" }), open()), SILENCE_MS);
  }
  async function askAgain() {
    clearTimeout(watchdog);
    const answer = await fetch(url, { method: "HEAD" }).catch(() => null);
    if (answer?.status === 401) tell({ kind: "signed-out" });
    else setTimeout(open, RETRY_MS);
  }
  open();
}
