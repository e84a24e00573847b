// The density playground (chapter 1): dots to move, three models, their density and fresh samples at once.
// `density_playground.py` says what is in the state and computes the same with gentext.density.

import { createFigure, decodeArray, format, node, uniqueId } from "./common.mjs";
import { button, checkbox, choice, select, slider } from "./controls.mjs";
import { FEWEST, pointPlane, samplePlane } from "./density_canvas.mjs";
import { densityChart } from "./density_chart.mjs";
import {
  climb, densityGrid, emStep, histogram, kernelDensity, kernelGrid, mixture, nearestDistance, normalPair, randomNumbers, score, start,
} from "./density_models.mjs";

const GRID = 64; // places along a side at which a smooth density is drawn
const PACE = 220; // milliseconds between two EM steps that are shown
const REST = 350; // milliseconds after the last change, before all settings are compared

export default { render };

const pairs = (values) => Array.from({ length: values.length / 2 }, (_, i) => [values[2 * i], values[2 * i + 1]]);
const flat = (list) => ({ shape: [list.length, 2], values: Float64Array.from(list.flat()) });
const vector = (...values) => ({ shape: [values.length], values: Float64Array.from(values) });
const rounded = ({ weights, means, covs }) => ({
  weights: weights.map(Math.fround),
  means: means.map((mean) => mean.map(Math.fround)),
  covs: covs.map((cov) => cov.map(Math.fround)),
});

