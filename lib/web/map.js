// The map: a dot for each explained latent, where its explanation by Steering lies among all of them.
import * as Plot from "@observablehq/plot";
import { html, nothing, render } from "lit-html";
import { said } from "./parts.js";
import { linkTo } from "./table.js";

// Five colours that colour-blind readers tell apart (Okabe and Ito), times three shapes: as in notebook 14.
const COLOURS = ["#E69F00", "#56B4E9", "#009E73", "#0072B2", "#CC79A7"];
const SHAPES = ["circle", "square", "diamond"];
const lookOf = (cluster) => ({
  colour: cluster < 0 ? "#999999" : COLOURS[cluster % COLOURS.length],
  shape: cluster < 0 ? "cross" : SHAPES[Math.floor(cluster / COLOURS.length) % SHAPES.length],
});

const RADIUS = 3.4;
const APART = 6.4; // pixels between dots: many latents share a sentence, and so a place
const GOLDEN = Math.PI * (3 - Math.sqrt(5));
const MARGIN = 24;
const REACH = 24; // pixels from a tap to the dot that is meant: fingers are larger than dots

// Places in pixels. A latent whose place is taken goes to the next free one on a sunflower around it, in the order of
// numbers, so that the map is the same every time. `taken` files what is placed by squares, to ask neighbours alone.
function placed(subject, width, height) {
  const { x, y } = subject.latent;
  const explained = subject.latent.role.flatMap((_, latent) =>
    x[latent] === null || y[latent] === null ? [] : [latent],
  );
  const scale = (values, from, to) => {
    const [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
    return (value) => (high > low ? from + ((value - low) / (high - low)) * (to - from) : (from + to) / 2);
  };
  const across = scale(
    explained.map((latent) => x[latent]),
    MARGIN,
    width - MARGIN,
  );
  const up = scale(
    explained.map((latent) => y[latent]),
    height - MARGIN,
    MARGIN,
  );
  const taken = new Map();
  const square = (a, b) => `${Math.floor(a / APART)} ${Math.floor(b / APART)}`;
  const free = (a, b) =>
    [-APART, 0, APART].every((i) =>
      [-APART, 0, APART].every((j) =>
        (taken.get(square(a + i, b + j)) ?? []).every(([c, d]) => Math.hypot(a - c, b - d) >= APART),
      ),
    );
  const tried = new Map(); // place -> how much of its sunflower is known to be taken
  return explained.map((latent) => {
    const [a, b] = [across(x[latent]), up(y[latent])];
    const place = `${x[latent]} ${y[latent]}`;
    for (let seed = tried.get(place) ?? 0; ; seed++) {
      const [away, angle] = [0.6 * APART * Math.sqrt(seed), seed * GOLDEN];
      const [c, d] = [a + away * Math.cos(angle), b + away * Math.sin(angle)];
      if (!free(c, d)) continue;
      tried.set(place, seed + 1);
      taken.set(square(c, d), [...(taken.get(square(c, d)) ?? []), [c, d]]);
      return { latent, x: c, y: d, ...lookOf(subject.latent.cluster[latent]) };
    }
  });
}

function drawn(subject, dots, width, height) {
  const channels = {
    x: "x",
    y: "y",
    fill: "colour",
    symbol: "shape",
    r: RADIUS,
    href: ({ latent }) => linkTo(subject, latent),
  };
  return Plot.plot({
    width,
    height,
    margin: 0,
    ariaLabel: `Map of ${dots.length} latents of ${subject.name}`,
    x: { axis: null, domain: [0, width], range: [0, width] },
    y: { axis: null, domain: [0, height], range: [0, height] },
    color: { type: "identity" },
    symbol: { type: "identity" },
    marks: [Plot.dot(dots, { ...channels, sort: null })],
  });
}

// A map within an element. Search and filters only change which dots stand out, which is quick; the drawing is made
// anew only for another subject or width.
export class LatentMap {
  constructor(node) {
    this.node = node;
    this.tip = document.createElement("div");
    this.tip.className = "x-tip";
    this.tip.hidden = true;
    this.frame = document.createElement("div");
    node.append(this.frame, this.tip);
    this.frame.addEventListener("pointermove", (event) => this.point(event));
    this.frame.addEventListener("pointerleave", () => (this.tip.hidden = true));
    this.frame.addEventListener("focusin", (event) => this.focus(event.target.closest("a")));
    this.frame.addEventListener("focusout", () => (this.tip.hidden = true));
    this.frame.addEventListener("click", (event) => this.click(event));
    this.frame.addEventListener("keydown", (event) => this.walk(event));
    new ResizeObserver(() => this.update(this.subject, this.matching)).observe(node);
  }

  update(subject, matching) {
    [this.subject, this.matching] = [subject, matching];
    const width = Math.round(this.node.clientWidth);
    if (!subject || !width) return; // folded away
    if (this.made?.subject !== subject || this.made.width !== width) this.make(subject, width);
    for (const { latent, link } of this.dots) {
      link.classList.toggle("x-dim", Boolean(matching) && !matching.has(latent));
    }
  }

  make(subject, width) {
    const height = Math.round(Math.min(360, width * (width < 500 ? 0.9 : 0.45)));
    this.made = { subject, width };
    this.dots = placed(subject, width, height);
    this.frame.replaceChildren(drawn(subject, this.dots, width, height));
    const links = new Map([...this.frame.querySelectorAll("a")].map((link) => [link.href.baseVal, link]));
    this.dots.forEach((dot, place) => {
      dot.link = links.get(linkTo(subject, dot.latent));
      dot.link.setAttribute("aria-label", `latent ${dot.latent}: ${subject.steered(dot.latent)}`);
      // One stop of the Tab key for the whole map; arrows walk from dot to dot. Five hundred stops would be a trap.
      dot.link.setAttribute("tabindex", place ? "-1" : "0");
    });
    this.tip.hidden = true;
  }

  nearest(x, y, usable = () => true) {
    let best = null;
    for (const dot of this.dots) {
      const far = Math.hypot(dot.x - x, dot.y - y);
      if (usable(dot) && (!best || far < best.far)) best = { dot, far };
    }
    return best;
  }

  at(event) {
    const box = this.frame.getBoundingClientRect();
    const near = this.nearest(event.clientX - box.left, event.clientY - box.top);
    return near && near.far <= REACH ? near.dot : null;
  }

  point(event) {
    const dot = this.at(event);
    this.frame.style.cursor = dot ? "pointer" : "";
    this.tell(dot);
  }

  focus(link) {
    const dot = this.dots.find((one) => one.link === link);
    for (const one of this.dots) one.link.setAttribute("tabindex", one === dot ? "0" : "-1");
    this.tell(dot);
  }

  tell(dot) {
    this.tip.hidden = !dot;
    if (!dot) return;
    const { subject } = this;
    const cluster = subject.clusters[subject.latent.cluster[dot.latent]];
    render(
      html`<strong>latent ${dot.latent}</strong>
        ${said(subject.steered(dot.latent))}${cluster ? html`<br /><small>cluster: ${cluster.name}</small>` : nothing}`,
      this.tip,
    );
    const right = dot.x > this.made.width / 2;
    const aside = right ? `right:${this.made.width - dot.x + 8}px` : `left:${dot.x + 8}px`;
    this.tip.style.cssText = `${aside};top:${dot.y + 8}px`;
  }

  // A click beside a dot means the nearest one. Clicks with a key held are the browser's: they open tabs.
  click(event) {
    if (event.target.closest("a") || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const dot = this.at(event);
    if (dot) location.hash = linkTo(this.subject, dot.latent);
  }

  // Arrow keys: the nearest dot that lies more in that direction than beside it.
  walk(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") this.tip.hidden = true;
    const here = step && this.dots.find(({ link }) => link === event.target.closest("a"));
    if (!here) return;
    event.preventDefault();
    const ahead = (dot) => (dot.x - here.x) * step[0] + (dot.y - here.y) * step[1];
    const aside = (dot) => Math.abs((dot.x - here.x) * step[1]) + Math.abs((dot.y - here.y) * step[0]);
    this.nearest(here.x, here.y, (dot) => ahead(dot) > 0.01 && ahead(dot) >= aside(dot))?.dot.link.focus();
  }
}

// The clusters as links that filter by them.
export function clusterLegend(subject, chosen, hrefOf) {
  const sign = ({ colour, shape }) => {
    const form = {
      circle: "M8,8m-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0",
      square: "M3.5,3.5h9v9h-9z",
      diamond: "M8,1.5l5,6.5l-5,6.5l-5,-6.5z",
    };
    return html`<svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">
      <path d=${form[shape]} fill=${colour} />
    </svg>`;
  };
  return html`<ul class="x-clusters">
    ${subject.clusters.map(({ name, size }, place) => {
      const current = String(place) === chosen;
      return html`<li>
        <a href=${hrefOf(current ? "" : String(place))} aria-current=${current ? "true" : nothing}
          >${sign(lookOf(place))} ${name} <small>${size}</small></a
        >
      </li>`;
    })}
  </ul>`;
}
