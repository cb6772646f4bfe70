// The engine of the page: the model's files come as scripts, and are computed with in a worker.
import { unpack } from "./payload.js";
import { queue } from "./queue.js";

const PARTS = [
  ["runtime", "the runtime that computes"],
  ["model", "the model and its dictionary"],
];

function script(url) {
  const failed = new Error(`${url} could not be loaded. Check the connection, then reload the page.`);
  return new Promise((resolve, reject) => {
    const element = Object.assign(document.createElement("script"), { src: url, onload: resolve });
    element.onerror = () => reject(failed);
    document.head.append(element);
  });
}

/** A worker as a function: `call(message)` promises what it answers. */
function caller(worker, onprogress) {
  const open = new Map();
  let count = 0;
  let broken = null;
  worker.onmessage = ({ data }) => {
    if (data.progress) return onprogress(data.progress, data.fraction);
    const { resolve, reject } = open.get(data.id);
    open.delete(data.id);
    if ("error" in data) reject(new Error(data.error));
    else resolve(data.answer);
  };
  worker.onerror = (event) => {
    broken = new Error(`The computing part stopped: ${event.message ?? "no reason given"}. Reload the page.`);
    for (const { reject } of open.values()) reject(broken);
    open.clear();
  };
  return (message) =>
    new Promise((resolve, reject) => {
      if (broken) return reject(broken);
      open.set(++count, { resolve, reject });
      worker.postMessage({ ...message, id: count });
    });
}

/**
 * Runs the model in this browser.
 * @param about what is known of the subject.
 * @param folder address of the files, with a slash at its end.
 */
export function engine(about, folder) {
  const others = new Map(about.latents.map((row) => [row.latent, row.other]));
  const listeners = new Set();
  let last = ["Loading", 0];
  let call;
  const say = (...progress) => {
    last = progress;
    for (const listener of listeners) listener(...progress);
  };

  async function load() {
    for (const needed of ["WebAssembly", "Worker", "DecompressionStream"])
      if (!(needed in window)) throw new Error(`This browser has no ${needed}. Any browser of 2023 or later has it.`);
    const files = {};
    window.steeringFile = (name, text) => {
      files[name] = text;
    };
    const missing = new Map(PARTS);
    const whole = about.megabytes.runtime + about.megabytes.model;
    let there = 0;
    const tell = () => {
      const [[name, title] = []] = missing;
      if (!name) return;
      const part = `${PARTS.length - missing.size + 1} of ${PARTS.length}`;
      say(`Loading ${part}: ${title} (${about.megabytes[name].toFixed(1)} MB)`, 0.05 + (0.6 * there) / whole);
    };
    tell();
    const arrived = PARTS.map(async ([name]) => {
      await script(`${folder}${name}.js`);
      missing.delete(name);
      there += about.megabytes[name];
      tell();
    });
    await Promise.all(arrived);
    const { worker, ...rest } = files;
    const source = new Blob([await unpack(worker)], { type: "text/javascript" });
    call = caller(new Worker(URL.createObjectURL(source)), say);
    await call({ files: rest, side: about.side });
    say("Ready", 1);
  }

  const ready = load();
  const { ask } = queue((request) => call({ request: { ...request, other: others.get(request.latent) } }), ready);
  return {
    about,
    ready,
    ask,
    progress(listener) {
      listeners.add(listener);
      listener(...last);
    },
  };
}
