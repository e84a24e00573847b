// Controls that the figures share: pictures of signs, sliders, choices, a picker of signs. Native elements, all labelled.

import { node, uniqueId } from "./common.mjs";

// ---- a sign on a canvas ---------------------------------------------------------------------------------------------

// A picture of one sign with a caption: { element, canvas, caption, show(values, alt), clear(text) }.
export function signView({ size, role, caption = "", large = false }) {
  const canvas = node("canvas", { width: size, height: size, role: "img", "aria-label": caption, "data-role": role });
  const words = node("figcaption", {}, caption);
  const element = node("figure", { class: large ? "gl-sign gl-large" : "gl-sign" }, canvas, words);
  let shown = null;
  const view = {
    element,
    canvas,
    caption: words,
    show(values, alt) {
      shown = values;
      if (alt !== undefined) canvas.setAttribute("aria-label", alt);
      drawSign(canvas, values, size);
    },
    clear(alt) {
      view.show(new Float32Array(size * size), alt);
    },
    redraw() {
      if (shown) drawSign(canvas, shown, size);
    },
  };
  return view;
}

// Paint ink values in [0, 1] in the style sheet's ink colour; the ground shines through. One pixel each: the picture
// is as coarse as the network's output is.
export function drawSign(canvas, values, size) {
  const [red, green, blue] = colour(canvas, "--gl-ink");
  const context = canvas.getContext("2d");
  const image = context.createImageData(size, size);
  for (let i = 0; i < values.length; i++) {
    image.data.set([red, green, blue, Math.round(255 * Math.min(1, Math.max(0, values[i])))], 4 * i);
  }
  context.putImageData(image, 0, 0);
}

// A colour of the style sheet, "#rrggbb", as [red, green, blue].
export function colour(element, property) {
  const text = getComputedStyle(element).getPropertyValue(property).trim() || "#888888";
  return [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16));
}

// ---- sliders, choices, buttons --------------------------------------------------------------------------------------

// A slider with its label and its value in words: { element, input, output }.
// marks: how many equal parts to mark on the track. ticks: words under those marks.
export function slider({ label, min, max, step, value, role, onInput, describe, marks, ticks = [], className = "" }) {
  const id = uniqueId("slider");
  const input = node("input", { type: "range", id, min, max, step, value, "data-role": role });
  const output = node("output", { for: id });
  if (marks) input.style.setProperty("--gl-parts", marks);
  const words = ticks.length ? node("span", { class: "gl-ticks", "aria-hidden": "true" }) : null;
  words?.append(...ticks.map((tick) => node("span", {}, tick)));
  const element = node("div", { class: `gl-slider ${className}` }, node("label", { for: id }, label), input, output, words);
  const control = {
    element,
    input,
    output,
    get value() {
      return Number(input.value);
    },
    set(next) {
      input.value = next;
      control.tell(next);
    },
    tell(next) {
      output.textContent = describe(next);
      input.setAttribute("aria-valuetext", describe(next));
    },
  };
  input.addEventListener("input", () => {
    control.tell(control.value);
    onInput(control.value);
  });
  control.tell(value);
  return control;
}

// One of a few: radio buttons that look like a row of tabs. { element, value }.
export function choice({ label, options, value, role, onChange }) {
  const group = uniqueId("choice");
  const fieldset = node("fieldset", { class: "gl-choice" }, node("legend", {}, label));
  const inputs = options.map(([key, text]) => {
    const id = uniqueId("option");
    const input = node("input", { type: "radio", name: group, id, value: key, checked: key === value, "data-role": role });
    input.addEventListener("change", () => input.checked && onChange(key));
    fieldset.append(node("span", {}, input, node("label", { for: id }, text)));
    return input;
  });
  return {
    element: fieldset,
    get value() {
      return inputs.find((input) => input.checked).value;
    },
  };
}

export function checkbox({ label, role, onChange }) {
  const id = uniqueId("check");
  const input = node("input", { type: "checkbox", id, "data-role": role });
  input.addEventListener("change", () => onChange(input.checked));
  return { element: node("div", { class: "gl-check" }, input, node("label", { for: id }, label)), input };
}

export function button(text, onClick, attributes = {}) {
  const element = node("button", { type: "button", class: "gl-button", ...attributes }, text);
  element.addEventListener("click", onClick);
  return element;
}

export function select({ label, options, value, role, onChange }) {
  const id = uniqueId("select");
  const element = node("select", { id, "data-role": role });
  const fill = (entries, chosen) => {
    element.replaceChildren(...entries.map(([key, text]) => node("option", { value: key, selected: key === chosen }, text)));
  };
  fill(options, value);
  element.addEventListener("change", () => onChange(Number(element.value)));
  return { element: node("div", { class: "gl-select" }, node("label", { for: id }, label), element), input: element, fill };
}

// ---- which sign -----------------------------------------------------------------------------------------------------

// Choose a sign: its script, then the sign, or "another". `signs` is { labels, classes, names, ... }; onChange(index).
export function signPicker({ signs, value, role, label = "Sign", onChange }) {
  const ofClass = (wanted) => signs.labels.flatMap((found, index) => (found === wanted ? [index] : []));
  const present = [...new Set(signs.labels)].sort((a, b) => signs.classes[a].localeCompare(signs.classes[b]));
  const entries = (wanted) => ofClass(wanted).map((index) => [index, signs.names[index]]);
  const choose = (index, tell = true) => {
    const wanted = signs.labels[index];
    classes.input.value = wanted;
    names.fill(entries(wanted), index);
    picker.value = index;
    if (tell) onChange(index);
  };
  const classes = select({
    label: signs.classes.length > 1 ? "Script" : "Class",
    options: present.map((key) => [key, signs.classes[key]]),
    value: signs.labels[value],
    role: `${role}-script`,
    onChange: (wanted) => choose(ofClass(wanted)[0]),
  });
  const names = select({ label, options: entries(signs.labels[value]), value, role, onChange: (index) => choose(index) });
  const another = button("Another", () => choose((picker.value + 1) % signs.labels.length), { "data-role": `${role}-next` });
  const picker = { element: node("div", { class: "gl-picker" }, classes.element, names.element, another), value, choose };
  return picker;
}

