// The address of what is in sight, so that a link, and the way back, lead there.

// For the browser each change is a navigation, so it waits until the reader rests.
const REST_MS = 250;

/**
 * Returns `changed()`: once the reader rests, or follows a link, the address becomes what `read()`
 * returns, `{url, state}`, unless that is null.
 */
export function keepAddress(read) {
  let timer = null;

  function write() {
    clearTimeout(timer);
    timer = null;
    const address = read();
    if (address) history.replaceState({ ...history.state, ...address.state }, "", address.url);
  }
  const writeWhatWaits = () => timer !== null && write();
  document.addEventListener("click", writeWhatWaits, { capture: true });
  addEventListener("pagehide", writeWhatWaits);
  return () => {
    clearTimeout(timer);
    timer = setTimeout(write, REST_MS);
  };
}
