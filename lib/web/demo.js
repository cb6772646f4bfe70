// The page demo.html: the panel, with the model in this browser.
import { engine } from "./engine.js";
import { panel } from "./panel.js";

const folder = new URL(".", document.currentScript.src).href;
const place = document.getElementById("demo");
const title = document.title;
const missing = Object.assign(document.createElement("p"), { role: "alert" });

/** The latent that the address names; null if it names none, and a word about it if there is no such latent. */
function asked() {
  const number = /^#\d+$/.test(location.hash) ? Number(location.hash.slice(1)) : null;
  const there = number === null || window.demoAbout.latents.some(({ latent }) => latent === number);
  missing.textContent = there ? "" : `There is no latent ${number}: choose 0 to ${window.demoAbout.latents.length - 1}.`;
  return there ? number : null;
}

function start() {
  place.replaceChildren();
  place.before(missing);
  const model = engine(window.demoAbout, folder);
  const { show } = panel(place, model, {
    latent: asked(),
    explorer: (latent) => `explorer.html#${window.demoAbout.explorer}/${latent}`,
    controls: "notebooks/09_controls.html",
    onlatent(latent) {
      history.replaceState(null, "", `#${latent}`);
      document.title = `Latent ${latent} · ${title}`;
    },
  });
  addEventListener("hashchange", () => asked() !== null && show(asked()));
  // For tests: ask for any latent. No request to it is dropped.
  window.demo = { ready: model.ready, ask: (request) => model.ask(request, "each") };
}

if (window.demoAbout) start();
else place.textContent = `${folder}about.js could not be loaded. Check the connection, then reload the page.`;
