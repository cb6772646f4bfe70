// What a latent's explanation becomes as the steering coefficient grows: a small chart, and the same as a table.
import * as Plot from "@observablehq/plot";
import { html, nothing } from "lit-html";
import { ref } from "lit-html/directives/ref.js";
import { cells, said } from "./parts.js";

const SHOWN = ["correctness", "auroc"]; // both lie between 0 and 1, and so share an axis
const STYLE = {
  correctness: { stroke: "#D55E00", symbol: "circle", dash: null },
  auroc: { stroke: "#0072B2", symbol: "square", dash: "5 3" },
};

// Rows of one way at all its coefficients, in their order; several ways may have been swept.
export function sweeps(subject, latent) {
  const ways = new Map();
  for (const row of subject.of[latent]) {
    if (subject.rows.coefficient[row] === null || subject.way(row).control) continue;
    const way = subject.way(row);
    ways.set(way, [...(ways.get(way) ?? []), row]);
  }
  const by = subject.rows.coefficient;
  return [...ways]
    .filter(([, rows]) => rows.length > 1)
    .map(([way, rows]) => ({ way, rows: rows.sort((a, b) => by[a] - by[b]) }));
}

function chart(node, subject, rows, metrics, title) {
  const key = `${subject.id} ${rows.join(" ")} ${node.clientWidth}`;
  if (node.made === key) return;
  node.made = key;
  const points = metrics.flatMap((metric) =>
    rows.map((row) => ({ metric, x: subject.rows.coefficient[row], y: subject.value(row, metric.key) })),
  );
  const chosen = rows.filter((row) => subject.rows.chosen[row]).map((row) => subject.rows.coefficient[row]);
  const of = (metric) => points.filter((point) => point.metric === metric);
  const marks = metrics.flatMap((metric) => {
    const { stroke, symbol, dash } = STYLE[metric.key];
    const last = of(metric).findLast(({ y }) => y !== null);
    return [
      Plot.line(of(metric), { x: "x", y: "y", stroke, strokeDasharray: dash, strokeWidth: 2 }),
      Plot.dot(of(metric), { x: "x", y: "y", fill: stroke, symbol, r: 4 }),
      Plot.text(last ? [last] : [], {
        x: "x",
        y: "y",
        text: () => metric.title,
        dx: 9,
        textAnchor: "start",
        fill: "currentColor",
      }),
    ];
  });
  const plot = Plot.plot({
    width: Math.max(260, Math.min(520, node.clientWidth || 520)),
    height: 220,
    marginBottom: 40,
    marginRight: 90,
    marginTop: 26,
    ariaLabel: title,
    x: { type: "point", label: "coefficient" },
    y: { domain: [0, 1], label: "score", ticks: 3, grid: true },
    marks: [
      Plot.ruleX(chosen, { stroke: "currentColor", strokeOpacity: 0.4, strokeDasharray: "2 3" }),
      Plot.text(chosen, { x: (d) => d, y: 1, dy: -14, text: () => "chosen", fill: "currentColor" }),
      ...marks,
    ],
  });
  node.replaceChildren(plot);
}

export function sweepView(index, subject, latent) {
  return sweeps(subject, latent).map(({ way, rows }) => {
    const metrics = index.metrics.filter(
      ({ key }) => SHOWN.includes(key) && rows.some((row) => subject.value(row, key) !== null),
    );
    const called = metrics.map((metric) => metric.title).join(" and ");
    const title = `${way.label}: ${called} at each coefficient; the table has the numbers`;
    const draw = (node) => node && queueMicrotask(() => chart(node, subject, rows, metrics, title));
    return html`<div class="x-sweep">
      <h4>${way.label}</h4>
      ${metrics.length ? html`<div class="x-chart" ${ref(draw)}></div>` : nothing}
      <table class="x-table x-cards">
        <thead>
          <tr>
            <th scope="col">Coefficient</th>
            <th scope="col">Explanation</th>
            ${metrics.map((metric) => html`<th scope="col">${metric.title}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${rows.map((row) => {
            const chosen = subject.rows.chosen[row];
            return html`<tr class=${chosen ? "x-chosen" : ""}>
              <th scope="row">${subject.rows.coefficient[row]}${chosen ? html` <small>chosen</small>` : nothing}</th>
              <td class="x-words">${said(subject.text(row))}</td>
              ${cells(metrics, subject, row)}
            </tr>`;
          })}
        </tbody>
      </table>
    </div>`;
  });
}
