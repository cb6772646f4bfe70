// Pictures: those that are given, as bytes; and a sheet to draw one.
import { listen } from "./grid.js";

export const COLOURS = {
  black: "#000000", white: "#ffffff", grey: "#9b9b9a", red: "#d62828", orange: "#f1913c", yellow: "#f7ca18",
  green: "#2e963c", "light blue": "#92d3f5", blue: "#285ac8", purple: "#873ca5", pink: "#ffa7c0", brown: "#a57939",
};
export const BRUSHES = { fine: 0.03, middle: 0.08, broad: 0.2 }; // widths, in sides of the picture

function rgb(context, side) {
  const { data } = context.getImageData(0, 0, side, side);
  const out = new Uint8Array(3 * side * side);
  for (let i = 0; i < side * side; i++) for (let c = 0; c < 3; c++) out[3 * i + c] = data[4 * i + c];
  return out;
}

function canvas(side) {
  const element = Object.assign(document.createElement("canvas"), { width: side, height: side });
  return [element, element.getContext("2d", { willReadFrequently: true })];
}

/** A picture's RGB bytes, [side, side, 3]. */
export async function read(data, side) {
  const image = new Image();
  image.src = data;
  await image.decode();
  const [, context] = canvas(side);
  context.drawImage(image, 0, 0, side, side);
  return rgb(context, side);
}

/**
 * A sheet that is drawn on by pointer or by keys.
 * @param how tells {colour, brush}, what it is drawn with now.
 * @param changed is called after each stroke.
 * @param moved is told where the keys' brush is, [x, y] from 0 to 1, and whether it is down; null when it is not shown.
 */
export function sheet(side, { how, changed, moved }) {
  const [element, context] = canvas(side);
  let at = [0.5, 0.5];
  let down = false;

  function stroke(from, to) {
    const { colour, brush } = how();
    Object.assign(context, { strokeStyle: colour, lineWidth: Math.max(1, brush * side), lineCap: "round" });
    context.beginPath();
    context.moveTo(from[0] * side, from[1] * side);
    context.lineTo(to[0] * side + 0.01, to[1] * side); // a line of no length is not drawn
    context.stroke();
    changed();
  }

  function clear() {
    context.fillStyle = "#ffffff";
    context.fillRect(0, 0, side, side);
    changed();
  }

  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const box = element.getBoundingClientRect();
    const place = (e) => [(e.clientX - box.left) / box.width, (e.clientY - box.top) / box.height];
    let last = place(event);
    element.setPointerCapture(event.pointerId);
    stroke(last, last);
    listen(element, (e) => {
      const to = place(e);
      stroke(last, to);
      last = to;
    });
  });

  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in STEPS) {
      const to = at.map((value, i) => Math.min(1, Math.max(0, value + STEPS[event.key][i] / 24)));
      if (down) stroke(at, to);
      at = to;
    } else if (event.key === " " || event.key === "Enter") {
      down = !down;
      if (down) stroke(at, at);
    } else return;
    event.preventDefault();
    moved(at, down);
  });
  element.addEventListener("focus", () => element.matches(":focus-visible") && moved(at, down));
  element.addEventListener("blur", () => {
    down = false;
    moved(null, false);
  });
  element.tabIndex = 0;
  element.className = "steer-sheet";
  element.dataset.testid = "sheet";
  element.setAttribute("role", "application");
  element.setAttribute("aria-label", "Your drawing. Arrow keys move the brush, Space puts it down or lifts it.");
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, side, side);
  return { element, clear, bytes: () => rgb(context, side) };
}
