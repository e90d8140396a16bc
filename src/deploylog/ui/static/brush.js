// A range that is chosen by dragging: in a waterfall, in a histogram.

/** Where the pointer is in the element, from 0 to 1. */
export function along(element, event) {
  const { left, width } = element.getBoundingClientRect();
  return Math.min(Math.max((event.clientX - left) / width, 0), 1);
}

/** Let the mouse choose a range of what `find` returns, and call `choose(from, to)`. */
export function brush(find, choose) {
  document.addEventListener("pointerdown", (event) => {
    const track = find();
    if (event.button || event.pointerType === "touch" || !track?.contains(event.target)) return;
    const start = along(track, event);
    const range = track.querySelector(".brush");
    const ends = (moved) => [start, along(track, moved)].sort((a, b) => a - b);

    function drag(moved) {
      const [from, to] = ends(moved);
      range.hidden = to - from < 0.005;
      range.style.left = `${from * 100}%`;
      range.style.width = `${(to - from) * 100}%`;
      if (!range.hidden && !track.hasPointerCapture(event.pointerId)) {
        track.setPointerCapture(event.pointerId);
      }
    }
    function drop(ended) {
      document.removeEventListener("pointermove", drag);
      document.removeEventListener("pointerup", drop);
      document.removeEventListener("pointercancel", drop);
      if (!range.hidden && ended.type === "pointerup") choose(...ends(ended));
      range.hidden = true;
    }
    document.addEventListener("pointermove", drag);
    document.addEventListener("pointerup", drop);
    document.addEventListener("pointercancel", drop);
    // Neither text nor a link is dragged.
    event.preventDefault();
    track.focus({ preventScroll: true });
  });
}
