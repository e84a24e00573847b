// A pad to draw a sign on, with mouse, finger, pen or keyboard. What comes out looks like the data: centred, of their
// size, with strokes as wide as theirs.

import { node, uniqueId } from "./common.mjs";
import { button, colour } from "./controls.mjs";

const RESOLUTION = 256; // pixels of the pad itself
const FILL = 26 / 32; // the data's signs fill this much of their frame
const PEN = 1.3 / 32; // half a stroke's width, as a part of the frame
const LARGEST_ZOOM = 3; // a small scribble is not blown up further than that

// { element, clear(), redraw() }; calls onChange(values: Float32Array of size × size with ink in [0, 1], empty: boolean).
export function drawingPad({ size, role, onChange }) {
  const help = uniqueId("help");
  const canvas = node("canvas", {
    width: RESOLUTION,
    height: RESOLUTION,
    class: "gl-pad",
    tabindex: 0,
    role: "application",
    "aria-label": "Drawing pad, empty",
    "aria-describedby": help,
    "data-role": role,
  });
  const strokes = []; // each a list of points [x, y] in [0, 1]
  const pen = { x: 0.5, y: 0.5, down: false, visible: false };
  let drawing = null; // the stroke under way

  const changed = () => {
    paint(canvas, strokes, pen);
    const count = strokes.length;
    canvas.setAttribute("aria-label", `Drawing pad, ${count === 0 ? "empty" : count === 1 ? "1 stroke" : `${count} strokes`}`);
    onChange(rasterise(strokes, size), count === 0);
  };

  // Mouse, finger, pen: one stroke from press to release. The style sheet turns scrolling off on the pad.
  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    const inside = (value) => Math.min(1, Math.max(0, value));
    return [inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    pen.visible = pen.down = false;
    drawing = [point(event)];
    strokes.push(drawing);
    changed();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drawing || !canvas.hasPointerCapture(event.pointerId)) return;
    // A fast hand makes several points between two frames; without them its curves become corners.
    const events = event.getCoalescedEvents?.() ?? [];
    drawing.push(...(events.length ? events : [event]).map(point));
    changed();
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (drawing = null));

  // Keyboard: arrows move the pen, space puts it down and lifts it.
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    if (move) {
      const step = (event.shiftKey ? 4 : 1) / 32;
      pen.x = Math.min(1, Math.max(0, pen.x + step * move[0]));
      pen.y = Math.min(1, Math.max(0, pen.y + step * move[1]));
      if (pen.down) drawing.push([pen.x, pen.y]);
    } else if (event.key === " ") {
      pen.down = !pen.down;
      drawing = pen.down ? [[pen.x, pen.y]] : null;
      if (drawing) strokes.push(drawing);
    } else if (event.key === "Backspace") {
      undo();
    } else {
      return;
    }
    event.preventDefault();
    pen.visible = true;
    if (pen.down || !move) changed();
    else paint(canvas, strokes, pen);
  });
  canvas.addEventListener("focus", () => {
    pen.visible = canvas.matches(":focus-visible");
    paint(canvas, strokes, pen);
  });
  canvas.addEventListener("blur", () => {
    Object.assign(pen, { visible: false, down: false });
    drawing = null;
    paint(canvas, strokes, pen);
  });

  const undo = () => {
    strokes.pop();
    drawing = null;
    pen.down = false;
    changed();
  };
  const clear = () => {
    strokes.length = 0;
    undo();
  };
  const element = node(
    "div",
    { class: "gl-drawing" },
    canvas,
    node(
      "div",
      { class: "gl-side" },
      node("p", { id: help, class: "gl-help" }, "Draw with mouse or finger. By keyboard: arrows move the pen (Shift: faster), ",
        node("kbd", {}, "Space"), " puts it down and lifts it, ", node("kbd", {}, "Backspace"), " takes back a stroke."),
      node("div", { class: "gl-buttons" }, button("Undo", undo, { "data-role": `${role}-undo` }),
        button("Clear", clear, { "data-role": `${role}-clear` })),
    ),
  );
  return { element, clear, redraw: () => paint(canvas, strokes, pen) };
}

// The pad as the reader sees it: strokes where the hand made them, and the keyboard's pen as a ring.
function paint(canvas, strokes, pen) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, RESOLUTION, RESOLUTION);
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = 2 * PEN * RESOLUTION;
  context.strokeStyle = `rgb(${colour(canvas, "--gl-ink")})`;
  for (const stroke of strokes) {
    context.beginPath();
    context.moveTo(stroke[0][0] * RESOLUTION, stroke[0][1] * RESOLUTION);
    for (const [x, y] of stroke) context.lineTo(x * RESOLUTION, y * RESOLUTION);
    context.stroke();
  }
  if (!pen.visible) return;
  context.lineWidth = 3;
  context.strokeStyle = `rgb(${colour(canvas, "--gl-accent")})`;
  context.beginPath();
  context.arc(pen.x * RESOLUTION, pen.y * RESOLUTION, pen.down ? 6 : 12, 0, 2 * Math.PI);
  context.stroke();
}

// Strokes as ink on size × size pixels: the drawing's bounding box centred and scaled as the data's signs are, the pen
// always equally wide. A pixel's ink falls from 1 to 0 over one pixel at the stroke's edge.
export function rasterise(strokes, size) {
  const values = new Float32Array(size * size);
  const points = strokes.flat();
  if (points.length === 0) return values;
  const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const zoom = Math.min(LARGEST_ZOOM, (FILL - 2 * PEN) / Math.max(right - left, bottom - top, 1e-6));
  const place = ([x, y]) => [
    size * (0.5 + zoom * (x - (left + right) / 2)) - 0.5,
    size * (0.5 + zoom * (y - (top + bottom) / 2)) - 0.5,
  ];
  const radius = PEN * size;
  for (const stroke of strokes) {
    const placed = stroke.map(place);
    placed.forEach((end, index) => inkSegment(values, size, placed[Math.max(0, index - 1)], end, radius));
  }
  return values;
}

// Ink one straight piece of a stroke, looking only at the pixels around it.
function inkSegment(values, size, [x0, y0], [x1, y1], radius) {
  const reach = radius + 1;
  const clip = (value) => Math.min(size - 1, Math.max(0, value));
  const [dx, dy] = [x1 - x0, y1 - y0];
  const length = dx * dx + dy * dy;
  for (let y = clip(Math.floor(Math.min(y0, y1) - reach)); y <= clip(Math.ceil(Math.max(y0, y1) + reach)); y++) {
    for (let x = clip(Math.floor(Math.min(x0, x1) - reach)); x <= clip(Math.ceil(Math.max(x0, x1) + reach)); x++) {
      const t = length > 0 ? Math.min(1, Math.max(0, ((x - x0) * dx + (y - y0) * dy) / length)) : 0;
      const ink = radius + 0.5 - Math.hypot(x - x0 - t * dx, y - y0 - t * dy);
      values[y * size + x] = Math.max(values[y * size + x], Math.min(1, Math.max(0, ink)));
    }
  }
}
