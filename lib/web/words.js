// What the panel tells about itself.
import { html, nothing } from "lit-html";

/** The two sentences on top. */
export const opening = (about) => html`<p class="steer-opening">
  Each of ${about.latents.length} latents is a direction inside the vision encoder of ${about.subject}.
  Choose one and push the encoder along it while it looks at a picture: the language model says what it then sees.
</p>`;

/** Folded: the equation in words, with this panel's settings. */
export function computed({ state, about }) {
  const { grid, layer, layers, prompt } = about;
  const added = html`<code>vector of the patch + coefficient × m × direction</code>`;
  const alone = html`<code>coefficient × m × direction</code>, and nothing remains of the vector that was there`;
  return html`<details class="steer-fold">
    <summary>What is computed here</summary>
    <ol>
      <li>
        The picture goes through the vision encoder up to layer ${layer} (its ${layers} layers are counted from 0).
        What comes out is the residual stream: one vector for each of ${grid} × ${grid} patches.
      </li>
      <li>
        At each steered patch the vector becomes ${state.mode === "add" ? added : alone}.
        The direction is the latent’s, a vector of length 1, and m is the mean length of the stream’s vectors.
        So at coefficient 1 the push is as long as a typical vector.
        The tables of the book use the one that is marked as chosen, for all latents.
      </li>
      <li>The layers above run on the changed stream, and the language model is asked: <q>${prompt}</q></li>
      <li>
        It writes the most probable word, then the next (this is called greedy). The opening and the full stop are cut
        off.
      </li>
    </ol>
    <p>
      The controls are asked in the same way, with the same picture, patches and coefficient. Nothing is looked up:
      every answer is computed when it is asked for.
    </p>
  </details>`;
}

/** Folded: what an answer shows, and what it does not. */
export function concluded({ options }) {
  const book = options.controls ? html`<a href=${options.controls}>Notebook 09</a>` : "Notebook 09";
  return html`<details class="steer-fold">
    <summary>What may I conclude</summary>
    <p>
      One latent is an anecdote. That the model names a thing shows little: a hard push in any direction makes it name
      something. Look at the controls. If only the latent’s own direction gives the answer, at several coefficients,
      then it comes from this direction.
    </p>
    <p>
      The answer is not all that a latent stands for: it may be active on other things, too.
      ${options.explorer ? "The explorer shows the pictures on which it is active." : nothing}
      ${book} compares own directions with controls over many latents.
    </p>
  </details>`;
}
