// Log-likelihood of training and held-out dots against the complexity of the model, as an SVG picture (chapter 1).

import { format, node } from "./common.mjs";

const CHART = { width: 320, height: 170, left: 40, right: 76, top: 12, bottom: 24 };
const DEPTH = 3; // nats below the best held-out score that the picture still shows

function shape(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// show({ count, train, heldOut, current, best, describe }): scores as arrays with one place for each of `count` settings,
// undefined where not known yet; `best` is what no model can beat, if that is known.
export function densityChart({ role }) {
  const picture = shape("svg", { viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img", "data-role": role });
  const element = node("figure", { class: "gl-chart" }, picture, node("figcaption", {}, "log-likelihood in nats a dot; to the right more complex models"));

  function show({ count, train, heldOut, current, best, describe }) {
    const known = heldOut.filter((value) => Number.isFinite(value));
    const top = Math.max(...known, ...train.filter(Number.isFinite), best ?? -Infinity);
    const peak = Math.max(...known);
    const ceiling = Math.min(top, peak + DEPTH);
    const bottom = Math.max(Math.min(...known, ...train.filter(Number.isFinite)), peak - DEPTH) - 0.05;
    const x = (index) => CHART.left + (index / (count - 1)) * (CHART.width - CHART.left - CHART.right);
    const y = (value) => {
      const part = (Math.min(ceiling, Math.max(bottom, value)) - bottom) / Math.max(1e-9, ceiling - bottom);
      return CHART.height - CHART.bottom - part * (CHART.height - CHART.top - CHART.bottom);
    };
    const floor = CHART.height - CHART.bottom;
    const parts = [
      shape("line", { class: "gl-now", x1: x(current), x2: x(current), y1: CHART.top - 6, y2: floor }),
      shape("line", { class: "gl-axis", x1: CHART.left, x2: CHART.width - CHART.right, y1: floor, y2: floor }),
      shape("text", { x: CHART.left - 6, y: y(bottom), "text-anchor": "end" }, format(bottom, 1)),
      shape("text", { x: CHART.left - 6, y: y(ceiling) + 4, "text-anchor": "end" }, format(ceiling, 1)),
      shape("text", { x: CHART.left, y: CHART.height - 6 }, "simple"),
      shape("text", { x: CHART.width - CHART.right, y: CHART.height - 6, "text-anchor": "end" }, "complex"),
    ];
    if (best !== null && best <= ceiling) {
      parts.push(shape("line", { class: "gl-now", x1: CHART.left, x2: CHART.width - CHART.right, y1: y(best), y2: y(best) }));
      parts.push(shape("text", { x: CHART.left + 4, y: y(best) + 13 }, "best possible"));
    }
    const lines = [
      ["training", train, "--gl-group-1"],
      ["held out", heldOut, "--gl-group-0"],
    ];
    const ends = lines.map(([, values]) => y(values.findLast(Number.isFinite) ?? bottom));
    if (Math.abs(ends[0] - ends[1]) < 13) ends[0] = ends[1] - 13; // names that would cover each other
    lines.forEach(([name, values, paint], line) => {
      const indices = [...values.keys()].filter((index) => Number.isFinite(values[index]));
      if (indices.length === 0) return;
      const path = indices.map((index) => `${x(index)},${y(values[index])}`).join(" ");
      parts.push(shape("polyline", { class: "gl-line", points: path, style: `stroke: var(${paint})` }));
      if (Number.isFinite(values[current])) {
        parts.push(shape("circle", { cx: x(current), cy: y(values[current]), r: 4.5, style: `fill: var(${paint})` }));
      }
      parts.push(shape("text", { class: "gl-name", x: x(indices.at(-1)) + 8, y: ends[line] + 4 }, name));
    });
    picture.replaceChildren(...parts);
    const winner = heldOut.indexOf(peak);
    picture.setAttribute(
      "aria-label",
      `Log-likelihood of training and held-out dots against the model's complexity. Held-out dots score best, ${format(peak)} nats a dot, at ${describe(winner)}.`,
    );
  }
  return { element, show };
}
