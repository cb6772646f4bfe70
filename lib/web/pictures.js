// Pictures under a mask or a heatmap, as lib/overlay.py makes them for the models.
// The overlay is a canvas of its own on top of the picture. Painting both into one would do no better, and a browser
// lets nobody read a canvas back that holds a picture from a file system.
import { html, nothing } from "lit-html";
import { ref } from "lit-html/directives/ref.js";
import { picture } from "./loading.js";
import { VIRIDIS } from "./viridis.js";

export const SIDE = 96; // pixels of a stored picture
export const LOOKS = { plain: "plain", masks: "mask", heatmaps: "heatmap" };

// Pillow's bicubic filter (a = -0.5).
function cubic(x) {
  const a = -0.5;
  const d = Math.abs(x);
  if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
}

// For each pixel: the first patch that counts, and the weights from there on. Weights that would lie outside of the
// picture are left out and the others scaled to sum to one, as Pillow does.
const known = new Map(); // grid -> what each pixel is made of
function tapsOf(grid) {
  if (!known.has(grid)) {
    const rows = Array.from({ length: SIDE }, (_, pixel) => {
      const centre = ((pixel + 0.5) * grid) / SIDE;
      const first = Math.max(0, Math.trunc(centre - 2 + 0.5));
      const end = Math.min(grid, Math.trunc(centre + 2 + 0.5));
      const raw = Array.from({ length: end - first }, (_, i) => cubic(first + i - centre + 0.5));
      const sum = raw.reduce((a, b) => a + b, 0);
      return { first, weights: raw.map((w) => w / sum) };
    });
    known.set(grid, rows);
  }
  return known.get(grid);
}

// Patch values to pixels: rows first, then columns, in single precision in between.
export function upsampled(values, grid) {
  const taps = tapsOf(grid);
  const wide = new Float32Array(grid * SIDE);
  for (let y = 0; y < grid; y++) {
    for (let x = 0; x < SIDE; x++) {
      const { first, weights } = taps[x];
      let sum = 0;
      for (let i = 0; i < weights.length; i++) sum += weights[i] * values[y * grid + first + i];
      wide[y * SIDE + x] = sum;
    }
  }
  const tall = new Float32Array(SIDE * SIDE);
  for (let y = 0; y < SIDE; y++) {
    const { first, weights } = taps[y];
    for (let x = 0; x < SIDE; x++) {
      let sum = 0;
      for (let i = 0; i < weights.length; i++) sum += weights[i] * wide[(first + i) * SIDE + x];
      tall[y * SIDE + x] = sum;
    }
  }
  return tall;
}

function heatmap(values, grid) {
  const heat = upsampled(values, grid);
  let [low, high] = [Infinity, -Infinity];
  for (const value of heat) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const pixels = new Uint8ClampedArray(4 * heat.length).fill(255);
  heat.forEach((value, i) => {
    const step = high > low ? Math.trunc(((value - low) / (high - low)) * 255) : 0;
    pixels.set(VIRIDIS.subarray(3 * step, 3 * step + 3), 4 * i);
  });
  return pixels;
}

function mask(values, grid) {
  const pixels = new Uint8ClampedArray(4 * SIDE * SIDE); // black; opaque where the latent is silent
  const patch = Array.from({ length: SIDE }, (_, pixel) => Math.trunc(((pixel + 0.5) * grid) / SIDE));
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      if (!values[patch[y] * grid + patch[x]]) pixels[4 * (y * SIDE + x) + 3] = 255;
    }
  }
  return pixels;
}

// The overlay's pixels, `SIDE * SIDE` times red, green, blue, opacity. A heatmap is opaque here: CSS makes it 0.35.
export function overlay(heat, grid, look) {
  const values = Uint8Array.from(atob(heat), (letter) => letter.charCodeAt(0));
  return (look === "masks" ? mask : heatmap)(values, grid);
}

function paint(canvas) {
  const { heat, grid, look } = canvas.wanted;
  canvas.getContext("2d").putImageData(new ImageData(overlay(heat, grid, look), SIDE, SIDE), 0, 0);
}

// Only what comes into view is painted: of a list that is about one overlay in five.
const seen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      paint(target);
    }
  },
  { rootMargin: "200px" },
);

function ask(canvas, wanted) {
  const { heat, grid, look } = canvas.wanted ?? {};
  if (heat === wanted.heat && grid === wanted.grid && look === wanted.look) return; // as with most changes of a page
  canvas.wanted = wanted;
  seen.unobserve(canvas); // else an observer is silent about what was in view already
  seen.observe(canvas);
}

// A picture; `alt` says what it is, for those who do not see it. The class `dark-light` tells the book's theme to leave
// it as it is on a dark page: its colours are data.
export function shown({ name, heat, grid, look, alt }) {
  return html`<span class="x-picture x-${look}">
    <img
      class="dark-light"
      src=${picture(name)}
      alt=${alt}
      width=${SIDE}
      height=${SIDE}
      loading="lazy"
      decoding="async"
    />
    ${
      look === "plain"
        ? nothing
        : html`<canvas
            width=${SIDE}
            height=${SIDE}
            aria-hidden="true"
            ${ref((canvas) => canvas && ask(canvas, { heat, grid, look }))}
          ></canvas>`
    }
  </span>`;
}
