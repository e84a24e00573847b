// The browser host: makes the stored pictures of live figures come alive on a published page, with no kernel.
//
// A notebook stores `<div class="gentext-live" data-figure="latent_explorer">` with a poster in it. Near the screen the
// figure's own module and state are fetched and take the poster's place; at the first touch come the runtime and the
// networks. Beside this file lie, written by `gentext export`: the figures' modules, and for each figure a folder with
// its `state.json` and `.onnx` files. Plotly plots are handled by plot.mjs in the same spirit.

import { openNetworks } from "./runtime.mjs";

const HERE = new URL("./", import.meta.url);
const NEAR = "600px"; // start when this far from the screen, so that the figure is there when the reader is

// What anywidget gives a front end in a notebook, answered in the page: the same messages (see protocol.py), but arrays
// need not travel as text.
class BrowserModel {
  takesArrays = true;
  constructor(state, base) {
    this.state = state;
    this.listeners = new Set();
    this.run = openNetworks(base, state.networks, (text) => this.emit({ kind: "progress", text }));
  }
  get(name) {
    return name === "state" ? this.state : undefined;
  }
  set() {}
  save_changes() {}
  on(event, listener) {
    if (event === "msg:custom") this.listeners.add(listener);
  }
  off(event, listener) {
    this.listeners.delete(listener);
  }
  emit(message) {
    for (const listener of this.listeners) listener(message, []);
  }
  async send({ id, network, inputs }) {
    try {
      this.emit({ kind: "result", id, outputs: await this.run(network, inputs) });
    } catch (error) {
      this.emit({ kind: "error", id, message: error.message ?? String(error) });
    }
  }
}

async function start(element) {
  const name = element.dataset.figure;
  const note = element.querySelector(".gentext-live-note");
  try {
    const base = new URL(`${name}/`, HERE);
    const [module, response] = await Promise.all([import(new URL(`${name}.mjs`, HERE).href), fetch(new URL("state.json", base))]);
    if (!response.ok) throw new Error(`state.json answered ${response.status}`);
    const model = new BrowserModel(await response.json(), base);
    const mount = document.createElement("div");
    element.append(mount);
    await module.default.render({ model, el: mount, signal: new AbortController().signal });
    element.querySelector(".gentext-poster")?.remove();
    note?.remove();
  } catch (error) {
    element.dataset.state = "error";
    if (note) note.textContent = `This figure could not start, so you see its picture. ${error.message ?? error}`;
  }
}

function addStyle() {
  for (const name of ["live.css", "live_models.css"]) {
    const link = document.createElement("link");
    Object.assign(link, { rel: "stylesheet", href: new URL(name, HERE).href });
    document.head.append(link);
  }
}

function main() {
  const figures = document.querySelectorAll('.gentext-live[data-model="published"]');
  const plots = document.querySelectorAll(".gentext-plotly");
  if (figures.length + plots.length === 0) return;
  addStyle();
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        observer.unobserve(target);
        start(target);
      }
    },
    { rootMargin: NEAR },
  );
  figures.forEach((figure) => observer.observe(figure));
  if (plots.length) import(new URL("plot.mjs", HERE).href).then(({ preparePlots }) => preparePlots(plots));
}

main();
