// Blocks of a long list that are far out of sight are empty: what the browser need not walk through
// costs no frame. Near ones are whole, so that find-in-page and screen readers have them.

// Pixels around the screen in which blocks are whole: some two thousand lines.
const NEAR = 40_000;

/** Returns `watch(block, make)`: the block is empty while it is far, and `make()` refills it. */
export function folding() {
  const makers = new WeakMap();

  function fold(block, height) {
    if (!block.firstElementChild || block.contains(document.activeElement)) return;
    block.style.height = `${height}px`;
    block.replaceChildren();
  }
  async function unfold(block) {
    if (block.firstElementChild) return;
    const whole = await makers.get(block)();
    if (block.firstElementChild) return;
    block.replaceChildren(...whole.children);
    block.style.height = "";
  }
  const sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting, boundingClientRect } of entries) {
      if (isIntersecting) unfold(target);
      else fold(target, boundingClientRect.height);
    }
  }, { rootMargin: `${NEAR}px 0px` });
  return (block, make) => {
    makers.set(block, make);
    sight.observe(block);
  };
}
