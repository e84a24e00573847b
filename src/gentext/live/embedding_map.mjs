// The embedding map (chapter 4): walk over the plane of two-number codes and decode; change the size of the bottleneck.
// `embedding_map.py` says what is in the state.

import { createFigure, decodeArray, format, latest, nearest, node, row, squaredError, unpackImages } from "./common.mjs";
import { checkbox, choice, select, signPicker, signView, slider } from "./controls.mjs";
import { errorChart } from "./error_chart.mjs";
import { drawingPad } from "./pad.mjs";
import { planeMap } from "./plane_map.mjs";

const GROUND = 12; // signs along one side, when the whole plane is drawn

export default { render };

async function render({ model, el, signal }) {
  const state = model.get("state");
  const figure = createFigure({ model, el, signal, name: "embedding-map" });
  const images = await unpackImages(state.signs.images);
  const shared = { figure, state, images };
  const map = Object.keys(state.maps).length ? mapPart(shared) : null;
  const bottleneck = bottleneckPart({ ...shared, onSource: (source) => map?.mark(source) });
  figure.build(map?.element, bottleneck.element);
  figure.onTheme(() => [map, bottleneck].forEach((part) => part?.redraw()));
  map?.start();
  bottleneck.start();
  return figure.close;
}

const imageArray = (values, size) => ({ shape: [1, 1, size, size], values });

// ---- the plane: move a cursor, see what is decoded there ------------------------------------------------------------------

