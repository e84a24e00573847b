// Signs from Gaussians (chapter 2): choose a script, slide along its directions, shrink its covariance, and see which
// script the same Gaussians take a sign for. Everything is computed here; `gaussian_signs.py` says what is in the state.

import { createFigure, format, node, unpackImages } from "./common.mjs";
import { button, choice, select, signPicker, signView, slider } from "./controls.mjs";
import { gaussians } from "./gaussian_math.mjs";
import { drawingPad } from "./pad.mjs";

const SHOWN = 6; // classes with a bar

export default { render };

async function render({ model, el, signal }) {
  const state = model.get("state");
  const figure = createFigure({ model, el, signal, name: "gaussian-signs" });
  const images = await unpackImages(state.signs.images);
  const { classes, counts, signs, side, sizes, range, initial } = state;
  const maths = gaussians(state);
  const largest = sizes.at(-1);

  const now = {
    script: initial.script,
    size: initial.size,
    shrinkage: Math.fround(initial.shrinkage),
    shared: false,
    noise: new Float32Array(largest), // ε of the generated sign; its first `size` numbers count
    judged: "generated", // or "sign", "drawing"
    sign: initial.sign,
    drawing: null, // ink values, or null where nothing is drawn
  };
  const setting = () => ({ script: now.script, size: now.size, shrinkage: now.shrinkage, shared: now.shared });
  const noise = () => now.noise.slice(0, now.size);

  // ---- the pictures ---------------------------------------------------------------------------------------------------

  const generated = signView({ size: side, role: "generated", caption: "generated", large: true });
  const seen = signView({ size: side, role: "seen", caption: "to classify" });
  const kept = signView({ size: side, role: "kept", caption: "what the numbers keep" });
  const bars = node("ol", { class: "gl-odds", "data-drawn": true });
  const verdict = node("p", { class: "gl-heading" }, "");
  const note = node("p", { class: "gl-summary", "data-role": "summary", "data-drawn": true });

  // ---- one slider for each direction, the widest first -----------------------------------------------------------------

  const sliders = Array.from({ length: Math.min(state.sliders, sizes[0]) }, (_, index) => {
    const share = node("span", { class: "gl-kl" });
    const control = slider({
      label: String(index + 1),
      min: -range,
      max: range,
      step: 0.05,
      value: 0,
      marks: 2 * range,
      role: "direction",
      describe: (value) => format(value),
      onInput: (value) => moveTo(index, value),
    });
    control.element.append(share);
    return { control, share };
  });

  // How far the noise reaches along direction `index`, in standard deviations.
  function along(index) {
    const vector = maths.spectrum(setting()).vectors[index];
    return vector.reduce((sum, value, i) => sum + value * now.noise[i], 0);
  }
  function moveTo(index, value) {
    const vector = maths.spectrum(setting()).vectors[index];
    const step = value - along(index);
    now.noise = now.noise.map((old, i) => (i < now.size ? old + step * vector[i] : old));
    update();
  }

  function showSliders() {
    const deviations = maths.deviations(setting());
    const total = deviations.reduce((sum, value) => sum + value * value, 0) || 1;
    sliders.forEach(({ control, share }, index) => {
      const value = along(index);
      const part = deviations[index] ** 2 / total;
      control.input.value = value; // the thumb stops at the end of the range, the number does not
      control.output.textContent = format(value);
      control.input.setAttribute("aria-label", `Direction ${index + 1}`);
      control.input.setAttribute("aria-valuetext", `${format(value)} standard deviations; ${percent(part)} of the variance`);
      share.textContent = percent(part);
      share.style.setProperty("--gl-part", Math.min(1, 2.5 * part).toFixed(3));
      control.input.disabled = deviations[index] === 0;
    });
  }

  // ---- generate, classify, show -----------------------------------------------------------------------------------------

  const one = (value) => ({ shape: [1], values: Float32Array.of(value) });
  const array = (values) => ({ shape: [values.length], values });

  // All of it in one go, told once: the page hears of a touch as of one answer.
  function update(tell = true) {
    const asked = performance.now();
    const image = maths.generate(noise(), setting());
    const outputs = { image: array(image) };
    const judged = { generated: image, sign: images[now.sign], drawing: now.drawing }[now.judged];
    const other = now.judged === "generated" ? null : judged; // a picture that did not come from here
    const kept = other ? maths.project(other, now.size) : null;
    if (kept) outputs.kept = array(kept);
    const flat = maths.flat(setting());
    const posterior = judged && flat === 0 ? maths.classify(judged, setting()) : null;
    if (posterior) outputs.posterior = array(posterior);
    if (tell) {
      const inputs = { noise: array(noise()), script: one(now.script), shrinkage: one(now.shrinkage) };
      Object.assign(inputs, { shared: one(now.shared ? 1 : 0), classify: one(posterior ? 1 : 0) });
      if (other) inputs.judged = array(other);
      figure.computed("signs", inputs, outputs, asked);
    }
    showGenerated(image);
    showSliders();
    showOther(other, kept);
    showPosterior(posterior, flat);
  }

  function showGenerated(image) {
    generated.show(image, `Generated sign of ${classes[now.script]}`);
    generated.caption.textContent = `${classes[now.script]}, from ${counts[now.script]} signs`;
  }

  const words = () => ({ generated: "the generated sign", sign: signs.words[now.sign], drawing: "your drawing" })[now.judged];

  function showOther(other, remains) {
    if (other) {
      seen.show(other, `To classify: ${words()}`);
      kept.show(remains, `What ${now.size} numbers keep of it`);
    } else {
      seen.clear("Nothing drawn yet");
      kept.clear("Nothing drawn yet");
    }
    kept.caption.textContent = `in ${now.size} numbers`;
    seen.caption.textContent = now.judged === "sign" ? signs.names[now.sign] : "your drawing, centred";
  }

  function showPosterior(posterior, flat) {
    const empty = now.judged === "drawing" && !now.drawing;
    verdict.textContent = empty
      ? "draw a sign to classify it"
      : `p(script | ${{ generated: "generated sign", sign: "test sign", drawing: "drawing" }[now.judged]})`;
    note.classList.toggle("gl-warning", flat > 0);
    note.textContent = flat
      ? `${flat} of ${classes.length} scripts have no density: with no more signs than numbers, a covariance is singular. ` +
        "Signs can still be drawn from it, but not judged. Shrink it a little."
      : now.shared
        ? "One covariance for all: the classifier is linear (LDA)."
        : "A covariance for each script: the classifier is quadratic (QDA).";
    if (!posterior) {
      bars.replaceChildren();
      figure.say(flat ? note.textContent : "Nothing to classify.");
      return;
    }
    const order = [...posterior.keys()].sort((a, b) => posterior[b] - posterior[a]).slice(0, SHOWN);
    const truth = { generated: now.script, sign: signs.labels[now.sign], drawing: -1 }[now.judged];
    bars.replaceChildren(
      ...order.map((k) => {
        const name = node("span", { class: k === truth ? "gl-true" : "" }, classes[k], k === truth ? " ✓" : "");
        const bar = node("i", { "aria-hidden": "true", style: `--gl-part: ${posterior[k].toFixed(4)}` });
        return node("li", {}, name, bar, node("span", {}, percent(posterior[k])));
      }),
    );
    figure.say(`For ${words()}, the most probable script is ${classes[order[0]]}, ${percent(posterior[order[0]])}.`);
  }

  // ---- controls -----------------------------------------------------------------------------------------------------------

  const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  const setNoise = (values) => {
    now.noise = values;
    update();
  };
  const script = select({
    label: "Script",
    options: classes.map((name, k) => [k, `${name} (${counts[k]})`]),
    value: now.script,
    role: "script",
    onChange: (k) => {
      now.script = k;
      update();
    },
  });
  const buttons = node(
    "div",
    { class: "gl-buttons" },
    button("Mean", () => setNoise(new Float32Array(largest)), { "data-role": "reset" }),
    button("Random", () => setNoise(Float32Array.from({ length: largest }, normal)), { "data-role": "random" }),
  );
  const shrinkage = slider({
    label: "Shrinkage λ",
    min: 0,
    max: 1,
    step: 0.01,
    value: now.shrinkage,
    role: "shrinkage",
    className: "gl-wide",
    marks: 10,
    ticks: ["0: as estimated", "1: round"],
    describe: (value) => format(value),
    onInput: (value) => {
      now.shrinkage = Math.fround(value);
      update();
    },
  });
  const size = choice({
    label: "Principal components",
    options: sizes.map((count) => [String(count), String(count)]),
    value: String(now.size),
    role: "size",
    onChange: (count) => {
      now.size = Number(count);
      update();
    },
  });
  const covariance = choice({
    label: "Covariance",
    options: [["own", "each script its own"], ["shared", "one for all"]],
    value: "own",
    role: "covariance",
    onChange: (key) => {
      now.shared = key === "shared";
      update();
    },
  });

  const picker = signPicker({
    signs,
    value: now.sign,
    role: "sign",
    onChange: (index) => {
      now.sign = index;
      update();
    },
  });
  const pad = drawingPad({
    size: side,
    role: "pad",
    onChange: (values, empty) => {
      now.drawing = empty ? null : values;
      if (now.judged === "drawing") update();
    },
  });
  const panels = { sign: node("div", { class: "gl-panel" }, picker.element), drawing: node("div", { class: "gl-panel" }, pad.element) };
  const pair = node("div", { class: "gl-pair" }, seen.element, kept.element);
  const judge = choice({
    label: "Classify",
    options: [["generated", "the generated sign"], ["sign", "a test sign"], ["drawing", "your drawing"]],
    value: "generated",
    role: "judged",
    onChange: (key) => {
      now.judged = key;
      showPanels();
      update();
    },
  });
  function showPanels() {
    for (const [name, panel] of Object.entries(panels)) panel.hidden = name !== now.judged;
    pair.hidden = now.judged === "generated";
  }
  showPanels();

  // ---- layout -------------------------------------------------------------------------------------------------------------

  figure.build(
    node(
      "div",
      { class: "gl-explorer" },
      node("div", { class: "gl-stage" }, generated.element, buttons),
      node(
        "div",
        { class: "gl-code" },
        script.element,
        node("p", { class: "gl-heading gl-above" }, node("span", {}, `along its directions, −${range}σ to +${range}σ`), node("span", {}, "share of variance")),
        node("div", { class: "gl-rows", role: "group", "aria-label": "The widest directions of the Gaussian, a slider each, in standard deviations" }, ...sliders.map(({ control }) => control.element)),
        shrinkage.element,
        node("div", { class: "gl-settings" }, covariance.element, size.element),
        note,
      ),
      node(
        "div",
        { class: "gl-origin gl-judge" },
        judge.element,
        panels.sign,
        panels.drawing,
        node("div", { class: "gl-verdict" }, pair, node("div", { class: "gl-answer" }, verdict, bars)),
      ),
    ),
  );
  figure.onTheme(() => [generated, seen, kept, pad].forEach((view) => view.redraw()));
  update(false);
  return figure.close;
}

function percent(part) {
  return part > 0 && part < 0.005 ? "< 1 %" : `${Math.round(100 * part)} %`;
}
