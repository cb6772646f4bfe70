// The list of results: a table, which a narrow page shows as cards (by CSS; the markup is one).
import { html, nothing } from "lit-html";
import { repeat } from "lit-html/directives/repeat.js";
import { descends, orderOf, orders, responding } from "./filters.js";
import { AGREEMENT_TERM, VOTE, cells, many, number, said, star } from "./parts.js";
import { shown } from "./pictures.js";
import { EVERY, format } from "./route.js";

export const PAGE = 50; // results drawn at once: more make a phone slow, and nobody reads them

export const shownOf = (ask) => Math.max(PAGE, Number.parseInt(ask.show, 10) || 0);

export const linkTo = (subject, latent) => format({ subject: subject.id, latent: String(latent) });

// A latent's top picture with its heatmap; nothing for a latent that fires nowhere.
export function thumbnail(subject, latent) {
  const { picture, heat } = subject.evidence.shown;
  if (!picture[latent]?.length) return nothing;
  const alt = `top image 1 of latent ${latent}, heatmap`;
  return shown({ name: picture[latent][0], heat: heat[latent][0], grid: subject.grid, look: "heatmaps", alt });
}

function row({ subject, latent, row }, index, severals) {
  const way = subject.way(row);
  const cell = (title, content) => html`<td class="x-number" data-label=${title}>${content}</td>`;
  return html`<tr data-testid="result" data-latent=${latent} class=${way.control ? "x-control" : ""}>
    <td class="x-thumb">${thumbnail(subject, latent)}</td>
    <th scope="row" class="x-name">
      <a href=${linkTo(subject, latent)}>latent ${latent}</a>
    </th>
    <td class="x-words">
      <span class="x-clamp">${said(subject.text(row))}</span>
      <small class="x-way"
        >${severals ? `${subject.name}: ` : nothing}${way.control ? "control: " : nothing}${way.label}${star(subject, row)}</small
      >
    </td>
    ${cells(index.metrics, subject, row)} ${cell(VOTE.title, number(subject.rows.vote[row]))}
    ${cell(AGREEMENT_TERM.title, number(subject.latent.agreement[latent]))}
  </tr>`;
}

// Heads sort, as people expect of a table; the menu above does the same.
function heads(index, ask, change) {
  const known = orders(index);
  const now = orderOf(ask, known);
  const down = descends(ask, known);
  const head = (key, title, about = "") => {
    const chosen = key === now;
    const next = chosen ? { sort: key, order: down ? "up" : "down" } : { sort: key, order: "" };
    return html`<th scope="col" aria-sort=${chosen ? (down ? "descending" : "ascending") : "none"}>
      <button type="button" title=${about} @click=${() => change(next)}>
        ${title}${chosen ? (down ? " ↓" : " ↑") : ""}
      </button>
    </th>`;
  };
  return html`<tr>
    <th scope="col" class="x-thumb"><span class="x-unseen">top image</span></th>
    ${head("latent", "Latent")}
    <th scope="col">Explanation</th>
    ${index.metrics.map(({ key, title, about }) => head(key, title, about))} ${head("vote", VOTE.title, VOTE.about)}
    ${head("agreement", AGREEMENT_TERM.title, AGREEMENT_TERM.about)}
  </tr>`;
}

// Latents without an explanation are no results, but somebody may look for them.
function silent(subjects) {
  return subjects.map((subject) => {
    const latents = subject.latent.role.flatMap((role, latent) => (role === "silent" ? [latent] : []));
    return html`<p>
        ${subject.name}: ${many(latents.length, "latent")} without an explanation. A latent is explained if it fires on
        at least ${subject.min_images} pictures for explainers and as many held-out ones.
      </p>
      <p class="x-chips">${latents.map((latent) => html`<a href=${linkTo(subject, latent)}>${latent}</a> `)}</p>`;
  });
}

// Said aloud by screen readers whenever it changes.
export function count(hits, ask) {
  const latents = new Set(hits.map(({ subject, latent }) => `${subject.id}/${latent}`)).size;
  const limit = shownOf(ask);
  return html`<p data-testid="count" class="x-count" aria-live="polite">
    ${many(hits.length, "explanation")} of
    ${many(latents, "latent")}${hits.length > limit ? `, the first ${limit} below` : ""}
  </p>`;
}

// How many of them each subject has, with a link to its own list: for comparing one with another.
export function bySubject(subjects, hits, ask) {
  const latents = new Map(subjects.map((subject) => [subject, new Set()]));
  for (const { subject, latent } of hits) latents.get(subject).add(latent);
  return html`<ul class="x-clusters" aria-label="Latents found in each subject">
    ${subjects.map(
      (subject) =>
        html`<li>
          <a href=${format({ subject: subject.id, ask: { ...ask, show: "" } })}
            >${subject.name} <small>${many(latents.get(subject).size, "latent")}</small></a
          >
        </li>`,
    )}
  </ul>`;
}

// What is searched for is looked for among true concepts, too: a latent may stand for a fox and nobody has said so.
export function truths(subjects, query) {
  const severals = subjects.length > 1;
  const most = severals ? 3 : 12; // latents of a subject that are named
  const known = subjects
    .map((subject) => ({ subject, latents: responding(subject, query) }))
    .filter(({ latents }) => latents.length);
  if (!known.length) return nothing;
  const link = (subject) => (latent) =>
    html` <a href=${linkTo(subject, latent)}>${latent}</a> (${number(subject.latent.fit[latent])})`;
  return html`<p class="x-note" data-testid="truths">
    Latents that respond best to this, whatever was said of them (and their fit by the exact masks, of 1):
    ${known.map(
      ({ subject, latents }, place) =>
        html`${place ? "; " : nothing}${severals ? `${subject.name}:` : "latents"}${latents
          .slice(0, most)
          .map(link(subject))}${latents.length > most ? `, and ${latents.length - most} more` : nothing}`,
    )}
  </p>`;
}

export function results({ index, subjects, ask, hits, change, more }) {
  const limit = shownOf(ask);
  const severals = subjects.length > 1;
  const again = format({ subject: severals ? EVERY : subjects[0].id });
  const key = ({ subject, row }) => `${subject.id} ${row}`;
  return html`${ask.role === "silent" ? silent(subjects) : nothing}
  ${
    hits.length
      ? html`<table class="x-table x-results" data-testid="results">
            <thead>
              ${heads(index, ask, change)}
            </thead>
            <tbody>
              ${repeat(hits.slice(0, limit), key, (hit) => row(hit, index, severals))}
            </tbody>
          </table>
          ${
            hits.length > limit
              ? html`<p>
                  <button type="button" class="x-more" data-testid="more" @click=${() => more(limit + PAGE)}>
                    Show ${Math.min(PAGE, hits.length - limit)} more
                  </button>
                </p>`
              : nothing
          }`
      : html`<p data-testid="results" class="x-empty">
          ${
            ask.role === "silent"
              ? nothing
              : html`Nothing fits. Use fewer words or filters, or <a href=${again}>start again</a>.`
          }
        </p>`
  }`;
}
