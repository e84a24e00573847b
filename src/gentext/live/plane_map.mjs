// A map of codes in the plane on a canvas: points coloured by class, a cursor to move by mouse, finger or arrow keys.

import { format, node, onResize } from "./common.mjs";
import { colour, drawSign } from "./controls.mjs";

const MARGIN = 34; // CSS pixels for the numbers along the axes
const STEP = 1 / 50; // of the plane's width, for one press of an arrow key; five times that with Shift

// { element, setCodes(Float32Array of n × 2, [[low, high], [low, high]]), place(h), moveTo(h), setMark(h),
//   setHighlight(label), setGround({ images, columns, rows, size } or null) }
export function planeMap({ classes, labels, groups, role, signal, onMove }) {
  const canvas = node("canvas", { tabindex: 0, role: "application", class: "gl-canvas", "data-role": role });
  const legend = node("p", { class: "gl-legend" });
  const element = node("div", {}, canvas, legend);
  const now = { codes: new Float32Array(), range: [[0, 1], [0, 1]], cursor: [0.5, 0.5], mark: null, highlight: null, ground: null };

  // ---- plane <-> canvas, in CSS pixels ------------------------------------------------------------------------------------

  const side = () => canvas.clientWidth - MARGIN;
  const toCanvas = (h) => {
    const [[x0, x1], [y0, y1]] = now.range;
    return [MARGIN + ((h[0] - x0) / (x1 - x0)) * side(), side() - ((h[1] - y0) / (y1 - y0)) * side()];
  };
  const toPlane = (event) => {
    const box = canvas.getBoundingClientRect();
    const parts = [(event.clientX - box.left - MARGIN) / side(), (side() - (event.clientY - box.top)) / side()];
    return parts.map((part, index) => {
      const [low, high] = now.range[index];
      return low + Math.min(1, Math.max(0, part)) * (high - low);
    });
  };

  // ---- moving -------------------------------------------------------------------------------------------------------------

  function place(h) {
    now.cursor = [0, 1].map((index) => Math.min(now.range[index][1], Math.max(now.range[index][0], h[index])));
    canvas.setAttribute(
      "aria-label",
      `Map of the codes of ${labels.length} signs. Cursor at h₁ ${format(now.cursor[0])}, h₂ ${format(now.cursor[1])}. Arrow keys move it.`,
    );
    redraw();
  }
  function moveTo(h) {
    place(h);
    onMove(now.cursor);
  }
  let dragging = false;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    dragging = true;
    moveTo(toPlane(event));
  });
  canvas.addEventListener("pointermove", (event) => dragging && moveTo(toPlane(event)));
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (dragging = false));
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  canvas.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    const step = STEP * (event.shiftKey ? 5 : 1);
    moveTo(now.cursor.map((value, index) => value + step * move[index] * (now.range[index][1] - now.range[index][0])));
  });

  // ---- drawing ------------------------------------------------------------------------------------------------------------

  const colourOf = (label) => {
    const place = groups.indexOf(label);
    return `rgb(${colour(canvas, place < 0 ? "--gl-other" : `--gl-group-${place}`)})`;
  };

  function redraw() {
    const width = canvas.clientWidth;
    if (width === 0) return; // not on the page yet
    const ratio = window.devicePixelRatio || 1;
    canvas.width = canvas.height = Math.round(width * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    drawAxes(context);
    if (now.ground) drawGround(context);
    else drawPoints(context);
    context.strokeStyle = `rgb(${colour(canvas, now.ground ? "--gl-accent" : "--gl-text")})`;
    if (now.mark) cross(context, toCanvas(now.mark));
    ring(context, toCanvas(now.cursor));
  }

  function drawPoints(context) {
    context.save();
    context.beginPath();
    context.rect(MARGIN, 0, side(), side());
    context.clip(); // a few codes lie off the map
    // Others first, then the coloured, then the highlighted, so that what matters lies on top.
    const rank = (label) => (label === now.highlight ? 2 : groups.includes(label) ? 1 : 0);
    const order = labels.map((_, index) => index).sort((a, b) => rank(labels[a]) - rank(labels[b]));
    for (const index of order) {
      const faded = now.highlight !== null && labels[index] !== now.highlight;
      context.globalAlpha = faded ? 0.15 : 0.85;
      const bold = labels[index] === now.highlight && !groups.includes(labels[index]);
      context.fillStyle = bold ? `rgb(${colour(canvas, "--gl-accent")})` : colourOf(labels[index]);
      dot(context, toCanvas(now.codes.subarray(2 * index, 2 * index + 2)), now.highlight === labels[index] ? 4.5 : 3);
    }
    context.restore();
  }

  // What the decoder draws all over the plane: a sheet of small signs, those that have come so far.
  function drawGround(context) {
    const { images, columns, rows, size } = now.ground;
    const [width, height] = [side() / columns, side() / rows];
    const tile = node("canvas", { width: size, height: size });
    canvas.after(tile); // only in the page does it know the style sheet's colours
    context.imageSmoothingEnabled = false;
    images.forEach((values, index) => {
      drawSign(tile, values, size);
      context.drawImage(tile, MARGIN + (index % columns) * width, Math.floor(index / columns) * height, width, height);
    });
    tile.remove();
  }

  function drawAxes(context) {
    const edge = side();
    context.fillStyle = `rgb(${colour(canvas, "--gl-paper")})`;
    context.fillRect(MARGIN, 0, edge, edge);
    context.fillStyle = `rgb(${colour(canvas, "--gl-muted")})`;
    context.font = "12px sans-serif";
    const [[x0, x1], [y0, y1]] = now.range;
    context.textBaseline = "top";
    context.fillText(format(x0, 1), MARGIN, edge + 6);
    context.textAlign = "center";
    context.fillText("h₁", MARGIN + edge / 2, edge + 6);
    context.textAlign = "right";
    context.fillText(format(x1, 1), MARGIN + edge, edge + 6);
    context.fillText(format(y1, 1), MARGIN - 4, 0);
    context.textBaseline = "middle";
    context.fillText("h₂", MARGIN - 6, edge / 2);
    context.textBaseline = "bottom";
    context.fillText(format(y0, 1), MARGIN - 4, edge);
  }

  function showLegend() {
    const entries = groups.map((label) => [colourOf(label), classes[label]]);
    if (new Set(labels).size > groups.length) entries.push([colourOf(-1), "all others"]);
    legend.replaceChildren(
      ...entries.map(([style, name]) => node("span", {}, node("i", { style: `background: ${style}`, "aria-hidden": "true" }), name)),
    );
  }

  onResize(canvas, redraw, signal);
  return {
    element,
    place,
    moveTo,
    setCodes(codes, range) {
      Object.assign(now, { codes, range });
      redraw();
    },
    setMark(h) {
      now.mark = h;
      redraw();
    },
    setGround(ground) {
      now.ground = ground;
      redraw();
    },
    setHighlight(label) {
      now.highlight = label;
      redraw();
    },
    redraw() {
      showLegend();
      redraw();
    },
  };
}

function dot(context, [x, y], radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

function ring(context, [x, y]) {
  context.lineWidth = 2.5;
  context.beginPath();
  context.arc(x, y, 9, 0, 2 * Math.PI);
  context.stroke();
}

function cross(context, [x, y]) {
  context.lineWidth = 2.5;
  context.beginPath();
  for (const slope of [-1, 1]) {
    context.moveTo(x - 6, y - 6 * slope);
    context.lineTo(x + 6, y + 6 * slope);
  }
  context.stroke();
}