function mapPart({ figure, state, images }) {
  const { signs, size, maps } = state;
  const kinds = state.kinds.filter(({ kind }) => maps[kind]);
  const planes = Object.fromEntries(kinds.map(({ kind }) => [kind, decodeArray(maps[kind].codes).values]));
  let kind = kinds[0].kind;

  const decoded = signView({ size, role: "map-decoded", caption: "decoded here", large: true });
  const neighbour = signView({ size, role: "map-nearest", caption: "nearest code" });
  const axis = (index) =>
    slider({
      label: index === 0 ? "h₁" : "h₂",
      min: 0,
      max: 1,
      step: 0.005,
      value: 0.5,
      role: index === 0 ? "h1" : "h2",
      describe: (part) => format(fromPart(part, index)),
      onInput: () => plane.moveTo([0, 1].map((i) => fromPart(axes[i].value, i))),
    });
  // The sliders run from 0 to 1 over the part of the plane that the map shows.
  const fromPart = (part, index) => {
    const [low, high] = maps[kind].range[index];
    return low + part * (high - low);
  };
  const toPart = (value, index) => {
    const [low, high] = maps[kind].range[index];
    return (value - low) / (high - low);
  };

  const plane = planeMap({
    classes: signs.classes,
    labels: signs.labels,
    groups: state.groups,
    role: "map",
    signal: figure.signal,
    onMove: (h) => {
      axes.forEach((control, index) => control.set(toPart(h[index], index)));
      refresh(h);
    },
  });
  const axes = [axis(0), axis(1)];

  const refresh = latest(async (h) => {
    const near = nearest(h, codeRows());
    neighbour.show(images[near], `Sign with the nearest code: ${signs.words[near]}`);
    neighbour.caption.textContent = `nearest code: ${signs.names[near]}`;
    try {
      const { image } = await figure.call(`${kind}-2-decoder`, { h: row(h) });
      const like = signs.words[nearest(image.values, images)];
      decoded.show(image.values, `Decoded at h₁ = ${format(h[0])}, h₂ = ${format(h[1])}: most like ${like}`);
      figure.say(`h₁ ${format(h[0])}, h₂ ${format(h[1])}: decoded picture most like ${like}; nearest code ${signs.words[near]}.`);
    } catch (error) {
      figure.fail(error);
    }
  });
  const codeRows = () => {
    const codes = planes[kind];
    return Array.from({ length: codes.length / 2 }, (_, index) => codes.subarray(2 * index, 2 * index + 2));
  };

  const setKind = (next) => {
    kind = next;
    plane.setCodes(planes[kind], maps[kind].range);
    if (source) mark(source);
    if (ground.input.checked) drawGround();
    plane.moveTo([0, 1].map((index) => fromPart(axes[index].value, index)));
  };
  const tabs = choice({
    label: "Autoencoder",
    options: kinds.map((entry) => [entry.kind, entry.name]),
    value: kind,
    role: "map-kind",
    onChange: setKind,
  });
  const present = [...new Set(signs.labels)].sort((a, b) => signs.classes[a].localeCompare(signs.classes[b]));
  const highlight = select({
    label: signs.classes.length > 1 ? "Highlight" : "Class",
    options: [[-1, "all scripts"], ...present.map((label) => [label, signs.classes[label]])],
    value: -1,
    role: "highlight",
    onChange: (label) => plane.setHighlight(label < 0 ? null : label),
  });

  // What the decoder draws all over the plane, row by row so that the page stays awake; the middle of each tile is its code.
  let wanted = 0; // counts what was asked for, so that an outdated answer is dropped
  async function drawGround() {
    const mine = ++wanted;
    if (!ground.input.checked) return plane.setGround(null);
    const [[x0, x1], [y0, y1]] = maps[kind].range;
    const drawn = [];
    for (let line = 0; line < GROUND && mine === wanted; line++) {
      const codes = new Float32Array(2 * GROUND);
      for (let column = 0; column < GROUND; column++) {
        codes[2 * column] = x0 + ((column + 0.5) / GROUND) * (x1 - x0);
        codes[2 * column + 1] = y1 - ((line + 0.5) / GROUND) * (y1 - y0);
      }
      try {
        const { image } = await figure.call(`${kind}-2-decoder`, { h: { shape: [GROUND, 2], values: codes } });
        if (mine !== wanted) return;
        for (let column = 0; column < GROUND; column++) {
          drawn.push(image.values.slice(column * size * size, (column + 1) * size * size));
        }
        plane.setGround({ images: drawn, columns: GROUND, rows: GROUND, size });
      } catch (error) {
        return figure.fail(error);
      }
    }
  }
  const ground = checkbox({ label: "draw the whole plane", role: "ground", onChange: drawGround });

  // The sign or drawing of the second part, as a cross on the map.
  let source = null;
  const mark = latest(async (next) => {
    source = next;
    if (next.index !== null) return plane.setMark(codeRows()[next.index]);
    try {
      const { h } = await figure.call(`${kind}-2-encoder`, { x: imageArray(next.values, size) });
      plane.setMark(h.values);
    } catch (error) {
      figure.fail(error);
    }
  });

  const element = node(
    "div",
    { class: "gl-map", role: "group", "aria-label": "The plane of two-number codes" },
    node("div", { class: "gl-bar" }, kinds.length > 1 ? tabs.element : null, highlight.element, ground.element),
    node(
      "div",
      { class: "gl-plane" },
      node("div", {}, plane.element),
      node("div", { class: "gl-here" }, decoded.element, neighbour.element, ...axes.map((control) => control.element)),
    ),
  );
  return {
    element,
    mark,
    redraw: () => [plane, decoded, neighbour].forEach((view) => view.redraw()),
    // Before the first call: the cursor on the opening sign's code, and that sign's reconstruction, which came with the state.
    start() {
      plane.setCodes(planes[kind], maps[kind].range);
      const { sign, reconstructions } = state.initial;
      const h = codeRows()[sign];
      plane.place(h);
      plane.redraw(); // the legend too
      axes.forEach((control, index) => control.set(toPart(h[index], index)));
      neighbour.show(images[sign], `Sign with the nearest code: ${signs.words[sign]}`);
      neighbour.caption.textContent = `nearest code: ${signs.names[sign]}`;
      decoded.show(decodeArray(reconstructions[kind]).values, `Decoded at the code of ${signs.words[sign]}`);
    },
  };
}

// ---- the bottleneck: one sign through codes of several sizes ---------------------------------------------------------------

