// One subject's data, as the pages ask for them. Files hold columns, which are small; a result is a row of them.
import MiniSearch from "minisearch";

export class Subject {
  constructor(about, data, index) {
    Object.assign(this, about);
    this.index = index;
    this.latent = data.latents; // columns, an entry for each latent
    this.clusters = data.clusters; // a latent has a place in this list, or -1
    this.words = data.words;
    this.rows = data.explanations; // columns, an entry for each explanation
    this.evidence = data.evidence;
    this.count = this.latent.role.length;
    this.results = []; // what lists show: explanations at the coefficient that was chosen
    this.of = Array.from({ length: this.count }, () => []); // latent -> its rows, the sweep's among them
    this.rows.latent.forEach((latent, row) => {
      this.of[latent].push(row);
      if (this.rows.chosen[row]) this.results.push({ subject: this, row, latent });
    });
  }

  text(row) {
    return this.words[this.rows.words[row]];
  }

  // A score; null where it is undefined, or the subject has no such metric.
  value(row, metric) {
    return this.rows[metric]?.[row] ?? null;
  }

  way(row) {
    return this.index.ways[this.rows.way[row]];
  }

  // The words of a latent's best explanation; "" if it has none.
  best(latent) {
    const row = this.latent.best[latent];
    return row < 0 ? "" : this.text(row);
  }

  // What the map is made of: the words of Steering.
  steered(latent) {
    const row = this.of[latent].find((one) => this.rows.chosen[one] && this.way(one).id === "steering");
    return row === undefined ? "" : this.text(row);
  }

  // The correctness of what one way says of a latent; null where it is undefined, or the way was not asked.
  correctness(latent, way) {
    const row = this.of[latent].find((one) => this.rows.chosen[one] && this.way(one).id === way);
    return row === undefined ? null : this.value(row, "correctness");
  }

  // Whether no other explanation of the latent has more votes; several may share that place.
  wins(row) {
    const best = this.latent.best[this.rows.latent[row]];
    const { vote } = this.rows;
    return best >= 0 && vote[row] !== null && !this.way(row).control && vote[row] >= vote[best];
  }

  silent(latent) {
    return this.latent.role[latent] === "silent";
  }

  // How well each of the words fits a query, 0 if not at all. Many explanations share a text, so texts are what is
  // indexed; and only once somebody searches.
  fits(query) {
    if (!this.finder) {
      this.finder = new MiniSearch({ fields: ["text"], tokenize: (text) => text.match(/[\p{L}\p{M}\p{N}]+/gu) ?? [] });
      const used = new Set(this.results.map(({ row }) => this.rows.words[row]));
      this.finder.addAll([...used].map((id) => ({ id, text: this.words[id] })));
    }
    const fits = new Float64Array(this.words.length);
    const how = { prefix: true, fuzzy: (term) => (term.length > 3 ? 0.2 : 0), combineWith: "AND" };
    for (const hit of this.finder.search(query, how)) fits[hit.id] = hit.score;
    return fits;
  }
}
