// Where the reader is, kept in the address alone: so every view has a link, and Back works.
// `#desk?q=fox` is a list, `#desk/123` a latent, `#all` the list of all subjects, `#` that of the first.

export const EVERY = "all";

// What a list can be asked for, and what it is asked for if the address is silent.
export const DEFAULTS = {
  q: "",
  way: "",
  correctness: "",
  cluster: "",
  role: "",
  agreement: "",
  metric: "",
  least: "",
  sort: "",
  order: "",
  show: "",
  map: "",
  look: "",
};

export function parse(hash) {
  const [path, ...query] = hash.replace(/^#/, "").split("?");
  const given = new URLSearchParams(query.join("?"));
  const [subject, latent] = path.split("/").map(decoded);
  const ask = Object.fromEntries(Object.entries(DEFAULTS).map(([key, usual]) => [key, given.get(key) ?? usual]));
  return { subject, latent: latent === undefined ? null : latent, ask };
}

export function format({ subject, latent = null, ask = {} }) {
  const changed = Object.entries(ask).filter(([key, value]) => key in DEFAULTS && value !== DEFAULTS[key]);
  const query = new URLSearchParams(changed).toString();
  const path = encodeURIComponent(subject) + (latent === null ? "" : `/${encodeURIComponent(latent)}`);
  return `#${path}${query ? `?${query}` : ""}`;
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a stray per cent sign: whoever reads it will find no such subject
  }
}
