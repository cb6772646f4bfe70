// The search for a latent: by what it stands for, by what was said of it, or by its number.
import { html, nothing } from "lit-html";
import { live } from "lit-html/directives/live.js";
import MiniSearch from "minisearch";

const MOST = 20;
const NONE = html`<li class="steer-hit steer-muted">No latent found. Try another word, or a number.</li>`;

/** A function from a query to at most 20 latents, the best first; for no query, those that fit a concept best. */
export function finder(latents) {
  const known = new Map(latents.map((row) => [row.latent, row]));
  const index = new MiniSearch({
    idField: "latent",
    fields: ["number", "concept", "words"],
    extractField: (row, field) => (field === "number" ? String(row.latent) : row[field]),
  });
  index.addAll(latents);
  const usual = latents.toSorted((a, b) => (b.fit ?? -1) - (a.fit ?? -1) || a.latent - b.latent).slice(0, MOST);
  const how = {
    prefix: true,
    fuzzy: (term) => (term.length > 3 && !/^\d+$/.test(term) ? 0.2 : false),
    boost: { number: 4, concept: 2 },
    boostDocument: (latent) => 1 + (known.get(latent).fit ?? 0),
  };
  return (query) => {
    if (!query.trim()) return usual;
    const strict = index.search(query, { ...how, combineWith: "AND" });
    const found = strict.length ? strict : index.search(query, how);
    return found.slice(0, MOST).map(({ id }) => known.get(id));
  };
}

/**
 * The search box, a combobox with a list of hits.
 * @param state {query, hits, open, active}.
 * @param act {change(state), choose(latent)}.
 */
export function search({ query, hits, open, active }, id, find, act) {
  const type = (text) => act.change({ query: text, hits: find(text), open: true, active: text.trim() ? 0 : -1 });
  const close = () => act.change({ query: "", hits: [], open: false, active: -1 });
  const take = (row) => {
    close();
    act.choose(row.latent);
  };

  function pressed(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && !open) type(query);
    else if (step && hits.length) {
      const from = step < 0 && active < 0 ? 0 : active;
      act.change({ active: (from + step + hits.length) % hits.length });
    } else if (event.key === "Enter" && open && hits[active]) take(hits[active]);
    else if (event.key === "Escape" && (open || query)) close();
    else return;
    event.preventDefault();
  }

  const option = (row, i) => html`<li
    role="option"
    id="${id}-hit-${i}"
    class="steer-hit ${i === active ? "steer-active" : ""}"
    aria-selected=${i === active ? "true" : "false"}
    @mousedown=${(event) => event.preventDefault()}
    @click=${() => take(row)}
  >
    <b>#${row.latent}</b> <span>${row.concept || "no concept known"}</span>
    ${row.words ? html`<span class="steer-muted">said: “${row.words}”</span>` : nothing}
  </li>`;

  return html`<div class="steer-search">
    <label for="${id}-search">Find a latent</label>
    <input
      id="${id}-search"
      data-testid="search"
      type="text"
      role="combobox"
      autocomplete="off"
      spellcheck="false"
      placeholder="a thing, an answer, or a number"
      aria-autocomplete="list"
      aria-expanded=${open ? "true" : "false"}
      aria-controls="${id}-hits"
      aria-activedescendant=${open && active >= 0 ? `${id}-hit-${active}` : nothing}
      .value=${live(query)}
      @input=${(event) => type(event.target.value)}
      @click=${() => open || type(query)}
      @keydown=${pressed}
      @blur=${() => open && act.change({ open: false, active: -1 })}
    />
    <ul id="${id}-hits" class="steer-hits" data-testid="hits" role="listbox" aria-label="Hits" ?hidden=${!open}>
      ${open ? hits.map(option) : nothing}
      ${open && !hits.length ? NONE : nothing}
    </ul>
  </div>`;
}