async function render({ model, el, signal }) {
  const state = model.get("state");
  const figure = createFigure({ model, el, signal, name: "density-playground" });
  const box = { low: state.low.map(Math.fround), side: Math.fround(state.side) };
  const presets = state.presets.map((preset) => ({
    ...preset,
    points: pairs(decodeArray(preset.points).values),
    heldOut: pairs(decodeArray(preset.held_out).values),
  }));
  // What the slider steps through, from simple to complex.
  const scales = {
    histogram: { label: "Cells", values: state.bins, describe: (value) => `${value} × ${value} cells` },
    kernel: { label: "Bandwidth", values: state.bandwidths.map(Math.fround), describe: (value) => `${format(value, state.digits)} wide` },
    mixture: { label: "Components", values: state.components, describe: (value) => (value === 1 ? "1 component" : `${value} components`) },
  };
  const floors = state.spread_floors.map((spread) => Math.fround(spread ** 2));
  const now = {
    preset: presets[0], kind: state.initial.kind, at: { ...state.initial.at }, covariance: 0, floor: state.initial.floor,
    seed: 1, draw: 1, edited: false, alive: false, em: null,
  };
  const value = () => scales[now.kind].values[now.at[now.kind]];

  // ---- a model, and all that is asked of it -----------------------------------------------------------------------------

  // A fresh start for EM, and the climb from it.
  const fresh = (points, count) =>
    rounded(start(points, count, now.covariance, floors[now.floor], randomNumbers(now.seed)));
  function climbFrom(parameters) {
    const reached = climb(plane.points, parameters, now.covariance, floors[now.floor]);
    now.em = { from: parameters, ...reached, done: reached.converged };
  }
  const build = {
    histogram: (points, bins) => histogram(points, bins, box),
    kernel: (points, bandwidth) => kernelDensity(points, bandwidth),
    mixture: () => mixture(now.em.parameters),
  };

  function compute() {
    const started = performance.now();
    const { points } = plane;
    const { heldOut } = now.preset;
    const setting = value();
    const fitted = build[now.kind](points, setting);
    const count = now.kind === "histogram" ? setting : GRID;
    const density = now.kind === "kernel" ? kernelGrid(points, setting, GRID, box) : densityGrid(fitted, count, box);
    const [train, unseen] = [score(fitted, points), score(fitted, heldOut)];
    const random = randomNumbers(1000 + now.draw);
    const noise = points.map(() => {
      const u = random();
      return [u, now.kind === "histogram" ? [random(), random()] : normalPair(random)];
    });
    const samples = noise.map(([u, pair]) => fitted.push(u, pair));
    const distances = [nearestDistance(samples, points), nearestDistance(heldOut, points)];
    show({ density, count, train, unseen, samples, distances });
    if (!now.alive) return;

    const inputs = {
      points: flat(points), held_out: flat(heldOut), low: vector(...box.low), side: vector(box.side), count: vector(count),
      u: vector(...noise.map(([u]) => u)), noise: flat(noise.map(([, pair]) => pair)),
    };
    const outputs = {
      density: { shape: [count, count], values: density }, train: vector(train.mean), held_out: vector(unseen.mean, unseen.error),
      samples: flat(samples), distances: vector(...distances),
    };
    if (now.kind !== "mixture") inputs[now.kind === "kernel" ? "bandwidth" : "bins"] = vector(setting);
    else {
      const square = (covs) => ({ shape: [covs.length, 2, 2], values: Float64Array.from(covs.flatMap(([xx, xy, yy]) => [xx, xy, xy, yy])) });
      const packed = ({ weights, means, covs }) => ({ weights: vector(...weights), means: flat(means), covs: square(covs) });
      Object.assign(inputs, packed(now.em.from), {
        steps: vector(now.em.steps), covariance: vector(now.covariance), var_floor: vector(floors[now.floor]),
      });
      Object.assign(outputs, packed(now.em.parameters));
    }
    figure.computed(now.kind, inputs, outputs, started);
  }

  // Something has changed. `em` says what becomes of a mixture: a new start, or a climb from where it stands.
  function refit(em = "climb") {
    stop();
    if (now.kind === "mixture") {
      const right = now.em?.parameters.weights.length === value();
      climbFrom(em === "climb" && right ? rounded(now.em.parameters) : fresh(plane.points, value()));
    }
    compute();
    surveySoon();
  }
  const touch = (em) => {
    now.alive = true;
    refit(em);
  };

  // ---- what is shown ------------------------------------------------------------------------------------------------------

  const help = uniqueId("help");
  const plane = pointPlane({
    box, role: "dots", signal: figure.signal, help, most: state.most,
    onChange: () => {
      now.edited = true;
      touch("climb");
    },
  });
  const fan = samplePlane({ box, role: "samples", signal: figure.signal });
  const chart = densityChart({ role: "scores" });
  const numbers = Object.fromEntries(["train", "held-out", "nearest", "verdict", "em"].map((role) =>
    [role, node("output", { "data-role": role, "data-drawn": true })]));

  function show({ density, count, train, unseen, samples, distances }) {
    const isMixture = now.kind === "mixture";
    plane.setView({
      grid: { values: density, count, smooth: now.kind !== "histogram" },
      full: state.full,
      ellipses: isMixture ? now.em.parameters : null,
      radius: now.kind === "kernel" ? value() : isMixture ? Math.sqrt(floors[now.floor]) : 0,
      heldOut: peek.input.checked ? now.preset.heldOut : null,
    });
    numbers.train.textContent = format(train.mean);
    numbers["held-out"].textContent = `${format(unseen.mean)} ± ${format(unseen.error)}`;
    numbers.nearest.textContent = `${format(distances[0], state.digits)} and ${format(distances[1], state.digits)}`;
    const ratio = distances[0] / distances[1];
    numbers.verdict.textContent =
      ratio < 0.5 ? "Samples cling to the training dots: the model remembers them."
        : ratio > 1.5 ? "Samples stray farther from the dots than unseen dots do: the model is too smooth."
          : "Samples lie about as far from the training dots as unseen dots do.";
    const steps = now.em?.steps ?? 0;
    numbers.em.textContent = !isMixture ? "" : now.em.done ? `EM has settled after ${steps} steps.` : `EM step ${steps}.`;
    fan.show(samples, `${samples.length} fresh samples of the model. ${numbers.verdict.textContent}`);
    caption.textContent = `dots, over the density of the model${
      now.kind === "kernel" ? "; the dashed ring is as wide as one hill" : isMixture ? "; no ellipse may be thinner than the dashed ring" : ""}`;
    again.disabled = !now.edited;
    removal.disabled = plane.points.length <= FEWEST;
    addition.disabled = plane.points.length >= state.most;
    step.disabled = run.disabled = !isMixture || now.em.done;
    for (const part of [steps_, shapes.element, floor.element]) part.hidden = !isMixture;
    figure.say(`${scales[now.kind].describe(value())}: held-out log-likelihood ${numbers["held-out"].textContent} nats a dot, training ${numbers.train.textContent}. ${numbers.verdict.textContent}`);
    scores.train[now.at[now.kind]] = train.mean;
    scores.heldOut[now.at[now.kind]] = unseen.mean;
    drawChart();
  }

  // The scores of all settings of this model on these dots, worked out bit by bit while the reader rests.
  const scores = { key: null, train: [], heldOut: [] };
  let rest;
  figure.signal.addEventListener("abort", () => clearTimeout(rest));
  function drawChart() {
    const { values, describe } = scales[now.kind];
    chart.show({
      count: values.length, train: scores.train, heldOut: scores.heldOut, current: now.at[now.kind],
      best: now.preset.best ?? null, describe: (index) => describe(values[index]),
    });
  }
  function surveySoon() {
    clearTimeout(rest);
    survey.last = null; // one that is under way has become idle talk
    rest = setTimeout(survey, REST);
  }
  async function survey() {
    const key = [plane.points, now.kind, now.covariance, now.floor, now.seed, now.preset];
    if (scores.key?.every((part, index) => part === key[index])) return;
    const { points } = plane;
    const { kind, covariance } = now;
    const { heldOut } = now.preset;
    const found = { train: [], heldOut: [] };
    const mine = (survey.last = {});
    for (const [index, setting] of scales[kind].values.entries()) {
      await new Promise((resume) => setTimeout(resume));
      if (mine !== survey.last || figure.signal.aborted) return;
      const fitted = kind !== "mixture" ? build[kind](points, setting)
        : mixture(climb(points, fresh(points, setting), covariance, floors[key[3]], { tolerance: 1e-3, most: 60 }).parameters);
      found.train[index] = score(fitted, points).mean;
      found.heldOut[index] = score(fitted, heldOut).mean;
    }
    if (plane.points !== points || now.kind !== kind || now.preset !== key[5]) return; // things have moved on
    Object.assign(scores, found, { key });
    drawChart();
  }
  const forget = () => Object.assign(scores, { key: null, train: [], heldOut: [] });

  // ---- EM, one step at a time -----------------------------------------------------------------------------------------------

  let timer = null;
  figure.signal.addEventListener("abort", () => clearInterval(timer));
  function stop() {
    clearInterval(timer);
    timer = null;
    run.textContent = "Run";
  }
  function oneStep() {
    const before = now.em;
    const { parameters, score: old } = emStep(plane.points, before.parameters, now.covariance, floors[now.floor]);
    const gain = score(mixture(parameters), plane.points).mean - old;
    now.em = { from: before.from, parameters, steps: before.steps + 1, done: gain < 1e-5 };
    compute();
    if (now.em.done) stop();
  }
  const begin = button("New start", () => {
    stop();
    now.alive = true;
    now.seed += 1;
    const from = fresh(plane.points, value());
    now.em = { from, parameters: from, steps: 0, done: false };
    compute();
  }, { "data-role": "em-start" });
  const step = button("One step", () => {
    stop();
    now.alive = true;
    oneStep();
  }, { "data-role": "em-step" });
  const run = button("Run", () => {
    now.alive = true;
    if (timer) return stop();
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      while (!now.em.done && now.em.steps < 400) oneStep();
      return;
    }
    run.textContent = "Pause";
    timer = setInterval(oneStep, PACE);
    oneStep();
  }, { "data-role": "em-run" });

  // ---- controls -------------------------------------------------------------------------------------------------------------

  const complexity = slider({
    label: scales[now.kind].label, min: 0, max: scales[now.kind].values.length - 1, step: 1, value: now.at[now.kind], role: "complexity",
    className: "gl-wide", describe: (index) => scales[now.kind].describe(scales[now.kind].values[index]),
    onInput: (index) => {
      now.at[now.kind] = index;
      touch("start");
    },
  });
  function setKind(kind) {
    now.kind = kind;
    const scale = scales[kind];
    complexity.element.firstChild.textContent = scale.label;
    complexity.input.max = scale.values.length - 1;
    complexity.set(now.at[kind]);
    forget();
    touch("start");
  }
  const kinds = choice({
    label: "Model", options: [["histogram", "histogram"], ["kernel", "kernels"], ["mixture", "mixture"]], value: now.kind, role: "kind",
    onChange: setKind,
  });
  function restore() {
    now.edited = false;
    plane.setPoints(now.preset.points.slice(0, amount.value));
    forget();
    touch("start");
  }
  const amount = slider({
    label: "Dots", min: state.fewest, max: presets[0].points.length, step: 1, value: state.initial.count, role: "count", className: "gl-wide",
    describe: (count) => `${count} dots`, onInput: restore,
  });
  const data = select({
    label: "Dots from", options: presets.map(({ name }, index) => [index, name]), value: 0, role: "preset",
    onChange: (index) => {
      now.preset = presets[index];
      restore();
    },
  });
  const shapes = select({
    label: "Components are", options: [[0, "tilted ellipses (full)"], [1, "upright ellipses (diagonal)"], [2, "circles (spherical)"]], value: 0,
    role: "covariance",
    onChange: (covariance) => {
      now.covariance = covariance;
      forget();
      touch("start");
    },
  });
  const floor = slider({
    label: "Least spread", min: 0, max: floors.length - 1, step: 1, value: now.floor, role: "floor", className: "gl-wide",
    describe: (index) => format(Math.sqrt(floors[index]), state.digits + 1),
    onInput: (index) => {
      now.floor = index;
      forget();
      touch("start");
    },
  });
  const peek = checkbox({ label: "show the held-out dots", role: "peek", onChange: () => touch("climb") });
  const sampling = button("New samples", () => {
    now.draw += 1;
    now.alive = true;
    compute();
  }, { "data-role": "draw" });
  const next = button("Next dot", () => plane.next(), { "data-role": "next" });
  const addition = button("Add a dot", () => plane.add(), { "data-role": "add" });
  const removal = button("Remove a dot", () => plane.remove(), { "data-role": "remove" });
  const again = button("Put back", restore, { "data-role": "restore", disabled: true });
  const steps_ = node("div", { class: "gl-buttons", role: "group", "aria-label": "Expectation-maximisation" }, begin, step, run, numbers.em);

  const caption = node("figcaption", {});
  const picture = (name, canvas, words, ...buttons) =>
    node("figure", { class: "gl-plate" }, canvas, words, node("div", { class: "gl-buttons", role: "group", "aria-label": name }, ...buttons));
  const line = (words, ...outputs) => node("p", { class: "gl-value" }, `${words} `, ...outputs);
  figure.build(
    node("div", { class: "gl-bar" }, presets.length > 1 ? data.element : null, kinds.element, shapes.element),
    complexity.element,
    floor.element,
    steps_,
    amount.element,
    node("div", { class: "gl-plates" },
      picture("Dots", plane.element, caption, addition, removal, next, again),
      picture("Samples", fan.element, node("figcaption", {}, "as many fresh samples of the model"), sampling)),
    node("p", { class: "gl-help", id: help }, "Drag dots; press on free ground to add one, drag one off the edge to remove it. By keyboard: arrows move the cursor (Shift: faster), ",
      node("kbd", {}, "Space"), " takes a dot and puts it down, or makes one; ", node("kbd", {}, "Delete"), " removes it."),
    node("div", { class: "gl-plates" },
      chart.element,
      node("div", {},
        line("training dots:", numbers.train, " nats a dot"),
        line(`held-out dots (${now.preset.heldOut.length}):`, numbers["held-out"], " nats a dot"),
        line("median distance to the nearest training dot, of samples and of held-out dots:", numbers.nearest),
        node("p", { class: "gl-value" }, numbers.verdict),
        peek.element)),
  );
  figure.onTheme(() => [plane, fan].forEach((part) => part.redraw()));
  plane.setPoints(now.preset.points.slice(0, state.initial.count));
  refit("start");
  return figure.close;
}
