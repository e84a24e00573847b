// What every live figure shares: arrays as text, calls to networks, small DOM helpers.
//
// A figure gets a `model` in the sense of anywidget's front-end modules. In a notebook that is the widget, and Python
// answers; on a published page it is ours (host.mjs), and onnxruntime-web answers. Nothing here can tell which.

// ---- arrays ---------------------------------------------------------------------------------------------------------

const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

// An array message { shape, data: base64 float32 } as { shape, values: Float32Array }.
export function decodeArray({ shape, data }) {
  return { shape, values: new Float32Array(bytesOf(data).buffer) };
}

// The reverse. Little-endian, as every machine is that runs a browser today.
export function encodeArray({ shape, values }) {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  let text = "";
  for (let start = 0; start < bytes.length; start += 4096) {
    text += String.fromCharCode(...bytes.subarray(start, start + 4096)); // in parts: an argument list has a limit
  }
  return { shape, data: btoa(text) };
}

export const row = (values) => ({ shape: [1, values.length], values: Float32Array.from(values) });

// Images packed by `protocol.pack_images`, as an array of Float32Array with ink in [0, 1].
export async function unpackImages({ shape: [count, height, width], levels, deflate }) {
  const stream = new Blob([bytesOf(deflate)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const pixels = new Uint8Array(await new Response(stream).arrayBuffer());
  const area = height * width;
  return Array.from({ length: count }, (_, index) =>
    Float32Array.from(pixels.subarray(index * area, (index + 1) * area), (value) => value / levels),
  );
}

export function squaredError(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return sum;
}

// The index of the candidate nearest to `values` in squared distance. It names in words what a picture shows.
export function nearest(values, candidates) {
  let best = 0;
  let least = Infinity;
  candidates.forEach((candidate, index) => {
    const distance = squaredError(values, candidate);
    if (distance < least) [best, least] = [index, distance];
  });
  return best;
}

// ---- DOM ------------------------------------------------------------------------------------------------------------

// node("label", { for: id, class: "gl-label" }, "text", child): an element with attributes and children.
export function node(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

let lastId = 0;
export const uniqueId = (stem) => `gl-${stem}-${++lastId}`;

export const subscript = (number) => String(number).replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]);

// A number for a person: three significant digits, a real minus sign.
export function format(value, digits = 2) {
  const text = Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
}

// Call `redraw` whenever a canvas changes its size, until the figure is closed.
export function onResize(canvas, redraw, signal) {
  const observer = new ResizeObserver(redraw);
  observer.observe(canvas);
  signal.addEventListener("abort", () => observer.disconnect());
}

// ---- one call at a time ---------------------------------------------------------------------------------------------

// Wrap an asynchronous `work(...args)` so that requests made while it runs do not queue: only the last one counts.
// A drag sends dozens of values; the network sees as many as it can answer, and always the final one.
export function latest(work) {
  let running = false;
  let waiting = null;
  return async function request(...args) {
    waiting = args;
    if (running) return;
    running = true;
    try {
      while (waiting) {
        const next = waiting;
        waiting = null;
        await work(...next);
      }
    } finally {
      running = false;
    }
  };
}

// ---- the figure's frame ---------------------------------------------------------------------------------------------

// Where a figure stands: "poster", "ready", "loading", "live" or "error", readable from outside in `data-state`.
function setState(el, state) {
  for (const element of [el, el.closest(".gentext-live")]) if (element) element.dataset.state = state;
}

// The root element of a figure, with a line for progress and errors and a voice for screen readers, and `call`.
// It lives until anywidget's `signal` says stop or, where the front end is too old to have one, until `close` is called:
// `render` returns it.
export function createFigure({ model, el, signal: outer, name }) {
  const life = new AbortController();
  outer?.addEventListener("abort", () => life.abort());
  const { signal } = life;
  const status = node("p", { class: "gl-status", role: "status" });
  const voice = node("p", { class: "gl-hidden", "aria-live": "polite" });
  const root = node("div", { class: "gl", "data-figure": name });
  el.replaceChildren(root);
  setState(el, "ready");
  return {
    root,
    signal,
    close: () => life.abort(),
    call: caller({ model, el, signal, status }),
    // computed(name, inputs, outputs, started): tell the page what the figure has worked out by itself, in the form of a
    // network's answer. `started`, from performance.now(), is when the work began.
    computed(name, inputs, outputs, started = performance.now()) {
      status.textContent = "";
      status.classList.remove("gl-error");
      record({ el, network: name, inputs, outputs, started });
    },
    fail(error) {
      status.textContent = error.message ?? String(error);
      status.classList.add("gl-error");
      setState(el, "error");
    },
    say: speaker(voice, signal),
    // Redraw canvases when the page changes between light and dark: their colours come from the style sheet.
    onTheme(redraw) {
      const observer = new MutationObserver(redraw);
      for (const element of [document.documentElement, document.body]) {
        observer.observe(element, { attributes: true, attributeFilter: ["data-theme", "theme", "class", "data-jp-theme-light"] });
      }
      const query = matchMedia("(prefers-color-scheme: dark)");
      query.addEventListener("change", redraw, { signal });
      signal.addEventListener("abort", () => observer.disconnect());
    },
    build(...children) {
      root.replaceChildren(...children.filter(Boolean), status, voice);
    },
  };
}

// After every answer the figure's element fires the event "gentext-live", and `window.__gentextLive.last` holds the
// same: { element, network, inputs, outputs, milliseconds }. That is how tests compare the browser with PyTorch. Beside
// it stand the number of `calls` answered and of those `pending`, over all figures of the page.
const answers = () => (globalThis.__gentextLive ??= { calls: 0, pending: 0, last: null });

function record({ el, network, inputs, outputs, started }) {
  setState(el, "live");
  const detail = { element: el, network, inputs, outputs, milliseconds: performance.now() - started };
  const log = answers();
  log.calls += 1;
  log.last = detail;
  el.dispatchEvent(new CustomEvent("gentext-live", { bubbles: true, detail }));
}

// `call(network, { name: { shape, values } })` -> Promise of the outputs in the same form.
function caller({ model, el, signal, status }) {
  const waiting = new Map(); // id -> { resolve, reject }
  let lastCall = 0;
  const onMessage = (message) => {
    if (message.kind === "progress") {
      status.textContent = message.text;
      return;
    }
    const asked = waiting.get(message.id);
    if (!asked) return;
    waiting.delete(message.id);
    if (message.kind === "result") asked.resolve(message.outputs);
    else asked.reject(new Error(message.message));
  };
  model.on("msg:custom", onMessage);
  signal.addEventListener("abort", () => model.off("msg:custom", onMessage));

  return async function call(network, inputs) {
    const id = ++lastCall;
    const started = performance.now();
    const log = answers();
    log.pending += 1;
    if (el.dataset.state !== "live") setState(el, "loading");
    // A kernel that is running a cell answers afterwards. Say so instead of looking dead.
    const patience = setTimeout(() => {
      if (!status.textContent) status.textContent = "Waiting for an answer: the kernel may be busy with a cell.";
    }, 4000);
    try {
      const answer = new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
      const convert = (arrays, how) => Object.fromEntries(Object.entries(arrays).map(([name, array]) => [name, how(array)]));
      // A host in the page takes arrays as they are: a cache of keys and values as text would cost more than the network.
      model.send({ kind: "call", id, network, inputs: model.takesArrays ? inputs : convert(inputs, encodeArray) });
      const received = await answer;
      const outputs = model.takesArrays ? received : convert(received, decodeArray);
      status.textContent = "";
      status.classList.remove("gl-error");
      record({ el, network, inputs, outputs, started });
      return outputs;
    } finally {
      clearTimeout(patience);
      log.pending -= 1;
    }
  };
}

// Tell a screen reader what changed, once things have come to rest: a drag must not chatter.
function speaker(voice, signal) {
  let timer;
  signal.addEventListener("abort", () => clearTimeout(timer));
  return (text) => {
    clearTimeout(timer);
    timer = setTimeout(() => (voice.textContent = text), 700);
  };
}
