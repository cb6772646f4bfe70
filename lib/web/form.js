// The form above a list: what to search for, what to leave out, how to sort. It only says what changed; the address
// is what remembers.
import { html, nothing } from "lit-html";
import { live } from "lit-html/directives/live.js";
import { CORRECTNESS, descends, filters, orderOf, orders } from "./filters.js";
import { EVERY, format } from "./route.js";

let unfolded = null; // whether the reader has the filters open; until then they are if one is set

// `live`: the reader changes a control, too, so what is drawn is compared with what it shows.
function menu({ id, label, value, options, change, title = "" }) {
  return html`<label class="x-field"
    ><span title=${title}>${label}</span
    ><select data-testid=${id} @change=${(event) => change(event.target.value)}>
      ${options.map(([key, text]) => html`<option value=${key} .selected=${live(key === value)}>${text}</option>`)}
    </select></label
  >`;
}

export function form({ index, subjects, route, change, search, leave }) {
  const { ask } = route;
  const known = orders(index);
  const field = (id, key, label, options, title) =>
    menu({ id, label, value: ask[key], options, title, change: (value) => change({ [key]: value }) });
  const clusters = subjects.length === 1 ? subjects[0].clusters : [];
  const down = descends(ask, known);
  const order = orderOf(ask, known);
  const set = filters(ask);
  return html`<form
    class="x-form"
    role="search"
    aria-label="Search explanations"
    @submit=${(event) => event.preventDefault()}
  >
    <div class="x-main">
      ${menu({
        id: "subject",
        label: "Subject",
        value: route.subject,
        options: [...index.subjects.map(({ id, name }) => [id, name]), [EVERY, "all subjects"]],
        change: (subject) => leave(subject),
      })}
      <label class="x-field x-wide"
        ><span>Search words or a latent's number <kbd>/</kbd></span
        ><input
          type="search"
          data-testid="search"
          autocomplete="off"
          spellcheck="false"
          placeholder="fox, stripes, 123…"
          .value=${live(ask.q)}
          @input=${(event) => search(event.target.value)}
      /></label>
      ${menu({
        id: "sort",
        label: "Sort by",
        value: order,
        options: Object.entries(known)
          .filter(([key]) => key !== "fit" || ask.q.trim())
          .map(([key, { title }]) => [key, title]),
        change: (sort) => change({ sort, order: "" }),
      })}
      <button type="button" class="x-order" data-testid="order" @click=${() => change({ order: down ? "up" : "down" })}>
        ${down ? "↓ largest first" : "↑ smallest first"}
      </button>
    </div>
    <details
      class="x-filters"
      ?open=${unfolded ?? set > 0}
      @toggle=${(event) => (unfolded = event.target.open)}
    >
      <summary>Filters${set ? html` (${set} set)` : nothing}</summary>
      <div class="x-fields">
        ${field(
          "filter-way",
          "way",
          "Way",
          [
            ["", "all but controls"],
            ["all", "all, and controls"],
            ...index.ways.map(({ id, label, control }) => [id, control ? `control: ${label}` : label]),
          ],
          "how the explanation was made",
        )}
        ${field(
          "filter-correctness",
          "correctness",
          "Correctness",
          [["", "any"], ...Object.entries(CORRECTNESS).map(([key, { title, mark }]) => [key, `${mark} ${title}`])],
          "whether the explanation is right, where the truth is known",
        )}
        ${field(
          "filter-agreement",
          "agreement",
          "Steering and Top-k",
          [
            ["", "agree or not"],
            ["low", "agree little (below 0.3)"],
            ["middle", "agree somewhat (0.3 to 0.7)"],
            ["high", "agree (0.7 or more)"],
            ["steering", "Steering is right, Top-k wrong"],
            ["top-k", "Top-k is right, Steering wrong"],
          ],
          "cosine of the sentence embeddings of their explanations (Top-k: masks); or their correctness",
        )}
        ${field("filter-role", "role", "Role of the latent", [
          ["", "any"],
          ...Object.entries(index.roles).map(([key, about]) => [key, `${key}: ${about}`]),
        ])}
        ${
          clusters.length
            ? field("filter-cluster", "cluster", "Cluster of meaning", [
                ["", "any"],
                ...clusters.map(({ number, name, size }, place) => [String(place), `${number} ${name} (${size})`]),
              ])
            : nothing
        }
        <div class="x-pair">
          ${field("filter-metric", "metric", "Score", [
            ["", "any"],
            ...index.metrics.map(({ key, title }) => [key, title]),
          ])}
          <label class="x-field"
            ><span>at least</span
            ><input
              type="number"
              step="any"
              data-testid="filter-least"
              .value=${live(ask.least)}
              ?disabled=${!ask.metric}
              @change=${(event) => change({ least: event.target.value })}
          /></label>
        </div>
        ${
          set
            ? html`<a
                class="x-button"
                href=${format({ subject: route.subject, ask: { q: ask.q } })}
                data-testid="clear"
                @click=${(event) => event.target.closest("details").querySelector("summary").focus()}
                >Clear filters</a
              >`
            : nothing
        }
      </div>
    </details>
  </form>`;
}
