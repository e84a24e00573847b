// Squared error against the size of the bottleneck, one line for each kind of autoencoder, as an SVG picture.

import { format, node } from "./common.mjs";

const [WIDTH, HEIGHT] = [260, 150];
const [LEFT, RIGHT, TOP, BOTTOM] = [34, 72, 12, 26];

function svg(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// kinds: [{ kind, name }]; sizes: [2, 4, ...]. show(errors, current): errors[kind] = Map from size to error.
export function errorChart({ kinds, sizes }) {
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "data-role": "errors" });
  const element = node("figure", { class: "gl-chart" }, picture, node("figcaption", {}, "squared error against the size of the code"));

  function show(errors, current) {
    const found = kinds.flatMap(({ kind }) => [...errors[kind].values()]);
    const top = Math.max(1, ...found);
    const x = (size) => LEFT + (sizes.indexOf(size) / Math.max(1, sizes.length - 1)) * (WIDTH - LEFT - RIGHT);
    const y = (error) => HEIGHT - BOTTOM - (error / top) * (HEIGHT - TOP - BOTTOM);
    const parts = [
      svg("line", { class: "gl-now", x1: x(current), x2: x(current), y1: TOP - 6, y2: HEIGHT - BOTTOM }),
      svg("line", { class: "gl-axis", x1: LEFT, x2: WIDTH - RIGHT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }),
      svg("text", { x: LEFT - 6, y: y(0), "text-anchor": "end" }, "0"),
      svg("text", { x: LEFT - 6, y: y(top) + 4, "text-anchor": "end" }, format(top, 0)),
      ...sizes.map((size) => svg("text", { x: x(size), y: HEIGHT - 9, "text-anchor": "middle" }, size)),
    ];
    // Names at the lines' ends, moved apart where the lines meet.
    let last = -Infinity;
    const ends = kinds
      .map(({ kind, name }, index) => ({ kind, name, index, points: sizes.filter((size) => errors[kind].has(size)) }))
      .filter(({ points }) => points.length > 0)
      .map((line) => ({ ...line, end: y(errors[line.kind].get(line.points.at(-1))) }))
      .sort((a, b) => a.end - b.end);
    for (const { kind, name, index, points, end } of ends) {
      const colour = `var(--gl-group-${index})`;
      const path = points.map((size) => `${x(size)},${y(errors[kind].get(size))}`).join(" ");
      parts.push(svg("polyline", { class: "gl-line", points: path, style: `stroke: ${colour}` }));
      for (const size of points) {
        parts.push(svg("circle", { cx: x(size), cy: y(errors[kind].get(size)), r: size === current ? 5 : 3, style: `fill: ${colour}` }));
      }
      last = Math.max(end, last + 13);
      parts.push(svg("text", { class: "gl-name", x: x(points.at(-1)) + 9, y: last + 4 }, name));
    }
    picture.replaceChildren(...parts);
    const lines = kinds.map(({ kind, name }) => {
      const numbers = [...errors[kind]].sort((a, b) => a[0] - b[0]).map(([size, error]) => `${size} numbers ${format(error, 1)}`);
      return `${name}: ${numbers.join(", ")}`;
    });
    picture.setAttribute("aria-label", `Squared error against the size of the code. ${lines.join(". ")}.`);
  }
  return { element, show };
}
