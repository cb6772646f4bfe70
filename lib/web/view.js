// What the panel looks like: the latent, the coefficient, the answer and its controls.
import { html, nothing } from "lit-html";
import { live } from "lit-html/directives/live.js";
import { easel, radio } from "./easel.js";
import { search } from "./search.js";
import { computed, concluded, opening } from "./words.js";

const STEP = 0.25; // of the slider
const said = (text) => text || "(nothing)";

/** The whole panel. `data-lm-suppress-shortcuts` keeps JupyterLab from taking its keys. */
export function view(all) {
  const { state, id, find, act } = all;
  const echo = state.answer ? html`It says: <b>${said(state.answer.own)}</b>` : nothing; // where the answer is far up
  return html`<div class="steer-panel" data-lm-suppress-shortcuts="true">
    ${opening(all.about)}
    <div class="steer-bar">
      ${search(state.search, id, find, { change: act.search, choose: act.choose })}
      <div class="steer-buttons">
        <button type="button" data-testid="previous" @click=${() => act.step(-1)}>Previous</button>
        <button type="button" data-testid="next" @click=${() => act.step(1)}>Next</button>
        <button type="button" data-testid="random" @click=${act.random}>Random</button>
      </div>
    </div>
    <div class="steer-body">
      <div class="steer-left">${chosen(all)} ${controls(all)} ${answer(all)} ${comparisons(all)}</div>
      <div class="steer-right">
        ${easel(all)}
        <div class="steer-echo" aria-hidden="true">${echo}</div>
      </div>
    </div>
    ${strip(all)} ${computed(all)} ${concluded(all)}
  </div>`;
}

function loading({ ready, error, loading: { text, fraction } }) {
  if (error) {
    const what = ready ? "No answer" : "The model did not start";
    return html`<div class="steer-error" data-testid="loading" role="alert"><b>${what}.</b> ${error}</div>`;
  }
  if (ready) return nothing;
  return html`<div class="steer-loading" data-testid="loading" role="status">
    <span>${text} … Choose what to ask meanwhile.</span>
    <progress max="1" .value=${fraction} aria-label="Loading"></progress>
  </div>`;
}

function chosen({ state, about, known, options }) {
  const { latent, concept, fit, words, role } = known.get(state.latent);
  const best = html`It fits <b>${concept}</b> best${fit == null ? "" : ` (fit ${fit.toFixed(2)} of 1)`}.`;
  return html`<p class="steer-chosen">
    <span class="steer-latent">Latent <b data-testid="latent">${latent}</b></span>
    ${concept ? best : nothing}
    ${words ? html`At coefficient ${about.chosen}, Steering said “${words}”.` : nothing}
    ${role === "silent" ? "It is active on too few pictures to be explained in the tables." : nothing}
    ${options.explorer ? html`<a href=${options.explorer(latent)}>See it in the explorer</a>` : nothing}
  </p>`;
}

function controls({ state, about, id, act }) {
  const { coefficient, mode, typed } = state;
  const typing = typed !== null && (typed === "" || Number(typed) === coefficient);
  const type = ({ target }) => target.validity.badInput || act.type(target.value);
  const way = (value, text) => radio(`${id}-mode`, value, text, mode === value, () => act.mode(value), `mode-${value}`);
  return html`<div class="steer-controls">
    <div class="steer-line">
      <label for="${id}-coefficient"><b>Coefficient</b>: how hard the push is</label>
      <input type="number" class="steer-number" data-testid="coefficient-number" aria-label="Coefficient, as a number"
        min="0" max=${about.largest} step=${STEP} .value=${live(typing ? typed : String(coefficient))}
        @input=${type} @blur=${() => act.draw({ typed: null })} />
    </div>
    <div class="steer-slider" style="--steer-at: ${about.chosen / about.largest}">
      <input type="range" id="${id}-coefficient" data-testid="coefficient" min="0" max=${about.largest} step=${STEP}
        .value=${live(String(coefficient))} @input=${(event) => act.coefficient(event.target.valueAsNumber)} />
      <span class="steer-tick" aria-hidden="true"></span>
      <span class="steer-scale" aria-hidden="true"><span>0</span><span>${about.largest}</span></span>
      <button type="button" class="steer-usual" @click=${() => act.coefficient(about.chosen)}>
        chosen: ${about.chosen}
      </button>
    </div>
    <fieldset class="steer-set">
      <legend>The direction</legend>
      ${way("add", "is added to the stream")} ${way("replace", "replaces it")}
    </fieldset>
  </div>`;
}

function answer({ state }) {
  const { answer: got, answered } = state;
  const ms = got && html`<span data-testid="milliseconds">${Math.round(got.ms)}</span>`;
  return html`<div class="steer-answer">
    <div class="steer-muted">The model says, pushed by latent ${answered?.latent ?? state.latent}:</div>
    <div class="steer-said ${got ? "" : "steer-waits"}" data-testid="answer" aria-live="polite"
      >${got ? said(got.own) : "…"}</div>
    ${loading(state)}
    <div class="steer-muted">
      ${got ? html`at coefficient ${answered.coefficient}, in ${ms} ms with controls` : html`&nbsp;`}
    </div>
  </div>`;
}

function comparisons({ state, known }) {
  const { answer: got, answered } = state;
  const { other } = known.get(answered?.latent ?? state.latent);
  const concept = known.get(other)?.concept;
  const card = (name, title, means) => {
    const same = got && got[name] === got.own;
    return html`<div class="steer-card ${same ? "steer-same" : ""}">
      <div class="steer-card-title">${title}</div>
      <div class="steer-card-said">
        <span data-testid="answer-${name}">${got ? said(got[name]) : "…"}</span>
        ${same ? html`<span class="steer-mark">the same</span>` : nothing}
      </div>
      <div class="steer-muted">${means}</div>
    </div>`;
  };
  const another = html`Latent ${other}’s direction${concept ? ` (${concept})` : ""}`;
  return html`<div class="steer-cards" role="group" aria-label="Controls">
    ${card("random", "A random direction", "If it is the same, any push of this size would have done.")}
    ${card("other", another, "If it is the same, the answer is not about this latent alone.")}
    ${card("none", "No steering", "If it is the same, the push did nothing.")}
  </div>`;
}

function strip({ state, strip: shown, act }) {
  const stop = (coefficient) => {
    const here = coefficient === state.coefficient;
    const text = state.strip.has(coefficient) ? said(state.strip.get(coefficient)) : "…";
    return html`<button type="button" class="steer-stop ${here ? "steer-here" : ""}" data-coefficient=${coefficient}
      aria-current=${here ? "true" : nothing} @click=${() => act.coefficient(coefficient)}>
      <span class="steer-muted"><span class="steer-hidden">coefficient </span>${coefficient}</span>
      <span>${text}</span>
    </button>`;
  };
  return html`<section class="steer-along" aria-label="Along the slider">
    <h2 class="steer-heading">Along the slider</h2>
    <div class="steer-strip" data-testid="strip">${shown.map(stop)}</div>
  </section>`;
}
