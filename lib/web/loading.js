// Data come as scripts that call a function: browsers refuse to fetch a file from a file system, and do run a script.

// Known only while this script runs for the first time, so it is read here and now.
const HERE = new URL(".", document.currentScript?.src ?? location.href);

const waiting = new Map(); // file -> promise of its data
const arrived = new Map(); // id -> data

window.explorerSubject = (data) => arrived.set(data.id, data);

export const picture = (name) => new URL(`pictures/${encodeURIComponent(name)}.webp`, HERE).href;

// The data of a subject, loaded once; a failed attempt is forgotten, so that the reader can try again.
export function load({ id, file }) {
  if (!waiting.has(file)) {
    const attempt = script(file).then(() => {
      if (!arrived.has(id)) throw new Error(`explorer/${file} holds no data of ${id}`);
      const data = arrived.get(id);
      arrived.delete(id); // whoever asked keeps what they need
      return data;
    });
    attempt.catch(() => waiting.delete(file));
    waiting.set(file, attempt);
  }
  return waiting.get(file);
}

function script(file) {
  return new Promise((done, failed) => {
    const node = document.createElement("script");
    node.src = new URL(file, HERE).href;
    node.onload = () => (node.remove(), done());
    node.onerror = () => (node.remove(), failed(new Error(`explorer/${file} could not be loaded`)));
    document.head.append(node);
  });
}