function bottleneckPart({ figure, state, images, onSource }) {
  const { signs, size, sizes, kinds, initial } = state;
  const now = { index: initial.sign, values: images[initial.sign], size: sizes.indexOf(initial.size) };
  const words = () => (now.index === null ? "your drawing" : signs.words[now.index]);

  const input = signView({ size, role: "input", caption: "x" });
  const outputs = kinds.map(({ kind, name }) => ({
    kind,
    name,
    view: signView({ size, role: `reconstruction-${kind}`, caption: name }),
    error: node("output", { class: "gl-error-value", "data-role": `error-${kind}` }),
  }));

  function show(output, values, numbers) {
    const error = squaredError(values, now.values);
    output.view.show(values, `${output.name} copy of ${words()}, squared error ${format(error, 1)}`);
    output.error.textContent = format(error, 1);
    errors[output.kind].set(numbers, error);
    chart.show(errors, sizes[now.size]);
  }

  // The error at every size. Asked for one after the other once the hand has come to rest.
  const chart = errorChart({ kinds, sizes });
  const errors = Object.fromEntries(kinds.map(({ kind }) => [kind, new Map()]));
  let rest;
  figure.signal.addEventListener("abort", () => clearTimeout(rest));
  function surveySoon() {
    clearTimeout(rest);
    if (sizes.some((numbers) => kinds.some(({ kind }) => !errors[kind].has(numbers)))) rest = setTimeout(survey, 400);
  }
  async function survey() {
    const { values } = now;
    for (const numbers of sizes) {
      for (const { kind } of kinds) {
        if (values !== now.values) return; // another sign: its own survey is on the way
        if (errors[kind].has(numbers)) continue;
        try {
          const copy = await copied(kind, numbers, values);
          if (values === now.values) errors[kind].set(numbers, squaredError(copy, values));
        } catch (error) {
          return figure.fail(error);
        }
      }
      chart.show(errors, sizes[now.size]);
    }
  }
  async function copied(kind, numbers, values) {
    const { h } = await figure.call(`${kind}-${numbers}-encoder`, { x: imageArray(values, size) });
    const { image } = await figure.call(`${kind}-${numbers}-decoder`, { h });
    return image.values;
  }

  const refresh = latest(async () => {
    const { values } = now;
    const numbers = sizes[now.size];
    clearTimeout(rest);
    input.show(now.values, `Input: ${words()}`);
    input.caption.textContent = `x: ${now.index === null ? "your drawing, centred" : signs.names[now.index]}`;
    const results = [];
    try {
      for (const output of outputs) {
        const copy = await copied(output.kind, numbers, values);
        if (values !== now.values) return; // outdated; the next request is waiting already
        show(output, copy, numbers);
        results.push(`${output.name}: squared error ${output.error.textContent}`);
      }
      surveySoon();
      figure.say(`${words()} through ${numbers} numbers. ${results.join(". ")}.`);
    } catch (error) {
      figure.fail(error);
    }
  });

  const use = (index, values) => {
    Object.assign(now, { index, values });
    for (const { kind } of kinds) errors[kind].clear();
    onSource({ index, values });
    refresh();
  };
  const picker = signPicker({ signs, value: initial.sign, role: "sign", onChange: (index) => use(index, images[index]) });
  const pad = drawingPad({ size, role: "pad", onChange: (values) => use(null, values) });
  const panels = { sign: node("div", { class: "gl-panel" }, picker.element), drawing: node("div", { class: "gl-panel" }, pad.element) };
  panels.drawing.hidden = true;
  const origin = choice({
    label: "Squeeze",
    options: [["sign", "a test sign"], ["drawing", "your drawing"]],
    value: "sign",
    role: "origin",
    onChange: (key) => {
      for (const [name, panel] of Object.entries(panels)) panel.hidden = name !== key;
      if (key === "sign") picker.choose(picker.value);
      else pad.clear();
    },
  });
  const width = slider({
    label: "Bottleneck",
    min: 0,
    max: sizes.length - 1,
    step: 1,
    value: now.size,
    role: "bottleneck",
    marks: sizes.length - 1,
    ticks: sizes,
    className: "gl-wide",
    describe: (index) => `${sizes[index]} numbers`,
    onInput: (index) => {
      now.size = index;
      refresh();
    },
  });

  const element = node(
    "div",
    { class: "gl-squeeze", role: "group", "aria-label": "Bottleneck: one sign through codes of several sizes" },
    origin.element,
    ...Object.values(panels),
    sizes.length > 1 ? width.element : null,
    node(
      "div",
      { class: "gl-copies" },
      input.element,
      ...outputs.map(({ view, error }) => {
        view.element.append(node("p", { class: "gl-value" }, "squared error ", error));
        return view.element;
      }),
      sizes.length > 1 ? chart.element : null,
    ),
  );
  return {
    element,
    redraw: () => [input, pad, ...outputs.map(({ view }) => view)].forEach((view) => view.redraw()),
    start() {
      input.show(now.values, `Input: ${words()}`);
      input.caption.textContent = `x: ${now.index === null ? "your drawing, centred" : signs.names[now.index]}`;
      for (const output of outputs) show(output, decodeArray(initial.reconstructions[output.kind]).values, initial.size);
      onSource(now);
    },
  };
}
