// Where a walk asks its network: a dot for each question, at the noise level it is asked at, as an SVG picture.

import { format, node } from "./common.mjs";

const [WIDTH, LEFT, RIGHT, ROW, TOP] = [360, 86, 26, 20, 12];
const TICKS = [100, 10, 1, 0.1, 0.01, 0.001];
const WORDS = { told: "told the script", untold: "not told" };

function mark(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// show({ sigmas, twice: whether a step asks again where it arrives, rows: some of "told" and "untold", reached: σ })
export function levelChart({ classes }) {
  const picture = mark("svg", { role: "img", "data-role": "levels" });
  const caption = node("figcaption", {}, "noise σ at which the network is asked, from the left to the right");
  const element = node("figure", { class: "gl-chart gl-levels" }, picture, caption);

  function show({ sigmas, twice, rows, reached }) {
    const [first, last] = [sigmas[0], sigmas.at(-2)];
    const end = WIDTH - RIGHT - 24; // of the lowest level above 0
    const x = (sigma) => (sigma > 0 ? LEFT + (Math.log(first / sigma) / Math.log(first / last)) * (end - LEFT) : WIDTH - RIGHT);
    const bottom = TOP + rows.length * ROW + 4;
    picture.setAttribute("viewBox", `0 0 ${WIDTH} ${bottom + 20}`);
    const parts = [mark("line", { class: "gl-axis", x1: LEFT - 8, x2: WIDTH - RIGHT + 8, y1: bottom, y2: bottom })];
    for (const sigma of [...TICKS.filter((tick) => tick <= first && tick >= last), 0]) {
      parts.push(mark("line", { class: "gl-axis", x1: x(sigma), x2: x(sigma), y1: bottom, y2: bottom + 4 }));
      parts.push(mark("text", { x: x(sigma), y: bottom + 16, "text-anchor": "middle" }, sigma));
    }
    rows.forEach((row, place) => {
      const y = TOP + place * ROW + 6;
      parts.push(mark("text", { class: "gl-name", x: 0, y: y + 4 }, classes ? WORDS[row] : "asked"));
      Array.from(sigmas.slice(0, -1)).forEach((sigma, index) => {
        const asked = sigma > reached * (1 + 1e-9);
        const dot = (dy, style) => mark("circle", { cx: x(sigma), cy: y + dy, r: 2.4, class: style });
        parts.push(dot(twice ? 3 : 0, asked ? "gl-asked" : "gl-unasked"));
        // Heun's second look at a level comes with the step that leads there.
        if (twice && index > 0) parts.push(dot(-3, sigma >= reached * (1 - 1e-9) ? "gl-asked" : "gl-unasked"));
      });
    });
    parts.push(mark("line", { class: "gl-now", x1: x(reached), x2: x(reached), y1: 2, y2: bottom }));
    picture.replaceChildren(...parts);
    const many = ((twice ? 2 : 1) * (sigmas.length - 1) - (twice ? 1 : 0)) * rows.length;
    picture.setAttribute("aria-label", `${many} dots between σ = ${format(first, 1)} and ${last.toPrecision(1)}, denser towards the end.`);
  }
  return { element, show };
}
