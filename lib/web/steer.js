// Steering and speaking, as lib/hooks.py, lib/graphs.py and lib/prompts.py do it. Pure: no page, no onnxruntime.

/** RGB bytes, row by row, as the encoder's pixels: [3, side, side], from -1 to 1. */
export function pixels(rgb, side) {
  const size = side * side;
  const out = new Float32Array(3 * size);
  for (let i = 0; i < size; i++) for (let c = 0; c < 3; c++) out[c * size + i] = (rgb[3 * i + c] - 127.5) / 127.5;
  return out;
}

/** The blank picture: white. */
export const blank = (side) => new Uint8Array(3 * side * side).fill(255);

/** What is added: direction * coefficient * norm, each step rounded to float32 as PyTorch rounds it. */
export function push(direction, coefficient, norm) {
  const [a, b] = [Math.fround(coefficient), Math.fround(norm)];
  return Float32Array.from(direction, (x) => Math.fround(Math.fround(x * a) * b));
}

/**
 * One row of the residual stream, [patches, d], steered; the vector null leaves it as it is.
 * `patches` has a 1 where the stream is steered; null is everywhere.
 */
export function steer(stream, vector, mode, patches) {
  const out = Float32Array.from(stream);
  if (!vector) return out;
  const d = vector.length;
  for (let p = 0; p < out.length / d; p++) {
    if (patches && !patches[p]) continue;
    for (let i = 0; i < d; i++) out[p * d + i] = mode === "add" ? out[p * d + i] + vector[i] : vector[i];
  }
  return out;
}

/** Where a row of a table of logits is largest; the first, if several are. */
function largest(logits, row, width) {
  let best = 0;
  for (let i = 1; i < width; i++) if (logits[row * width + i] > logits[row * width + best]) best = i;
  return best;
}

/**
 * Answers, word by word, each the most probable one.
 * `read(ids, rows, length)` reads new tokens of all rows after those it has read before, and gives the next one's
 * logits, [rows, words].
 */
export async function speak(read, rows, spec) {
  const said = Array.from({ length: rows }, () => []);
  const done = Array(rows).fill(false);
  let ids = said.flatMap(() => spec.ids);
  for (let step = 0; step < spec.longest && !done.every(Boolean); step++) {
    const logits = await read(ids, rows, ids.length / rows);
    ids = said.map((words, row) => (done[row] ? (spec.pad ?? 0) : largest(logits, row, spec.words.length)));
    ids.forEach((id, row) => {
      said[row].push(id);
      done[row] ||= spec.end.includes(id);
    });
  }
  return said.map((row) => clean(decode(row, spec), spec.opening));
}

/** Tokens as text: words with a space between, without the special ones. */
export function decode(ids, spec) {
  const spoken = ids.filter((id) => !spec.special.includes(id));
  return spoken.map((id) => spec.words[id]).join(" ");
}

/** A completion without its opening and final full stop; empty if it says nothing. */
export function clean(completion, opening = "It shows") {
  let text = completion.split(/\s+/).filter(Boolean).join(" ");
  if (text.toLowerCase().startsWith(opening.toLowerCase())) text = text.slice(opening.length);
  return text.trim().replace(/^[.:]+|[.:]+$/g, "").trim();
}
