// Who asks the model: one request is computed at a time, and of those that wait, the newest.

/** What became of a request that a newer one has overtaken. */
export class Dropped extends Error {
  name = "Dropped";
}

/**
 * Makes `ask(request, how)`, which promises an answer. `how` says what waiting means:
 * "now" (usual): only the newest waits; "each": all are computed, in order; "idle": the newest, when nobody else waits.
 * @param compute request -> promise of an answer; called once `ready` is kept.
 */
export function queue(compute, ready) {
  const newest = { now: null, idle: null };
  const each = [];
  let busy = true;
  let failed = null;

  function taken() {
    const slot = newest.now ? "now" : "idle";
    if (slot === "idle" && each.length) return each.shift();
    const job = newest[slot];
    newest[slot] = null;
    return job;
  }

  async function next() {
    const job = taken();
    if (!job) return;
    busy = true;
    try {
      job.resolve(await compute(job.request));
    } catch (error) {
      job.reject(error);
    }
    busy = false;
    next();
  }

  function close(error) {
    failed = error;
    for (const job of [newest.now, newest.idle, ...each.splice(0)]) job?.reject(error);
    newest.now = newest.idle = null;
  }

  function ask(request, how = "now") {
    return new Promise((resolve, reject) => {
      if (failed) return reject(failed);
      const job = { request, resolve, reject };
      if (how === "each") each.push(job);
      else {
        newest[how]?.reject(new Dropped("a newer request has overtaken this one"));
        newest[how] = job;
      }
      if (!busy) next();
    });
  }

  ready.then(() => {
    busy = false;
    next();
  }, close);
  return { ask, close };
}
