// The patches over the picture: which are steered. Painted by pointer, or by keys.
import { html } from "lit-html";

/**
 * @param state {on, grid, cursor, passive}: on[i] is 1 where patch i is steered; passive lets pointers through.
 * @param id prefix of ids: several panels may be on a page.
 * @param act {paint(cells, value), move(cursor)}.
 */
export function patches({ on, grid, cursor, passive }, id, act) {
  const count = on.reduce((sum, value) => sum + value, 0);
  const says = `Patches that are steered: ${count} of ${on.length}. Arrow keys move, Space turns a patch on or off.`;
  const cell = (i) => html`<div
    role="gridcell"
    id="${id}-patch-${i}"
    class="steer-cell ${on[i] ? "steer-on" : ""} ${i === cursor ? "steer-cursor" : ""}"
    aria-selected=${on[i] ? "true" : "false"}
    aria-label="row ${Math.floor(i / grid) + 1}, column ${(i % grid) + 1}: ${on[i] ? "steered" : "not steered"}"
  ></div>`;
  const rows = Array.from({ length: grid }, (_, r) => html`<div role="row" class="steer-row">
    ${Array.from({ length: grid }, (_, c) => cell(r * grid + c))}
  </div>`);
  return html`<div
    role="grid"
    tabindex="0"
    class="steer-grid ${passive ? "steer-passive" : ""}"
    data-testid="patches"
    aria-multiselectable="true"
    aria-label=${says}
    aria-activedescendant="${id}-patch-${cursor}"
    @keydown=${(event) => pressed(event, { on, grid, cursor }, act)}
    @pointerdown=${(event) => painting(event, { on, grid }, act)}
  >${rows}</div>`;
}

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

function pressed(event, { on, grid, cursor }, act) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const inside = (value) => Math.min(grid - 1, Math.max(0, value));
  if (event.key in STEPS) {
    const [down, right] = STEPS[event.key];
    const to = inside(Math.floor(cursor / grid) + down) * grid + inside((cursor % grid) + right);
    act.move(to);
    if (event.shiftKey) act.paint([to], on[cursor]); // paints on with what is here
  } else if (event.key === " " || event.key === "Enter") act.paint([cursor], on[cursor] ? 0 : 1);
  else return;
  event.preventDefault();
}

function painting(event, { on, grid }, act) {
  if (event.button !== 0) return;
  const element = event.currentTarget;
  const box = element.getBoundingClientRect();
  const place = (at) => [(at.clientX - box.left) / box.width, (at.clientY - box.top) / box.height].map((x) => x * grid);
  const at = ([x, y]) => (x < 0 || y < 0 || x >= grid || y >= grid ? -1 : Math.floor(y) * grid + Math.floor(x));
  let last = place(event);
  if (at(last) < 0) return;
  const value = on[at(last)] ? 0 : 1;
  const first = at(last);
  let begun = false;
  const begin = () => {
    if (begun) return;
    begun = true;
    act.move(first);
    act.paint([first], value);
  };
  // A finger may be on its way to scroll the page: it paints once it moves sideways, or is lifted where it was.
  if (event.pointerType === "touch") lifted(element, begin);
  else begin();
  element.setPointerCapture(event.pointerId);
  const drag = (moved) => {
    const to = place(moved);
    if (!begun && Math.abs(to[0] - last[0]) <= Math.abs(to[1] - last[1])) return;
    begin();
    const steps = Math.ceil(2 * Math.max(Math.abs(to[0] - last[0]), Math.abs(to[1] - last[1]), 0.5));
    const cells = new Set();
    for (let s = 1; s <= steps; s++) cells.add(at(last.map((from, i) => from + ((to[i] - from) * s) / steps)));
    cells.delete(-1);
    last = to;
    if (cells.size) act.paint([...cells], value);
  };
  listen(element, drag);
}

/** Call `done` if the pointer is let go, not if the browser takes it to scroll. */
function lifted(element, done) {
  const end = ({ type }) => {
    element.removeEventListener("pointerup", end);
    element.removeEventListener("pointercancel", end);
    if (type === "pointerup") done();
  };
  element.addEventListener("pointerup", end);
  element.addEventListener("pointercancel", end);
}

/** Follow a pointer that was captured, until it is let go. */
export function listen(element, drag) {
  const ends = ["pointerup", "pointercancel", "lostpointercapture"];
  const end = () => {
    element.removeEventListener("pointermove", drag);
    for (const name of ends) element.removeEventListener(name, end);
  };
  element.addEventListener("pointermove", drag);
  for (const name of ends) element.addEventListener(name, end);
}
