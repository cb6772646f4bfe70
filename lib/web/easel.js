// The right half of the panel: the picture, its patches, and what one draws with.
import { html, nothing } from "lit-html";
import { live } from "lit-html/directives/live.js";
import { patches } from "./grid.js";
import { BRUSHES, COLOURS } from "./picture.js";

/** One of several choices, with its label. */
export function radio(name, value, text, checked, take, testid = nothing) {
  return html`<label class="steer-choice">
    <input type="radio" name=${name} value=${value} data-testid=${testid} .checked=${live(checked)} @change=${take} />
    ${text}
  </label>`;
}

/** The picture with its patches, and what chooses both. */
export function easel({ state, about, id, paper, act }) {
  const drawing = state.picture === "draw";
  const passive = drawing && state.pointer === "draw";
  const given = about.pictures[state.picture];
  const grid = { on: state.on, grid: about.grid, cursor: state.cursor, passive };
  return html`
    <fieldset class="steer-set steer-thumbs" data-testid="picture">
      <legend>The picture that it looks at</legend>
      ${thumb("blank", "blank", null, state, id, act)}
      ${about.pictures.map(({ name, data }, i) => thumb(i, name, data, state, id, act))}
      ${thumb("draw", "draw", null, state, id, act)}
    </fieldset>
    ${drawing ? pointer(state, id, act) : nothing}
    <div class="steer-picture">
      ${drawing ? paper.element : nothing}
      ${given ? html`<img class="steer-sheet" src=${given.data} alt=${given.name} />` : nothing}
      ${patches(grid, id, { paint: act.paint, move: (cursor) => act.draw({ cursor }) })}
      ${drawing ? pen(state.pen) : nothing}
    </div>
    ${drawing ? tools(state, paper, id, act) : nothing}
    <div class="steer-muted">
      Orange patches are steered. Drag over the picture to ${passive ? "draw" : "change them"}.
    </div>
    <div class="steer-buttons" role="group" aria-label="Steered patches">
      <button type="button" data-testid="patches-all" @click=${act.all}>All</button>
      <button type="button" data-testid="patches-none" @click=${act.none}>None</button>
      <button type="button" data-testid="patches-left" @click=${act.left}>Left half</button>
      <button type="button" data-testid="patches-invert" @click=${act.invert}>Invert</button>
    </div>`;
}

function thumb(value, text, image, state, id, act) {
  const name = html`<span class=${image ? "steer-hidden" : "steer-thumb-text"}>${text}</span>`;
  return html`<label class="steer-thumb" title=${text}>
    <input type="radio" name="${id}-picture" value=${value} .checked=${live(state.picture === value)}
      @change=${() => act.picture(value)} />
    ${image ? html`<img src=${image} alt="" />` : nothing} ${name}
  </label>`;
}

function pointer(state, id, act) {
  const choice = (value, text) => {
    const take = () => act.draw({ pointer: value });
    return radio(`${id}-pointer`, value, text, state.pointer === value, take, `pointer-${value}`);
  };
  return html`<fieldset class="steer-set">
    <legend>The pointer</legend>
    ${choice("draw", "draws")} ${choice("patches", "chooses patches")}
  </fieldset>`;
}

/** Where the keys' brush is. */
function pen({ at, down }) {
  if (!at) return nothing;
  const place = `left: ${at[0] * 100}%; top: ${at[1] * 100}%`;
  return html`<span class="steer-pen ${down ? "steer-down" : ""}" style=${place}></span>`;
}

function tools(state, paper, id, act) {
  const colour = ([name, value]) => html`<label class="steer-colour" title=${name} style="--steer-colour: ${value}">
    <input type="radio" name="${id}-colour" value=${name} .checked=${live(state.colour === name)}
      @change=${() => act.draw({ colour: name })} />
    <span class="steer-hidden">${name}</span>
  </label>`;
  const brush = (name) => radio(`${id}-brush`, name, name, state.brush === name, () => act.draw({ brush: name }));
  return html`<div class="steer-tools" data-testid="tools">
    <fieldset class="steer-set steer-colours"><legend>Colour</legend>${Object.entries(COLOURS).map(colour)}</fieldset>
    <fieldset class="steer-set">
      <legend>Brush</legend>
      ${Object.keys(BRUSHES).map(brush)}
      <button type="button" data-testid="clear" @click=${paper.clear}>Clear</button>
    </fieldset>
  </div>`;
}
