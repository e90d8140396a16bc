// Blocks of a long list that are far out of sight have only the words of their lines, which is what
// find-in-page looks through: an eighth of the nodes that the browser must walk through.

// Pixels around the screen in which blocks are whole: some two thousand lines.
const NEAR = 40_000;

/** What the line says. */
const wordsOf = (line) => [...line.children].map((each) => each.textContent).join(" ");

/** Returns `watch(block, make)`: the block is folded while it is far, and `make()` makes it whole. */
export function folding() {
  const makers = new WeakMap();

  function fold(block, height) {
    if ("folded" in block.dataset || block.contains(document.activeElement)) return;
    block.dataset.folded = "";
    block.style.height = `${height}px`;
    for (const line of block.children) line.textContent = wordsOf(line);
  }
  async function unfold(block) {
    if (!("folded" in block.dataset)) return;
    const whole = await makers.get(block)();
    if (!("folded" in block.dataset)) return;
    delete block.dataset.folded;
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
