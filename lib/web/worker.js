// The worker in which the page computes: three graphs, with the steering between the first two.
import * as ort from "onnxruntime-web/wasm";
import { unpack } from "./payload.js";
import { blank, pixels, push, speak, steer } from "./steer.js";

const GRAPHS = ["below", "above", "speaker"];
const PICTURES = 8; // whose streams are kept
const ROWS = ["own", "random", "other", "none"];
const graphs = {};
const seen = []; // {picture, stream, none}, the latest first
let spec, side, directions, random;

const tensor = (data, shape) => new ort.Tensor("float32", data, shape);
const floats = (bytes) => new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
const say = (text, fraction) => postMessage({ progress: text, fraction });

async function load(files, size) {
  side = size;
  say("Unpacking the model", 0.7);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = await unpack(files.wasm);
  spec = JSON.parse(new TextDecoder().decode(await unpack(files.spec)));
  directions = floats(await unpack(files.directions));
  random = floats(await unpack(files.random));
  for (const [i, name] of GRAPHS.entries()) {
    say(`Starting the model, part ${i + 1} of ${GRAPHS.length}`, 0.75 + 0.08 * i);
    const weights = { path: `${name}.onnx.data`, data: await unpack(files[`${name}.data`]) };
    const how = { externalData: [weights], executionProviders: ["wasm"] };
    graphs[name] = await ort.InferenceSession.create(await unpack(files[name]), how);
  }
}

const equal = (a, b) => a === b || (a !== null && b !== null && a.every((value, i) => value === b[i]));

/** What the encoder makes of a picture up to the steered layer; computed once. */
async function look(picture) {
  let at = seen.findIndex((known) => equal(known.picture, picture));
  if (at < 0) {
    const input = tensor(pixels(picture ?? blank(side), side), [1, 3, side, side]);
    seen.push({ picture, stream: (await graphs.below.run({ pixels: input })).stream, none: null });
    at = seen.length - 1;
  }
  seen.unshift(...seen.splice(at, 1));
  seen.length = Math.min(seen.length, PICTURES);
  return seen[0];
}

/** What the language model says to some rows of the stream. */
async function answers(rows, shape) {
  const stream = new Float32Array(rows.length * rows[0].length);
  rows.forEach((row, i) => stream.set(row, i * row.length));
  const { shown } = await graphs.above.run({ stream: tensor(stream, [rows.length, ...shape]) });
  const [layers, heads, d] = spec.heads;
  let keys = tensor(new Float32Array(0), [layers, rows.length, heads, 0, d]);
  let values = keys;
  async function read(ids, n, length) {
    const words = new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [n, length]);
    const out = await graphs.speaker.run({ ids: words, shown, keys, values });
    [keys, values] = [out.keys_out, out.values_out];
    return out.logits.data;
  }
  return speak(read, rows.length, spec);
}

async function ask({ latent, other, coefficient, mode, patches, picture, only }) {
  const start = performance.now();
  const known = await look(picture);
  const [, places, d] = known.stream.dims;
  const row = (table, i) => push(table.subarray(i * d, (i + 1) * d), coefficient, spec.norm);
  const vectors = { own: row(directions, latent), random: row(random, latent), none: null };
  vectors.other = row(directions, other);
  const wanted = (only ?? ROWS).filter((name) => name !== "none" || known.none === null);
  const rows = wanted.map((name) => steer(known.stream.data, vectors[name], mode, patches));
  const said = rows.length ? await answers(rows, [places, d]) : [];
  const answer = Object.fromEntries(wanted.map((name, i) => [name, said[i]]));
  known.none = answer.none ?? known.none;
  return { ...answer, none: known.none, ms: performance.now() - start };
}

onmessage = async ({ data }) => {
  try {
    if (data.files) await load(data.files, data.side);
    postMessage({ id: data.id, answer: data.request ? await ask(data.request) : null });
  } catch (error) {
    postMessage({ id: data.id, error: String(error?.message ?? error) });
  }
};
