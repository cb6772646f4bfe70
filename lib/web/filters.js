// Which explanations a reader asked for, and in which order.

// A sentence-embedding cosine; the words for its thirds stand in the menu with these bounds.
export const AGREEMENT = { low: [-1, 0.3], middle: [0.3, 0.7], high: [0.7, 1.01] };

// Which of two ways alone is right, by the bands of correctness; masks stand for Top-k, as in the agreement.
export const ALONE = { steering: ["steering", "top-k-masks"], "top-k": ["top-k-masks", "steering"] };

const between = (value, [low, high]) => value !== null && value >= low && value < high;

// Correctness is a number; its bands are ours, for a first look. Exactly 1 is no use as a bound: hardly any latent is
// so clean that a short sentence reaches it.
export const CORRECTNESS = {
  right: { title: "right (0.5 or more)", mark: "✓", holds: (value) => between(value, [0.5, Infinity]) },
  partly: { title: "partly right (0.1 to 0.5)", mark: "◐", holds: (value) => between(value, [0.1, 0.5]) },
  wrong: { title: "wrong (below 0.1)", mark: "✗", holds: (value) => between(value, [-Infinity, 0.1]) },
  unknown: { title: "unknown", mark: "?", holds: (value) => value === null },
};

export function verdict(value) {
  return Object.keys(CORRECTNESS).find((key) => CORRECTNESS[key].holds(value ?? null));
}

// What a list can be sorted by: a value of each result (null: last), and whether the largest come first.
export function orders(index) {
  const metric = ({ key, title }) => [key, { title, value: ({ subject, row }) => subject.value(row, key), down: true }];
  const latent =
    (column) =>
    ({ subject, latent }) =>
      subject.latent[column][latent];
  return {
    fit: { title: "fit to the search", value: ({ fit }) => fit ?? null, down: true },
    latent: { title: "latent", value: ({ latent }) => latent, down: false },
    ...Object.fromEntries(index.metrics.map(metric)),
    vote: { title: "vote", value: ({ subject, row }) => subject.rows.vote[row], down: true },
    agreement: { title: "agreement", value: latent("agreement"), down: true },
    fired: { title: "firing share", value: latent("fired"), down: true },
  };
}

// Without a choice: what fits best if something is searched for, else the order of latents.
export const orderOf = (ask, known) => (ask.sort in known ? ask.sort : ask.q.trim() ? "fit" : "latent");

export const descends = (ask, known) => (ask.order ? ask.order === "down" : known[orderOf(ask, known)].down);

// How many filters are set, beside the search.
export const filters = (ask) =>
  [ask.way, ask.correctness, ask.cluster, ask.role, ask.agreement, ask.metric && ask.least].filter(Boolean).length;

// Whether anything narrows the list down: only then can dots of the map stand out.
export const narrowed = (ask) => Boolean(ask.q.trim()) || filters(ask) > 0;

function wayTest(way) {
  if (way === "all") return () => true;
  return way ? ({ subject, row }) => subject.way(row).id === way : ({ subject, row }) => !subject.way(row).control;
}

// Latents that respond to what was searched for, whether anybody said so or not: the best first, none that is wrong.
export function responding(subject, query) {
  const terms = words(query);
  if (!terms.length) return [];
  const { concept, fit } = subject.latent;
  const holds = (latent) => {
    if (verdict(fit[latent]) === "wrong") return false;
    const parts = words(concept[latent] ?? "");
    return terms.every((term) => parts.some((part) => part.startsWith(term)));
  };
  return concept.flatMap((_, latent) => (holds(latent) ? [latent] : [])).toSorted((a, b) => fit[b] - fit[a]);
}

const words = (text) => text.toLowerCase().match(/[\p{L}\p{M}\p{N}]+/gu) ?? [];

// Results that meet all conditions, sorted. With a search each has its `fit`.
export function found(subjects, ask, index) {
  const tests = [wayTest(ask.way)];
  const add = (wanted, test) => wanted && tests.push(test);
  add(ask.role, ({ subject, latent }) => subject.latent.role[latent] === ask.role);
  add(ask.cluster, ({ subject, latent }) => String(subject.latent.cluster[latent]) === ask.cluster);
  add(ask.agreement in AGREEMENT, ({ subject, latent }) =>
    between(subject.latent.agreement[latent], AGREEMENT[ask.agreement]),
  );
  add(ask.agreement in ALONE, ({ subject, latent }) => {
    const [right, wrong] = ALONE[ask.agreement].map((way) => verdict(subject.correctness(latent, way)));
    return right === "right" && wrong === "wrong";
  });
  add(ask.correctness in CORRECTNESS, ({ subject, row }) =>
    CORRECTNESS[ask.correctness].holds(subject.value(row, "correctness")),
  );
  const least = Number.parseFloat(ask.least);
  if (ask.metric && Number.isFinite(least)) {
    tests.push(({ subject, row }) => (subject.value(row, ask.metric) ?? -Infinity) >= least);
  }
  const query = ask.q.trim();
  const number = /^#?\d+$/.test(query) ? Number(query.replace("#", "")) : null;
  const hits = [];
  for (const subject of subjects) {
    const fits = query ? subject.fits(query) : null;
    for (const result of subject.results) {
      const fit = fits && (result.latent === number ? Infinity : fits[subject.rows.words[result.row]]);
      if (fits && !fit) continue;
      if (tests.every((test) => test(result))) hits.push(fits ? { ...result, fit } : result);
    }
  }
  return sorted(hits, ask, index);
}

function sorted(hits, ask, index) {
  const known = orders(index);
  const order = orderOf(ask, known);
  const { value } = known[order];
  const sign = descends(ask, known) ? -1 : 1;
  // Many latents share their words, and so fit a search alike: of those the better ones come first, as far as the
  // proxies know.
  const second = order === "fit" ? known.vote.value : () => 0;
  const keyed = hits.map((hit, place) => ({ hit, place, key: value(hit), second: second(hit) ?? -1 }));
  const missing = (key) => key === null || key === undefined;
  keyed.sort((a, b) => {
    const tie = b.second - a.second || a.place - b.place;
    if (missing(a.key) || missing(b.key)) return missing(a.key) - missing(b.key) || tie;
    return a.key === b.key ? tie : a.key < b.key ? -sign : sign;
  });
  return keyed.map(({ hit }) => hit);
}
