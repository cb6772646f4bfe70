// Small things that several pages show: numbers, a score, what a model said, what terms mean.
import { html, nothing } from "lit-html";
import { CORRECTNESS, verdict } from "./filters.js";

export function number(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  const text = value.toFixed(digits);
  return Number(text) ? text.replace("-", "−") : (0).toFixed(digits); // no minus before a zero
}

export const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

export const many = (n, one, more = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : more}`;

// What a model said. It is untrusted: lit-html sets it as text, whatever it holds. `dir` keeps signs that turn the
// direction of writing round from turning the rest of the page.
export const said = (text) =>
  text.trim() ? html`<q class="x-said" dir="auto">${text}</q>` : html`<em class="x-none">said nothing</em>`;

// How a table cell shows a metric: the number, a bar where the range is bounded, and correctness with a sign.
function score(metric, value) {
  const bar = metric.low === 0 && metric.high === 1 && typeof value === "number";
  const sign = metric.key === "correctness" && typeof value === "number" ? CORRECTNESS[verdict(value)] : null;
  return html`<span class="x-score ${bar ? "x-bar" : ""}" style=${bar ? `--share: ${100 * value}%` : nothing}
    >${number(value)}${
      sign ? html`<span class="x-sign" role="img" aria-label=${sign.title}>${sign.mark}</span>` : nothing
    }</span
  >`;
}

// The cells of an explanation's scores; `data-label` is what a card shows above each.
export const cells = (metrics, subject, row) =>
  metrics.map(
    (metric) =>
      html`<td class="x-number" data-label=${metric.title}>${score(metric, subject.value(row, metric.key))}</td>`,
  );

// The star of the best explanation by vote.
export const star = (subject, row) =>
  subject.wins(row) ? html` <small class="x-best">★ best by vote</small>` : nothing;

export const abbreviated = ({ title, about }) => html`<abbr title=${about}>${title}</abbr>`;

export const VOTE = {
  title: "Vote",
  about:
    "How an explanation stands among those of its latent by the metrics that vote (1: first by each, 0: last by each); " +
    "the best has a star.",
};
export const AGREEMENT_TERM = {
  title: "Agreement",
  about: "How alike the explanations by Steering and by Top-k (masks) are: the cosine of their sentence embeddings.",
};
const OTHERS = [
  VOTE,
  AGREEMENT_TERM,
  { title: "Firing share", about: "The share of the pictures for explainers on which the latent is active." },
  {
    title: "Correctness in words",
    about:
      "✓ right: 0.5 or more. ◐ partly right: 0.1 to 0.5. ✗ wrong: below 0.1. " +
      "? unknown: the truth about this latent or text is not known.",
  },
];

// A list of terms, to be unfolded: a title that only shows under a mouse would help few.
export function legend(index) {
  const terms = (rows) =>
    rows.map(
      ({ title, about }) =>
        html`<dt>${title}</dt>
          <dd>${about}</dd>`,
    );
  const roles = Object.entries(index.roles).map(([title, about]) => ({ title, about }));
  return html`<details class="x-legend">
    <summary>What the numbers and names mean</summary>
    <p>
      Computed and discussed in the lesson <a href="notebooks/05_scores.html">Is an explanation any good?</a>; all words
      are in the <a href="notebooks/glossary.html">glossary</a>.
    </p>
    <dl>${terms(index.metrics)} ${terms(OTHERS)}</dl>
    <h3>Ways to get an explanation</h3>
    <dl>${terms(index.ways.map(({ label, about }) => ({ title: label, about })))}</dl>
    <h3>Roles of latents</h3>
    <dl>${terms(roles)}</dl>
  </details>`;
}
