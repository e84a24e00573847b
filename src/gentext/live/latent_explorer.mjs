// The latent explorer (chapter 5): a slider for each latent of a VAE; encode a sign or a drawing; walk between two
// signs; change β. `latent_explorer.py` says what is in the state.

import { createFigure, decodeArray, format, latest, nearest, node, row, squaredError, subscript, unpackImages } from "./common.mjs";
import { button, choice, select, signPicker, signView, slider } from "./controls.mjs";
import { drawingPad } from "./pad.mjs";

const DEAD = 0.01; // nats; a latent that says less about a sign says nothing

export default { render };

async function render({ model, el, signal }) {
  const state = model.get("state");
  const figure = createFigure({ model, el, signal, name: "latent-explorer" });
  const images = await unpackImages(state.signs.images);
  const { models, signs, size, initial, range } = state;

  // What is shown: the model, the code z, and where the code came from.
  const now = {
    model: initial.model,
    z: decodeArray(initial.mean).values,
    label: signs.labels[initial.sign], // what a conditional model is asked to draw
    source: null, // { images, labels, words, caption } of what is encoded: one sign, one drawing, or two signs
    posteriors: [{ mean: decodeArray(initial.mean).values, logVar: decodeArray(initial.log_var).values }],
    mix: 0, // 0 is the first source image, 1 the second
    stale: false, // the source or the model has changed, so the code must be computed again
  };
  const latents = models[0].latents;

  // ---- the pictures ---------------------------------------------------------------------------------------------------

  const decoded = signView({ size, role: "decoded", caption: "decoded", large: true });
  const source = signView({ size, role: "source", caption: "encoded" });
  const ends = ["from", "to"].map((name) => signView({ size, role: `${name}-picture`, caption: name }));
  const summary = node("p", { class: "gl-summary", "data-role": "summary" });

  // ---- one slider for each latent, those that carry most first -----------------------------------------------------------

  const sliders = Array.from({ length: latents }, (_, position) => {
    const information = node("span", { class: "gl-kl", "data-role": "kl" });
    const control = slider({
      label: "",
      min: -range,
      max: range,
      step: 0.05,
      value: 0,
      marks: 2 * range, // one mark for each standard deviation
      role: "latent",
      describe: (value) => format(value),
      onInput: (value) => {
        now.z = Float32Array.from(now.z);
        now.z[models[now.model].order[position]] = value;
        refresh();
      },
    });
    control.element.append(information);
    return { control, information };
  });
  const scale = 1.5 * Math.max(...models.flatMap((entry) => entry.kl)); // nats; a full bar

  // KL(q(z|x) || p(z)) of each latent: of what is encoded, or the mean over the test signs where nothing is.
  function information() {
    if (!now.source) return models[now.model].kl;
    const each = now.posteriors.map(({ mean, logVar }) =>
      mean.map((value, index) => 0.5 * (value ** 2 + Math.exp(logVar[index]) - 1 - logVar[index])),
    );
    return each[0].map((_, index) => each.reduce((sum, kl) => sum + kl[index], 0) / each.length);
  }

  function showCode() {
    const kl = information();
    const { order } = models[now.model];
    sliders.forEach(({ control, information }, position) => {
      const index = order[position];
      const value = now.z[index];
      control.element.firstChild.textContent = `z${subscript(index + 1)}`;
      control.input.value = value; // the thumb stops at the end of the range, the number does not
      control.output.textContent = format(value);
      control.input.setAttribute("aria-valuetext", `${format(value)} standard deviations, KL ${format(kl[index])} nats`);
      information.textContent = format(kl[index]);
      information.style.setProperty("--gl-part", Math.min(1, kl[index] / scale).toFixed(3));
      control.element.classList.toggle("gl-dead", kl[index] < DEAD);
    });
    const total = kl.reduce((sum, value) => sum + value, 0);
    const alive = kl.filter((value) => value >= DEAD).length;
    const about = !now.source ? "mean over test signs" : now.posteriors.length === 2 ? "mean of the two" : "of what is encoded";
    heading.textContent = `KL ${about}, nats`;
    return `KL ${format(total, 1)} nats; ${alive} of ${latents} latents alive`;
  }

  function showImage(values) {
    const like = signs.words[nearest(values, images)];
    decoded.show(values, `Decoded picture, most like the test sign ${like}`);
    const parts = [showCode()];
    if (now.source?.images.length === 1) parts.push(`squared error ${format(squaredError(values, now.source.images[0]), 1)}`);
    summary.textContent = parts.join("; ");
    figure.say(`Decoded: most like ${like}. ${parts.join(". ")}.`);
  }

  function showSource() {
    source.element.hidden = now.source?.images.length === 2; // the two ends stand beside the walk's slider
    if (!now.source) {
      source.clear("Nothing is encoded");
      source.caption.textContent = "nothing encoded";
      return;
    }
    if (now.source.images.length === 2) {
      ends.forEach((view, index) => view.show(now.source.images[index], `Encoded: ${signs.words[now.source.indices[index]]}`));
      return;
    }
    source.show(now.source.images[0], `Encoded: ${now.source.words}`);
    source.caption.textContent = now.source.caption;
  }

  // ---- the networks -----------------------------------------------------------------------------------------------------

  const conditional = (labels) => (models[now.model].classes.length ? { label: labelArray(labels) } : {});
  const labelArray = (labels) => ({ shape: [labels.length], values: Float32Array.from(labels) });

  async function encode() {
    const { images: xs, labels } = now.source;
    const values = new Float32Array(xs.length * size * size);
    xs.forEach((x, index) => values.set(x, index * size * size));
    const inputs = { x: { shape: [xs.length, 1, size, size], values }, ...conditional(labels) };
    const { mean, log_var } = await figure.call(models[now.model].encoder, inputs);
    const part = (array, index) => array.values.slice(index * latents, (index + 1) * latents);
    now.posteriors = xs.map((_, index) => ({ mean: part(mean, index), logVar: part(log_var, index) }));
    mixCodes();
  }

  // The code of one source is its posterior's mean; between two, a straight line from mean to mean.
  function mixCodes() {
    const [first, second = first] = now.posteriors;
    now.z = first.mean.map((value, index) => (1 - now.mix) * value + now.mix * second.mean[index]);
  }

  const refresh = latest(async () => {
    const encoding = now.stale && now.source !== null;
    now.stale = false;
    try {
      if (encoding) await encode();
      showSource();
      const { image } = await figure.call(models[now.model].decoder, { z: row(now.z), ...conditional([now.label]) });
      showImage(image.values);
    } catch (error) {
      now.stale ||= encoding; // ask again next time
      figure.fail(error);
    }
  });

  function encodeFrom(next) {
    Object.assign(now, { source: next, stale: next !== null, mix: next?.images.length === 2 ? path.value : 0 });
    if (next?.labels.length === 1) setLabel(next.labels[0]);
    refresh();
  }

  function setCode(z) {
    pause();
    Object.assign(now, { z, source: null, stale: false, mix: 0 });
    refresh();
  }

  // ---- controls -----------------------------------------------------------------------------------------------------------

  const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  const buttons = node(
    "div",
    { class: "gl-buttons" },
    button("Random", () => setCode(Float32Array.from({ length: latents }, normal)), { "data-role": "random" }),
    button("Reset", () => setCode(new Float32Array(latents)), { "data-role": "reset" }),
  );

  const plain = models.flatMap((entry, index) => (entry.classes.length ? [] : [index])); // the β slider's models
  const told = models.findIndex((entry) => entry.classes.length > 0); // the one that is told the class, or -1
  const isBeta = plain.every((index) => models[index].name.startsWith("β = "));
  const knob = (place) => (isBeta ? models[plain[place]].name.slice(4) : models[plain[place]].name);
  const setModel = (index) => {
    now.model = index;
    now.stale = now.source !== null; // the same sign, through another encoder
    refresh();
  };
  const beta = slider({
    label: isBeta ? "β" : "Model",
    min: 0,
    max: Math.max(1, plain.length - 1),
    step: 1,
    value: Math.max(0, plain.indexOf(now.model)),
    role: "beta",
    className: "gl-wide",
    marks: Math.max(1, plain.length - 1),
    ticks: plain.length > 1 ? plain.map((_, place) => knob(place)) : [],
    describe: (place) => (plain.length > 1 ? knob(place) : ""),
    onInput: (place) => setModel(plain[place]),
  });

  const classes = told < 0 ? [] : models[told].classes;
  const drawAs = select({
    label: "Draw it as",
    options: classes.map((name, index) => [index, name]),
    value: now.label,
    role: "class",
    onChange: (label) => {
      now.label = label;
      refresh();
    },
  });
  const setLabel = (label) => {
    now.label = label;
    drawAs.input.value = label;
  };
  const knows = choice({
    label: "The networks know",
    options: [["plain", "the picture"], ["told", "picture and script"]],
    value: now.model === told ? "told" : "plain",
    role: "knows",
    onChange: (key) => {
      showKnobs(key);
      setModel(key === "told" ? told : plain[beta.value]);
    },
  });
  function showKnobs(key) {
    knows.element.hidden = told < 0 || plain.length === 0;
    beta.element.hidden = key === "told" || plain.length < 2;
    drawAs.element.hidden = key !== "told";
  }
  showKnobs(now.model === told ? "told" : "plain");

  // Where the code comes from: a test sign, a drawing, or a place between two signs.
  const sourceOf = (...chosen) => ({
    images: chosen.map((index) => images[index]),
    labels: chosen.map((index) => signs.labels[index]),
    words: chosen.map((index) => signs.words[index]).join(" and "),
    caption: signs.names[chosen[0]],
    indices: chosen,
  });
  const one = signPicker({ signs, value: initial.sign, role: "sign", onChange: (index) => encodeFrom(sourceOf(index)) });

  const pad = drawingPad({
    size,
    role: "pad",
    onChange: (values, empty) =>
      encodeFrom(empty ? null : { images: [values], labels: [now.label], words: "your drawing", caption: "your drawing, centred" }),
  });

  const encodeBoth = () => encodeFrom(sourceOf(from.value, to.value));
  const from = signPicker({ signs, value: initial.sign, role: "from", label: "From", onChange: encodeBoth });
  const partner = Math.floor(images.length / 2);
  const to = signPicker({ signs, value: partner, role: "to", label: "To", onChange: encodeBoth });
  const path = slider({
    label: "Between",
    min: 0,
    max: 1,
    step: 0.01,
    value: 0.5,
    role: "mix",
    className: "gl-wide",
    describe: (value) => `${format(100 * value, 0)} %`,
    onInput: (value) => {
      pause();
      mixTo(value);
    },
  });
  const mixTo = (value) => {
    now.mix = value;
    if (now.source?.images.length !== 2) return encodeBoth();
    if (!now.stale) mixCodes();
    refresh();
  };

  // Play runs there and back. Those who asked for less motion get a few separate steps instead of a film.
  let playing = null;
  const play = button("Play", () => (playing === null ? start() : pause()), { "data-role": "play", "aria-pressed": "false" });
  function start() {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const begun = performance.now() - 4000 * path.value;
    play.textContent = "Pause";
    play.setAttribute("aria-pressed", "true");
    playing = setInterval(() => {
      const phase = ((performance.now() - begun) / 4000) % 2;
      const value = phase < 1 ? phase : 2 - phase;
      path.set(calm ? Math.round(value * 4) / 4 : value);
      mixTo(path.value);
    }, calm ? 1000 : 50);
  }
  function pause() {
    clearInterval(playing);
    playing = null;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  }
  figure.signal.addEventListener("abort", pause);

  const panels = {
    sign: node("div", { class: "gl-panel" }, one.element),
    drawing: node("div", { class: "gl-panel" }, pad.element),
    two: node(
      "div",
      { class: "gl-panel gl-ends" },
      node("div", {}, ends[0].element, from.element),
      node("div", {}, ends[1].element, to.element),
      node("div", { class: "gl-walk" }, path.element, play),
    ),
  };
  const origin = choice({
    label: "Encode",
    options: [["sign", "a test sign"], ["drawing", "your drawing"], ["two", "between two signs"]],
    value: "sign",
    role: "origin",
    onChange: (key) => {
      pause();
      for (const [name, panel] of Object.entries(panels)) panel.hidden = name !== key;
      if (key === "sign") one.choose(one.value);
      else if (key === "two") encodeBoth();
      else pad.clear();
    },
  });
  panels.drawing.hidden = panels.two.hidden = true;

  // ---- layout -------------------------------------------------------------------------------------------------------------

  const heading = node("span", {}, "");
  const rows = node("div", { class: "gl-rows" }, ...sliders.map(({ control }) => control.element));
  const all = button(`All ${latents} latents`, () => {
    rows.classList.add("gl-all");
    all.hidden = true;
    sliders[8].control.input.focus();
  }, { class: "gl-button gl-more" });
  all.hidden = latents <= 8;
  figure.build(
    node(
      "div",
      { class: "gl-explorer" },
      node("div", { class: "gl-stage" }, decoded.element, source.element, buttons),
      node(
        "div",
        { class: "gl-code", role: "group", "aria-label": "The code z, one slider for each latent, in prior standard deviations" },
        node("p", { class: "gl-heading" }, node("span", {}, `latent, −${range}σ to +${range}σ`), heading),
        rows,
        all,
        summary,
        knows.element,
        beta.element,
        drawAs.element,
      ),
      node("div", { class: "gl-origin" }, origin.element, ...Object.values(panels)),
    ),
  );
  figure.onTheme(() => [decoded, source, pad].forEach((view) => view.redraw()));
  now.source = sourceOf(initial.sign);
  showSource();
  showImage(decodeArray(initial.image).values);
  return figure.close;
}
