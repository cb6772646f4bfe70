// The page of one latent.
import { html, nothing } from "lit-html";
import { AGREEMENT_TERM, VOTE, abbreviated, cells, legend, number, percent, said, star } from "./parts.js";
import { LOOKS, shown } from "./pictures.js";
import { sweepView, sweeps } from "./sweep.js";
import { linkTo, thumbnail } from "./table.js";

function summary(index, subject, latent) {
  const { concept, kind, fit, fired, patches, strength, role, cluster, agreement } = Object.fromEntries(
    Object.entries(subject.latent).map(([key, column]) => [key, column[latent]]),
  );
  const truth = concept
    ? html`By the exact masks of the drawn pictures it responds to
        <strong>${concept}</strong>${kind ? html` (${kind})` : nothing} best, with a fit of
        <strong>${number(fit)}</strong> (<abbr
          title="harmonic mean of precision and recall over patches; 1 would be: on all patches of it, and on no other"
          >F1 on patches</abbr
        >, of 1).`
    : html`Which element it responds to is not known${fired ? nothing : ": it never fires"}.`;
  const where = subject.clusters[cluster];
  return html`<p class="x-lead">${truth}</p>
    <div class="x-facts">
      <dl>
        <div>
          <dt>Role</dt>
          <dd>${role}: ${index.roles[role] ?? ""}</dd>
        </div>
        <div>
          <dt>Fires on</dt>
          <dd>
            ${percent(fired)} of the
            pictures${fired ? html`, there on ${number(patches, 1)} of ${subject.grid ** 2} patches` : nothing}
          </dd>
        </div>
        <div>
          <dt>Highest activation</dt>
          <dd>${number(strength)}</dd>
        </div>
        ${
          where
            ? html`<div>
                <dt>Cluster of meaning</dt>
                <dd>${where.name}</dd>
              </div>`
            : nothing
        }
        ${
          agreement === null
            ? nothing
            : html`<div>
                <dt>${abbreviated(AGREEMENT_TERM)} of Steering and Top-k</dt>
                <dd>${number(agreement)}</dd>
              </div>`
        }
      </dl>
    </div>`;
}

const SHOWN = "What Top-k looked at, and the hybrid, which steers as well.";
const HELD_OUT = "Nobody who explained saw these; IoU and CLIP score come from them.";

function images(subject, latent, look, which, title, about) {
  const { picture, score: scores, heat } = subject.evidence[which];
  const names = picture[latent] ?? [];
  const called = which === "shown" ? "top image" : "held-out top image";
  return html`<h4>${title}</h4>
    <p class="x-note">${about}</p>
    ${
      names.length
        ? html`<ol class="x-images" data-testid=${`images-${which}`}>
            ${names.map((name, i) => {
              const alt = `${called} ${i + 1} of latent ${latent}, ${LOOKS[look]}`;
              return html`<li>
                <figure>
                  ${shown({ name, heat: heat[latent][i], grid: subject.grid, look, alt })}
                  <figcaption>${number(scores[latent][i])}</figcaption>
                </figure>
              </li>`;
            })}
          </ol>`
        : html`<p>There are none: the latent is active on no picture of this set.</p>`
    }`;
}

// `other`: a row whose words are worth comparing with.
function explanations(index, subject, rows, other) {
  const same = (row) => other !== undefined && subject.text(row).trim() === subject.text(other).trim();
  return html`<table class="x-table x-cards">
    <thead>
      <tr>
        <th scope="col">Way</th>
        <th scope="col">Explanation</th>
        ${index.metrics.map((metric) => html`<th scope="col">${abbreviated(metric)}</th>`)}
        <th scope="col">${abbreviated(VOTE)}</th>
      </tr>
    </thead>
    <tbody>
      ${rows.map((row) => {
        const way = subject.way(row);
        const coefficient = subject.rows.coefficient[row];
        return html`<tr class=${subject.wins(row) ? "x-chosen" : ""}>
          <th scope="row">
            <abbr title=${way.about}>${way.label}</abbr
            >${coefficient === null ? nothing : html`<br /><small>coefficient ${coefficient}</small>`}
          </th>
          <td class="x-words">
            ${said(subject.text(row))}${star(subject, row)}
            ${same(row) ? html`<small class="x-best">the same as ${subject.way(other).label}</small>` : nothing}
          </td>
          ${cells(index.metrics, subject, row)}
          <td class="x-number" data-label=${VOTE.title}>${number(subject.rows.vote[row])}</td>
        </tr>`;
      })}
    </tbody>
  </table>`;
}

