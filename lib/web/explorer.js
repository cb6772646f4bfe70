// The explorer: all explanations of all latents, to be searched and looked at. The address says what is shown, so
// everything here follows from it; `draw` is called whenever it changes.
import { html, nothing, render } from "lit-html";
import { keyed } from "lit-html/directives/keyed.js";
import { ref } from "lit-html/directives/ref.js";
import { found, narrowed } from "./filters.js";
import { form } from "./form.js";
import { latentPage } from "./latent.js";
import { load } from "./loading.js";
import { LatentMap, clusterLegend } from "./map.js";
import { legend, many } from "./parts.js";
import { EVERY, format, parse } from "./route.js";
import { Subject } from "./subject.js";
import { bySubject, count, results, truths } from "./table.js";

const root = document.getElementById("explorer");
const index = window.explorerIndex;
const subjects = new Map(); // id -> Subject, those loaded so far
const failures = new Map(); // id -> Error
const pageTitle = document.title;

let back = ""; // the list that the reader came from
let left = null; // where in that list: its address, how far it was scrolled, and the latent that was opened
let typing = false; // while somebody types, the address is replaced: Back should not undo letter by letter
let copied = ""; // what became of copying a link
let latentMap = null;

function route() {
  const now = parse(location.hash);
  return { ...now, subject: now.subject || (index.subjects[0]?.id ?? "") };
}

// -- moving -----------------------------------------------------------------------------------------

function go(next, replace = false) {
  history[replace ? "replaceState" : "pushState"](replace ? history.state : null, "", format(next));
  arrived();
}

const change = (ask) => {
  typing = false;
  const now = route();
  go({ ...now, ask: { ...now.ask, ...ask, show: "" } });
};

const search = (q) => {
  const now = route();
  const replace = typing;
  typing = true;
  go({ ...now, ask: { ...now.ask, q, sort: now.ask.sort === "fit" ? "" : now.ask.sort, show: "" } }, replace);
};

// Replaced, not added to what Back undoes: these show more of the same.
const adjust = (ask) => {
  const now = route();
  go({ ...now, ask: { ...now.ask, ...ask } }, true);
};

function leave(subject) {
  const { ask } = route();
  typing = false;
  go({ subject, ask: { ...ask, cluster: "", show: "" } }); // clusters are a subject's own
}

// After a step to somewhere new (not Back) a latent's page is read from its title on, by eye and by screen reader.
function arrived() {
  const fresh = history.state?.explorer !== true;
  if (fresh) history.replaceState({ explorer: true }, "");
  copied = "";
  if (fresh && route().latent !== null && root.querySelector("[data-testid=results]")) {
    left = { list: back, top: scrollY, opened: location.hash };
  }
  draw();
  const heading = root.querySelector(".x-latent h2");
  if (fresh && heading) {
    root.scrollIntoView();
    heading.focus({ preventScroll: true });
  }
  if (!heading && left && left.list === (location.hash || "#")) returned(fresh);
}

// Back in the list that a latent was opened from, by the link or by the browser: where it was left.
function returned(fresh) {
  const { top, opened } = left;
  left = null;
  if (fresh) requestAnimationFrame(() => scrollTo(0, top)); // by then the map has its height
  root.querySelector(`.x-results a[href="${CSS.escape(opened)}"]`)?.focus({ preventScroll: true });
}

// -- drawing ----------------------------------------------------------------------------------------

function wanted({ subject }) {
  return index.subjects.filter(({ id }) => subject === EVERY || id === subject);
}

function fetchAll(abouts) {
  for (const about of abouts.filter(({ id }) => !subjects.has(id) && !failures.has(id))) {
    load(about)
      .then((data) => subjects.set(about.id, new Subject(about, data, index)))
      .catch((error) => failures.set(about.id, error))
      .then(() => requestAnimationFrame(draw));
  }
}

function retry() {
  failures.clear();
  draw();
}

const failed = (abouts) =>
  abouts
    .filter(({ id }) => failures.has(id))
    .map(
      ({ id, name }) =>
        html`<div class="x-error" role="alert" data-testid="error">
          <p><strong>The data of ${name} are missing:</strong> ${failures.get(id).message}.</p>
          <p>
            The folder <code>explorer</code> must lie beside this page, whole. Copy it again, or build the book anew
            with <code>./run_all.sh book</code>; on a web server, check that it delivers the file.
          </p>
          <p><button type="button" @click=${retry}>Try again</button></p>
        </div>`,
    );

const problem = (text) =>
  html`<div class="x-error" role="alert" data-testid="error">
    <p><strong>${text}</strong></p>
    <p><a href="#" data-testid="back">Back to the list</a></p>
  </div>`;

const intro = () =>
  html`<p class="x-lead">
    Each line of the list is an explanation of a latent: the picture that activates it most, with a heatmap; what the
    model said, and in which way it was asked; and scores. The larger a score the better: 1 is the best IoU, AUROC (0.5
    is chance) and correctness (✓ right, ◐ partly, ✗ wrong), and a star marks what the metrics together prefer among a
    latent's explanations. Search, filter and sort, or choose a dot of the map: every latent has a page with its
    pictures, all its explanations, controls and neighbours.
  </p>`;

