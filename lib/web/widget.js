// The panel in Jupyter, as a widget: the model is the kernel's, and is asked by messages.
import { panel } from "./panel.js";
import { pack } from "./payload.js";
import { queue } from "./queue.js";

let views = 0; // they share a model, and hear each other's answers

/** The engine that asks Python: {kind: "ask", id, request} there, {id, answer} or {id, error} back. */
function engine(model) {
  const name = `${Date.now().toString(36)}-${++views}`;
  const open = new Map();
  const packed = new WeakMap();
  let count = 0;

  function text(bytes) {
    if (bytes && !packed.has(bytes)) packed.set(bytes, pack(bytes));
    return bytes ? packed.get(bytes) : null;
  }

  function heard(message) {
    const job = open.get(message?.id);
    if (!job) return;
    open.delete(message.id);
    if (message.error) job.reject(new Error(message.error));
    else job.resolve(message.answer);
  }

  function compute(request) {
    return new Promise((resolve, reject) => {
      const id = `${name}-${++count}`;
      open.set(id, { resolve, reject });
      const plain = { ...request, patches: text(request.patches), picture: text(request.picture) };
      model.send({ kind: "ask", id, request: plain });
    });
  }

  model.on("msg:custom", heard);
  const ready = Promise.resolve();
  const { ask, close } = queue(compute, ready);
  return {
    about: model.get("about"),
    ready,
    ask,
    progress() {},
    close() {
      model.off("msg:custom", heard);
      const gone = Object.assign(new Error("this view was closed"), { name: "Dropped" });
      for (const job of open.values()) job.reject(gone);
      close(gone);
    },
  };
}

export default {
  render({ model, el }) {
    const asked = engine(model);
    const { remove } = panel(el, asked, {});
    return () => {
      asked.close();
      remove();
    };
  },
};
