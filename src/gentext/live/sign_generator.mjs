// The sign generator (chapter 11): sixteen signs form from noise; below, a damaged sign is restored.
// `sign_generator.py` says what is in the state; the walks are in sign_walks.mjs and diffusion_math.mjs.

import { createFigure, format, node, unpackImages } from "./common.mjs";
import { button, choice, colour, select, signView, slider } from "./controls.mjs";
import { SAMPLERS, toInk, toNetwork } from "./diffusion_math.mjs";
import { levelChart } from "./sign_levels.mjs";
import { createRestoration } from "./sign_restoration.mjs";
import { createJobs, createWalker, plan, questions } from "./sign_walks.mjs";

const ACROSS = 4; // signs in a row
const ZOOM = 4; // canvas pixels for one of a sign
const GAP = 10;
const REST = 400; // milliseconds after the last touch of a control, until one sign is drawn with the new settings

export default { render };

async function render({ model, el, signal }) {
  const state = model.get("state");
  const figure = createFigure({ model, el, signal, name: "sign-generator" });
  const [images, opening] = await Promise.all([unpackImages(state.signs.images), unpackImages(state.initial.pictures)]);
  const { classes, initial, size } = state;
  const pixels = size * size;
  const count = opening.length;
  const names = Object.fromEntries(state.samplers);
  const jobs = createJobs(figure);
  const walker = createWalker({ figure, state });
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;

  // What the controls say. label: a class, or null for none.
  const now = { label: initial.label, weight: initial.guidance, sampler: initial.sampler, steps: initial.steps, seed: initial.seed };
  const setting = () => ({ ...now, weight: now.label === null ? 1 : now.weight });
  const key = () => JSON.stringify(setting());

  // What is shown: the sixteen at step `film` of the walk they were made by, and one of them large.
  const ready = Float32Array.from(opening.flatMap((picture) => Array.from(picture, (ink) => 2 * ink - 1)));
  const shown = {
    history: [{ index: initial.steps, sigma: 0, x: ready, x0: ready }],
    made: setting(), // with what
    key: key(),
    film: 0,
    chosen: 0,
    large: null, // { sigma, x, x0 } of one sign
    running: false,
  };
  const isFresh = () => shown.key === key();
  const script = (label) => (label === null || !classes.length ? "any script" : classes[label]);

  // ---- pictures -----------------------------------------------------------------------------------------------------------

  const guess = signView({ size, role: "guess", caption: "guess of x₀", large: true });
  const noisy = signView({ size, role: "noisy", caption: "x" });
  const chart = levelChart({ classes: classes.length > 0 });
  const summary = node("p", { class: "gl-summary", "data-role": "plan", "data-drawn": true });
  const cell = size * ZOOM + GAP;
  const sheet = node("canvas", {
    width: ACROSS * cell + GAP, height: Math.ceil(count / ACROSS) * cell + GAP, class: "gl-sheet", tabindex: 0, role: "application", "data-role": "sixteen",
  });
  const caption = node("p", { class: "gl-value", "data-role": "caption", "data-drawn": true });
  const stamp = document.createElement("canvas"); // one sign, before it is enlarged
  stamp.width = stamp.height = size;

  // Noisy states are shown as chapter 10's x_t, whose size does not grow with the noise.
  const inkOf = ({ sigma, x, x0 }, wanted) => toInk(wanted === "guess" && x0 ? x0 : toNetwork(x, sigma));

  function drawSheet() {
    const context = sheet.getContext("2d");
    const ink = inkOf(shown.history[shown.film], view.value);
    const [red, green, blue] = colour(sheet, "--gl-ink");
    context.clearRect(0, 0, sheet.width, sheet.height);
    context.imageSmoothingEnabled = false;
    for (let sign = 0; sign < count; sign++) {
      const [left, top] = [GAP + (sign % ACROSS) * cell, GAP + Math.floor(sign / ACROSS) * cell];
      const image = new ImageData(size, size);
      for (let i = 0; i < pixels; i++) image.data.set([red, green, blue, 255 * ink[sign * pixels + i]], 4 * i);
      stamp.getContext("2d").putImageData(image, 0, 0);
      context.fillStyle = `rgb(${colour(sheet, "--gl-paper")})`;
      context.fillRect(left, top, size * ZOOM, size * ZOOM);
      context.globalAlpha = isFresh() ? 1 : 0.3; // made with other settings
      context.drawImage(stamp, left, top, size * ZOOM, size * ZOOM);
      context.globalAlpha = 1;
      if (sign !== shown.chosen) continue;
      context.strokeStyle = `rgb(${colour(sheet, "--gl-accent")})`;
      context.lineWidth = 4;
      context.strokeRect(left - 4, top - 4, size * ZOOM + 8, size * ZOOM + 8);
    }
    sheet.setAttribute("aria-label", `${count} signs, ${caption.textContent} Sign ${shown.chosen + 1} is chosen; arrow keys choose another.`);
  }
  function showSheet() {
    const { index, sigma, x0 } = shown.history[shown.film];
    const { made } = shown;
    const what = x0 ? (view.value === "guess" ? "the guess of x₀" : "x") : "noise, no guess yet";
    caption.textContent = `${script(made.label)}, ${names[made.sampler]}: ${what}, step ${index} of ${made.steps}, σ\u00a0=\u00a0${sigmaText(sigma)}.` +
      (isFresh() ? "" : " Made with other settings.");
    drawSheet();
  }
  function showLarge() {
    const { sigma, x0 } = shown.large;
    const about = `Sign ${shown.chosen + 1}, ${script(now.label)}`;
    guess.show(x0 ? inkOf(shown.large, "guess") : new Float32Array(pixels), `${about}: guess of the picture at noise σ\u00a0=\u00a0${sigmaText(sigma)}`);
    noisy.show(inkOf(shown.large, "x"), `${about}: where the walk is, at noise σ\u00a0=\u00a0${sigmaText(sigma)}`);
    noisy.caption.textContent = `x at σ\u00a0=\u00a0${sigmaText(sigma)}`;
    showChart();
  }
  function showChart() {
    const rows = classes.length ? questions(now.label, setting().weight) : ["untold"];
    const { sigmas } = plan({ figure, state, ...now, record: false });
    chart.show({ sigmas, twice: now.sampler === "heun", rows, reached: shown.large.sigma });
  }
  // The chosen sign large, as the sixteen have it.
  function enlarge() {
    const { index, sigma, x, x0 } = shown.history[shown.film];
    const part = (values) => values?.subarray(shown.chosen * pixels, (shown.chosen + 1) * pixels) ?? null;
    shown.large = { index, sigma, x: part(x), x0: part(x0) };
    showLarge();
  }

  function showPlan(record = true) {
    const { calls } = plan({ figure, state, ...now, record });
    const asked = questions(now.label, setting().weight);
    const weight = format(now.weight);
    const how = !classes.length ? ""
      : now.label === null ? " It is not told the script."
        : { 0: ` With w = 0 the script is not told.`, 1: ` With w = 1 the answer that knows the script is taken as it is.` }[now.weight] ??
          ` Each is made twice, told the script and not told, and the answers are mixed with w\u00a0=\u00a0${weight}.`;
    const total = count * calls * asked.length;
    const pace = walker.pace();
    summary.textContent = `${names[now.sampler].replace(/^./, (first) => first.toUpperCase())} in ${now.steps} steps: ${calls} calls of the network a sign.${how} ` +
      `For ${count} signs: ${total.toLocaleString("en")} questions${pace ? `, about ${seconds(total * pace)} here` : ""}.`;
  }

  // ---- one sign after every change, sixteen when asked --------------------------------------------------------------------

  const stream = (sign) => state.streams * now.seed + sign;
  let timer = null;
  figure.signal.addEventListener("abort", () => clearTimeout(timer));
  function change() {
    clearTimeout(timer);
    jobs.stop();
    showPlan();
    weight.input.disabled = now.label === null;
    showSheet();
    if (isFresh()) enlarge();
    else {
      showChart();
      timer = setTimeout(drawOne, REST);
    }
  }
  const drawOne = () =>
    jobs.run(async (alive) => {
      await walker.sample([stream(shown.chosen)], setting(), {
        alive,
        onStep(step) {
          if (calm && step.sigma > 0 && step.index % 5 !== 0) return;
          shown.large = step;
          showLarge();
        },
      });
      if (!alive()) return;
      showPlan(false); // by now the pace is known
      figure.say(`One sign drawn: ${script(now.label)}, w = ${format(now.weight)}, ${names[now.sampler]} in ${now.steps} steps.`);
    }, () => {});

  const generate = () =>
    jobs.run(async (alive) => {
      clearTimeout(timer);
      const total = count * plan({ figure, state, ...now, record: false }).calls * questions(now.label, setting().weight).length;
      Object.assign(shown, { history: [], made: setting(), key: key(), running: true });
      let asked = 0;
      showRunning();
      await walker.sample(Array.from({ length: count }, (_, sign) => stream(sign)), setting(), {
        alive,
        onStep(step) {
          shown.history.push(step);
          film.set((shown.film = shown.history.length - 1));
          if (calm && step.sigma > 0 && step.index % 5 !== 0) return;
          showSheet();
          enlarge();
        },
        onCall(some) {
          asked += some;
          progress.max = total;
          progress.value = asked;
          const pace = walker.pace();
          counted.textContent = `${asked.toLocaleString("en")} of ${total.toLocaleString("en")} questions to the network` +
            `${pace ? `, ${pace.toFixed(pace < 9.95 ? 1 : 0)} ms each` : ""}`;
        },
      });
      if (alive()) figure.say(`${count} signs are drawn: ${script(now.label)}.`);
    }, () => {
      shown.running = false;
      showRunning();
      showPlan(false);
    });

  function showRunning() {
    play.textContent = shown.running ? "Stop" : `Generate ${count} signs`;
    if (shown.running) {
      progress.hidden = false;
      progress.removeAttribute("value"); // until the first answer nobody knows how far it is
      counted.textContent = "";
      film.input.max = now.steps;
      film.input.disabled = true;
    } else {
      const last = shown.history.length - 1;
      film.input.max = Math.max(1, last);
      film.set(shown.film);
      if (last < 1) film.input.value = 1; // at the end, where its only state is
      film.input.disabled = last < 1;
      if (!progress.hasAttribute("value")) progress.value = 0;
      showSheet();
      if (isFresh()) enlarge();
    }
    for (const input of view.element.querySelectorAll("input")) input.disabled = !shown.running && shown.history.length < 2;
  }

  // ---- controls -----------------------------------------------------------------------------------------------------------

  const set = (name) => (value) => {
    now[name] = value;
    change();
  };
  const scripts = classes.map((name, label) => [label, name]).sort((a, b) => a[1].localeCompare(b[1]));
  const which = select({
    label: "Script", options: [...scripts, [-1, "not told"]], value: now.label, role: "script",
    onChange: (label) => set("label")(label < 0 ? null : label),
  });
  const weight = slider({
    label: "Guidance w", min: 0, max: 6, step: 0.25, value: now.weight, role: "guidance", className: "gl-wide", marks: 6,
    ticks: ["0", "1", "2", "3", "4", "5", "6"], describe: (value) => format(value), onInput: set("weight"),
  });
  const steps = slider({
    label: "Steps", min: 5, max: 50, step: 1, value: now.steps, role: "steps", className: "gl-wide", marks: 9,
    describe: String, onInput: set("steps"),
  });
  const seed = slider({
    label: "Noise", min: 1, max: 50, step: 1, value: now.seed, role: "seed", className: "gl-wide",
    describe: (value) => `no. ${value}`, onInput: set("seed"),
  });
  const sampler = choice({ label: "Sampler", options: SAMPLERS.map((name) => [name, names[name]]), value: now.sampler, role: "sampler", onChange: set("sampler") });

  const play = button(`Generate ${count} signs`, () => (shown.running ? jobs.stop() : generate()), { "data-role": "play" });
  const progress = node("progress", { "aria-label": "Progress of the sixteen signs", "data-role": "progress", hidden: true });
  const counted = node("p", { class: "gl-value", "data-role": "counted" });
  const film = slider({
    label: "Step", min: 0, max: 1, step: 1, value: 0, role: "film", className: "gl-wide",
    describe: (place) => `${shown.history[place]?.index ?? 0} of ${shown.made.steps}`,
    onInput: (place) => {
      shown.film = place;
      showSheet();
      if (isFresh()) enlarge();
    },
  });
  const view = choice({
    label: "Show", options: [["guess", "the guess of x₀"], ["x", "x itself"]], value: "guess", role: "view",
    onChange: () => showSheet(),
  });

  // Choose a sign of the sixteen, by a touch or with the arrow keys.
  function pick(sign) {
    if (sign === shown.chosen) return;
    shown.chosen = sign;
    drawSheet();
    if (isFresh()) enlarge();
    else change();
  }
  function pickAt(event) {
    const box = sheet.getBoundingClientRect();
    const place = (share) => Math.min(ACROSS - 1, Math.max(0, Math.floor(ACROSS * share)));
    pick(ACROSS * place((event.clientY - box.top) / box.height) + place((event.clientX - box.left) / box.width));
  }
  sheet.addEventListener("pointerdown", (event) => event.button === 0 && pickAt(event));
  sheet.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -ACROSS, ArrowDown: ACROSS }[event.key];
    if (!move) return;
    event.preventDefault();
    pick((shown.chosen + move + count) % count);
  });

  const restoration = createRestoration({ figure, state, images, jobs, walker, calm });

  // ---- layout -------------------------------------------------------------------------------------------------------------

  figure.build(
    node(
      "div",
      { class: "gl-explorer" },
      node("div", { class: "gl-stage" }, guess.element, noisy.element),
      node(
        "div",
        { class: "gl-code", role: "group", "aria-label": "What is asked for, and how" },
        classes.length ? which.element : null,
        classes.length ? weight.element : null,
        steps.element,
        seed.element,
        sampler.element,
        chart.element,
        summary,
      ),
    ),
    node(
      "div",
      { class: "gl-sixteen" },
      node("div", { class: "gl-beside" }, node("div", { class: "gl-buttons" }, play), progress, counted),
      sheet,
      node("div", { class: "gl-beside" }, film.element, view.element, caption),
    ),
    restoration.element,
  );
  function redraw() {
    for (const picture of [guess, noisy, restoration]) picture.redraw();
    drawSheet();
  }
  figure.onTheme(redraw);
  showPlan(false);
  showRunning();
  restoration.show();
  return figure.close;
}

function sigmaText(sigma) {
  return sigma === 0 ? "0" : format(sigma, sigma < 0.1 ? 3 : sigma < 1 ? 2 : 1);
}

function seconds(milliseconds) {
  return milliseconds < 9500 ? `${(milliseconds / 1000).toFixed(1)} s` : `${Math.round(milliseconds / 1000)} s`;
}