function about(abouts) {
  if (abouts.length !== 1) return nothing;
  const [one] = abouts;
  return html`<p class="x-note">
    ${one.about} ${many(one.latents, "latent")}, ${one.explained.toLocaleString("en")} explained; the others fire on too
    few pictures.${one.published ? ` Compared with the paper's ${one.published}.` : ""}
  </p>`;
}

function mapPanel(subject, now, matching) {
  const open = now.ask.map ? now.ask.map === "open" : root.clientWidth >= 720;
  const hrefOf = (cluster) => format({ ...now, ask: { ...now.ask, cluster, show: "" } });
  const update = (node) => {
    if (!node) return;
    if (latentMap?.node !== node) latentMap = new LatentMap(node);
    queueMicrotask(() => latentMap.update(subject, matching)); // once it is on the page and has a width
  };
  const toggled = (event) => event.target.open !== open && adjust({ map: event.target.open ? "open" : "closed" });
  return html`<details class="x-map" .open=${open} @toggle=${toggled}>
    <summary>Map of meanings</summary>
    <p class="x-note">
      Each dot is a latent, placed by what Steering says of it: near means alike (UMAP of sentence embeddings; axes mean
      nothing). Latents with the same sentence stand around one place. A name below filters by its cluster. Keys: Tab to
      the map, arrows from dot to dot, Enter opens.
    </p>
    <div class="x-plot" data-testid="map" ${ref(update)}></div>
    ${clusterLegend(subject, now.ask.cluster, hrefOf)}
  </details>`;
}

function listPage(now) {
  const abouts = wanted(now);
  const ready = abouts.flatMap(({ id }) => subjects.get(id) ?? []);
  const open = abouts.filter(({ id }) => !subjects.has(id) && !failures.has(id));
  const controls = form({
    index,
    subjects: ready.length === abouts.length ? ready : [],
    route: now,
    change,
    search,
    leave,
  });
  const hits = found(ready, now.ask, index);
  const matching = narrowed(now.ask) ? new Set(hits.map(({ latent }) => latent)) : null;
  back = location.hash || "#";
  document.title = pageTitle;
  return html`${intro()} ${controls} ${legend(index)} ${about(abouts)} ${failed(abouts)}
  ${open.length ? html`<p role="status">Loading ${open.map(({ name }) => name).join(", ")}…</p>` : nothing}
  ${
    ready.length
      ? html`<h2 class="x-unseen">Explanations</h2>
          ${count(hits, now.ask)} ${ready.length > 1 && narrowed(now.ask) ? bySubject(ready, hits, now.ask) : nothing}
          ${truths(ready, now.ask.q)}
          ${ready.length === 1 && abouts.length === 1 ? mapPanel(ready[0], now, matching) : nothing}
          <section aria-label="Explanations">
            ${results({ index, subjects: ready, ask: now.ask, hits, change, more: (n) => adjust({ show: String(n) }) })}
          </section>`
      : nothing
  }`;
}

async function copy() {
  try {
    await navigator.clipboard.writeText(location.href);
    copied = "copied";
  } catch {
    copied = "not allowed by this browser: copy the address of the page";
  }
  draw();
}

function page(now) {
  const one = index.subjects.find(({ id }) => id === now.subject);
  if (!one && now.subject !== EVERY) return problem(`There is no subject called “${now.subject}”.`);
  if (now.latent === null) return listPage(now);
  if (!one) return problem("A latent belongs to one subject: its address names it, as #desk/123 does.");
  if (!/^\d+$/.test(now.latent) || Number(now.latent) >= one.latents) {
    return problem(`${one.name} has no latent “${now.latent}”: they are numbered from 0 to ${one.latents - 1}.`);
  }
  const subject = subjects.get(one.id);
  if (!subject) return failures.has(one.id) ? failed([one]) : html`<p role="status">Loading ${one.name}…</p>`;
  const latent = Number(now.latent);
  document.title = `Latent ${latent} · ${one.name} · ${pageTitle}`;
  const look = now.ask.look || "heatmaps";
  const came = back || format({ subject: one.id });
  // Another latent is another page: a picture that still shows the last one would stand below the new one's heatmap.
  return keyed(
    `${one.id}/${latent}`,
    latentPage({ index, subject, latent, back: came, look, change: adjust, copy, copied }),
  );
}

function draw() {
  const now = route();
  const known = now.subject === EVERY || index.subjects.some(({ id }) => id === now.subject);
  // The page around has addresses of its own, as that of its title; those are none of ours.
  if (!known && document.getElementById(now.subject)) return;
  if (known) fetchAll(wanted(now));
  render(page(now), root);
}

// -- keys -------------------------------------------------------------------------------------------

const writes = (node) => node.closest?.("input, select, textarea, [contenteditable]");

// Heard before the book's own shortcuts, which would take `/` for the search of the book.
function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || writes(event.target)) return;
  const done = () => (event.preventDefault(), event.stopImmediatePropagation());
  if (event.key === "/") {
    done();
    if (!root.querySelector("[data-testid=search]")) go(parse(back || format({ subject: route().subject })));
    root.querySelector("[data-testid=search]")?.focus();
  }
  const side = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  const link = side && root.querySelector(`.x-steps [rel=${side}]`);
  if (link) {
    done();
    location.hash = link.getAttribute("href");
  }
}

// -- start ------------------------------------------------------------------------------------------

function start() {
  root.replaceChildren(); // what was there for readers without JavaScript
  root.classList.add("x-explorer");
  if (!index) {
    render(
      html`<div class="x-error" role="alert" data-testid="error">
        <p><strong>The list of subjects is missing:</strong> explorer/index.js could not be loaded.</p>
        <p>
          The folder <code>explorer</code> must lie beside this page, whole. Copy it again, or build the book anew with
          <code>./run_all.sh book</code>.
        </p>
      </div>`,
      root,
    );
    return;
  }
  addEventListener("popstate", () => ((typing = false), arrived()));
  addEventListener("keydown", key, { capture: true });
  arrived();
}

start();
