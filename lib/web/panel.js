// The live panel: choose a latent, push the encoder with its direction, and read what the language model says.
import { render } from "lit-html";
import { BRUSHES, COLOURS, read, sheet } from "./picture.js";
import { finder } from "./search.js";
import { view } from "./view.js";

const SHOWN = [0, 1, 2, 4, 8, 16]; // coefficients of the strip
const PAUSE = 350; // ms without a change, after which the strip is computed
let panels = 0;

/** A latent that Steering names by its concept: of those, the one that fits it best. */
export function first(latents) {
  const named = ({ words, concept }) => Boolean(concept) && (words ?? "").toLowerCase().includes(concept.toLowerCase());
  const order = latents.toSorted((a, b) => named(b) - named(a) || (b.fit ?? 0) - (a.fit ?? 0) || a.latent - b.latent);
  return order[0].latent;
}

/**
 * Draw the panel into an element.
 * @param engine {about, ready, progress(listener), ask(request, how)}: see engine.js.
 * @param options {latent, explorer(latent) -> address, controls: address, onlatent(latent)}; all optional.
 * @returns {show(latent), remove()}.
 */
export function panel(element, engine, options = {}) {
  const { about } = engine;
  const id = `steer-${++panels}`;
  const known = new Map(about.latents.map((row) => [row.latent, row]));
  const find = finder(about.latents);
  const size = about.grid ** 2;
  const given = about.pictures.map(() => null); // their bytes, once read
  const state = {
    latent: known.has(options.latent) ? options.latent : first(about.latents),
    coefficient: about.chosen,
    typed: null, // the number as it is being typed
    mode: "add",
    on: new Uint8Array(size).fill(1),
    cursor: 0,
    picture: "blank", // or "draw", or which of the given ones
    pointer: "draw",
    colour: "black",
    brush: "middle",
    pen: { at: null, down: false },
    search: { query: "", hits: [], open: false, active: -1 },
    answer: null,
    answered: null, // the latent, coefficient and so on that the answer belongs to
    strip: new Map(), // coefficient -> answer
    ready: false,
    loading: { text: "Loading", fraction: 0 },
    error: "",
  };
  const strip = SHOWN.filter((coefficient) => coefficient <= about.largest);
  let timer = null;
  let turn = 0; // of the strip: a newer one ends the older
  let drawn = null; // bytes of the drawing
  let gone = false;

  const paper = sheet(about.side, {
    how: () => ({ colour: COLOURS[state.colour], brush: BRUSHES[state.brush] }),
    changed: onstroke,
    moved: (at, down) => draw({ pen: { at, down } }),
  });

  function draw(change = {}) {
    Object.assign(state, change);
    if (gone) return;
    render(view({ state, about, known, strip, id, find, paper, options, act }), element);
    if ("search" in change) element.querySelector(".steer-active")?.scrollIntoView({ block: "nearest" });
  }

  function onstroke() {
    drawn = null;
    if (state.picture === "draw") changed({});
  }

  function picture() {
    if (state.picture === "blank") return null;
    if (state.picture === "draw") return (drawn ??= paper.bytes());
    return given[state.picture];
  }

  function request(more = {}) {
    const { latent, coefficient, mode, on } = state;
    return { latent, coefficient, mode, patches: on.every(Boolean) ? null : on, picture: picture(), ...more };
  }

  function failed(error) {
    if (error.name !== "Dropped") draw({ error: error.message });
  }

  /** Ask for the answer and its controls; what waits is overtaken. */
  async function ask() {
    const asked = request();
    try {
      const answer = await engine.ask(asked);
      draw({ answer, answered: asked, error: "" });
    } catch (error) {
      failed(error);
    }
  }

  /** Ask for the strip after a pause, one coefficient after the other, when nobody else asks. */
  function later() {
    clearTimeout(timer);
    const mine = ++turn;
    timer = setTimeout(async () => {
      try {
        for (const coefficient of strip) {
          const { own } = await engine.ask(request({ coefficient, only: ["own"] }), "idle");
          if (mine !== turn) return;
          draw({ strip: new Map(state.strip).set(coefficient, own) });
        }
      } catch (error) {
        failed(error);
      }
    }, PAUSE);
  }

  /** Something of the question has changed: everything but the coefficient makes the strip outdated. */
  function changed(change) {
    const outdated = Object.keys(change).some((name) => name !== "coefficient") || Object.keys(change).length === 0;
    draw(outdated ? { ...change, strip: new Map() } : change);
    ask();
    if (outdated) later();
  }

  function choose(latent) {
    if (!known.has(latent)) return;
    changed({ latent });
    options.onlatent?.(latent);
  }

  const act = {
    draw,
    choose,
    search: (change) => draw({ search: { ...state.search, ...change } }),
    step(by) {
      const at = about.latents.findIndex((row) => row.latent === state.latent);
      choose(about.latents[(at + by + about.latents.length) % about.latents.length].latent);
    },
    random: () => act.step(1 + Math.floor(Math.random() * (about.latents.length - 1))),
    coefficient(value) {
      const number = Math.min(about.largest, Math.max(0, value));
      state.typed = null;
      if (Number.isFinite(number) && number !== state.coefficient) changed({ coefficient: number });
    },
    type(text) {
      if (text !== "") act.coefficient(Number(text));
      draw({ typed: text });
    },
    mode: (mode) => changed({ mode }),
    paint(cells, value) {
      const on = state.on.slice();
      for (const cell of cells) on[cell] = value;
      act.patches(on);
    },
    patches: (on) => on.some((value, i) => value !== state.on[i]) && changed({ on }),
    all: () => act.patches(new Uint8Array(size).fill(1)),
    none: () => act.patches(new Uint8Array(size)),
    left: () => act.patches(new Uint8Array(size).map((_, i) => (i % about.grid < about.grid / 2 ? 1 : 0))),
    invert: () => act.patches(state.on.map((value) => 1 - value)),
    async picture(which) {
      try {
        if (typeof which === "number") given[which] ??= await read(about.pictures[which].data, about.side);
        changed({ picture: which });
      } catch {
        draw({ error: `${about.pictures[which].name} could not be read. Choose another picture.` });
      }
    },
  };

  engine.progress((text, fraction) => draw({ loading: { text, fraction } }));
  engine.ready.then(() => draw({ ready: true }), failed);
  changed({});
  return {
    show: (latent) => latent !== state.latent && choose(latent),
    remove() {
      gone = true;
      clearTimeout(timer);
      turn++;
    },
  };
}