function neighbours(subject, latent) {
  return html`<ul class="x-neighbours" data-testid="neighbours">
    ${subject.latent.neighbours[latent].map(
      ([other, cosine]) =>
        html`<li>
          ${thumbnail(subject, other)}
          <div>
            <a href=${linkTo(subject, other)}>latent ${other}</a> <small>cosine ${number(cosine)}</small><br />
            ${
              subject.silent(other)
                ? html`<em class="x-none">not explained</em>`
                : html`<span class="x-clamp">${said(subject.best(other))}</span>`
            }
          </div>
        </li>`,
    )}
  </ul>`;
}

export function latentPage({ index, subject, latent, back, look, change, copy, copied }) {
  const rows = subject.of[latent].filter((row) => subject.rows.chosen[row]);
  const own = rows.filter((row) => !subject.way(row).control);
  const controls = rows.filter((row) => subject.way(row).control);
  const steered = own.find((row) => subject.way(row).id === "steering");
  const swept = sweeps(subject, latent);
  const beside = (other, text, rel, key) =>
    other >= 0 && other < subject.count
      ? html`<a
          rel=${rel}
          data-testid=${rel}
          href=${linkTo(subject, other)}
          title=${`key: ${rel === "prev" ? "←" : "→"}`}
          aria-keyshortcuts=${key}
          >${text}</a
        >`
      : html`<span aria-disabled="true">${text}</span>`;
  const permuted = subject.latent.permuted[latent];
  return html`<article class="x-latent" data-testid="latent-page" data-latent=${latent}>
    <nav class="x-steps" aria-label="Latents">
      <a href=${back} data-testid="back">↑ back to the list</a>
      ${beside(latent - 1, `← latent ${latent - 1}`, "prev", "ArrowLeft")}
      ${beside(latent + 1, `latent ${latent + 1} →`, "next", "ArrowRight")}
    </nav>
    <h2 tabindex="-1">Latent ${latent} <small>of ${subject.name}</small></h2>
    ${summary(index, subject, latent)}
    <p class="x-actions">
      ${
        subject.demo
          ? html`<a class="x-button" data-testid="demo" href=${`demo.html#${latent}`}>Steer this latent yourself</a>`
          : nothing
      }
      <button type="button" data-testid="copy" @click=${copy}>Copy the link to this latent</button>
      <span aria-live="polite">${copied}</span>
    </p>

    <h3>Pictures that activate it most</h3>
    <fieldset class="x-switch">
      <legend>Show them as</legend>
      ${Object.entries({ plain: "they are", masks: "masks", heatmaps: "heatmaps" }).map(
        ([key, text]) =>
          html`<label
            ><input
              type="radio"
              name="look"
              value=${key}
              .checked=${key === look}
              @change=${() => change({ look: key })}
            />${text}</label
          >`,
      )}
    </fieldset>
    <p class="x-note">
      A mask blackens each patch on which the latent is silent. A heatmap is yellow where it is most active, and violet
      where it is least. The number below a picture is its image activation score: the mean activity over all patches.
    </p>
    ${images(subject, latent, look, "shown", "Shown to explainers", SHOWN)}
    ${images(subject, latent, look, "held_out", "Held out", HELD_OUT)}

    <h3>Explanations</h3>
    ${legend(index)}
    ${
      own.length
        ? explanations(index, subject, own)
        : html`<p data-testid="silent">
            There is none: the latent fires on too few pictures (${percent(subject.latent.fired[latent])} of those for
            explainers). A latent is explained if it fires on at least ${subject.min_images} pictures for explainers and
            as many held-out ones.
          </p>`
    }
    ${
      controls.length
        ? html`<section data-testid="controls">
            <h3>Controls</h3>
            <p class="x-note">
              The same question without what is supposed to matter. An explanation says something about this latent only
              if it is better than these.
              ${
                permuted >= 0
                  ? html`The other latent's direction was that of
                      <a href=${linkTo(subject, permuted)}>latent ${permuted}</a>.`
                  : nothing
              }
            </p>
            ${explanations(index, subject, controls, steered)}
          </section>`
        : nothing
    }
    ${
      swept.length
        ? html`<section data-testid="sweep">
            <h3>As the coefficient grows</h3>
            <p class="x-note">
              The coefficient is how long the added vector is, in units of the residual stream's mean norm. One value
              was chosen for all latents of a subject, on its validation latents.
            </p>
            ${sweepView(index, subject, latent)}
          </section>`
        : nothing
    }
    <h3>Neighbours</h3>
    <p class="x-note">Latents whose directions point most nearly the same way (cosine 1: exactly so).</p>
    ${neighbours(subject, latent)}
  </article>`;
}
