// Two pictures of the plane for chapter 1: one with points to move over a density, one with a model's samples.

import { format, node, onResize } from "./common.mjs";
import { colour } from "./controls.mjs";

const STEP = 1 / 50; // of the box, for one press of an arrow key; five times that with Shift
const NEAR = 14; // CSS pixels within which a point counts as under the cursor
const OUTSIDE = 20; // CSS pixels off the edge at which a dragged point is let fall

export const FEWEST = 2; // points that must stay

// ---- points to move -------------------------------------------------------------------------------------------------

// { element, points, setPoints(list), setView(view), add(), remove(), next(), redraw() }; calls onChange(points) when they
// have changed. view: { grid: { values, count, smooth }, full, ellipses, radius, heldOut }.
export function pointPlane({ box, role, signal, help, most, onChange }) {
  const canvas = node("canvas", {
    tabindex: 0, role: "application", class: "gl-canvas", "aria-describedby": help, "data-role": role,
  });
  const now = { points: [], cursor: [0.5, 0.5].map((part, axis) => box.low[axis] + part * box.side), held: null, keys: false };
  let view = null;

  const [toCanvas, toPlane] = mapping(canvas, box);
  const inside = (point) =>
    point.map((value, axis) => Math.fround(Math.min(box.low[axis] + box.side, Math.max(box.low[axis], value))));

  // The point under the cursor: the nearest, if it is near.
  function under(at = now.cursor, reach = NEAR) {
    const [x, y] = toCanvas(at);
    let best = null;
    let least = reach;
    now.points.forEach((point, index) => {
      const [px, py] = toCanvas(point);
      const distance = Math.hypot(px - x, py - y);
      if (distance < least) [best, least] = [index, distance];
    });
    return best;
  }

  function changed() {
    describe();
    onChange(now.points);
  }
  function describe() {
    const here = now.held !== null ? "holding a dot" : under() !== null ? "on a dot" : "on free ground";
    canvas.setAttribute(
      "aria-label",
      `${now.points.length} dots over the model's density. Cursor at ${format(now.cursor[0])}, ${format(now.cursor[1])}, ${here}.`,
    );
  }
  const place = (index, at) => {
    now.points = now.points.with(index, inside(at));
    now.cursor = now.points[index];
  };
  const removeAt = (index) => {
    if (index === null || now.points.length <= FEWEST) return;
    now.points = now.points.toSpliced(index, 1);
    now.held = null;
    changed();
  };
  const addAt = (at) => {
    if (now.points.length >= most) return false;
    now.points = [...now.points, inside(at)];
    now.cursor = now.points.at(-1);
    return true;
  };

  // ---- mouse, finger, pen: press on a dot takes it, press elsewhere makes one; off the edge it is let fall -------------

  let dragged = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    const at = toPlane(event);
    Object.assign(now, { keys: false, held: null, cursor: inside(at) });
    dragged = under(at, event.pointerType === "touch" ? 2 * NEAR : NEAR);
    if (dragged === null && addAt(at)) dragged = now.points.length - 1;
    changed();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (dragged === null) return;
    place(dragged, toPlane(event));
    changed();
  });
  canvas.addEventListener("pointerup", (event) => {
    const index = dragged;
    dragged = null;
    if (index === null) return;
    const frame = canvas.getBoundingClientRect();
    const off = Math.max(frame.left - event.clientX, event.clientX - frame.right, frame.top - event.clientY, event.clientY - frame.bottom);
    if (off > OUTSIDE) removeAt(index);
  });
  canvas.addEventListener("pointercancel", () => (dragged = null));

  // ---- keyboard: arrows move, Space takes and puts down or makes a dot, Delete removes one ------------------------------

  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  canvas.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    now.keys = true;
    if (move) {
      const step = STEP * box.side * (event.shiftKey ? 5 : 1);
      const to = inside(now.cursor.map((value, axis) => value + step * move[axis]));
      if (now.held === null) now.cursor = to;
      else place(now.held, to);
      if (now.held === null) describe();
      else changed();
    } else if (event.key === " ") {
      if (now.held !== null) now.held = null;
      else if (under() !== null) place((now.held = under()), now.points[under()]);
      else addAt(now.cursor);
      changed();
    } else if (event.key === "Delete" || event.key === "Backspace") {
      removeAt(now.held ?? under());
    } else {
      return;
    }
    event.preventDefault();
    redraw();
  });
  canvas.addEventListener("focus", () => {
    now.keys = canvas.matches(":focus-visible");
    redraw();
  });
  canvas.addEventListener("blur", () => {
    now.held = null;
    redraw();
  });

  // ---- drawing --------------------------------------------------------------------------------------------------------

  function redraw() {
    const context = prepare(canvas);
    if (!context || !view) return;
    drawGrid(context, canvas, view);
    context.lineWidth = 1.5;
    if (view.heldOut) {
      context.strokeStyle = `rgb(${colour(canvas, "--gl-group-2")})`;
      for (const point of view.heldOut) circle(context, toCanvas(point), 3, "stroke");
    }
    context.fillStyle = `rgb(${colour(canvas, "--gl-ink")})`;
    const size = now.points.length > 150 ? 2.2 : 3.2;
    for (const point of now.points) circle(context, toCanvas(point), size, "fill");
    drawEllipses(context, canvas, view, toCanvas, box);
    drawCursor(context);
  }

  function drawCursor(context) {
    const pointed = now.held ?? under();
    context.strokeStyle = `rgb(${colour(canvas, "--gl-text")})`;
    context.lineWidth = 2;
    if (pointed !== null && (now.keys || dragged !== null)) {
      circle(context, toCanvas(now.points[pointed]), now.held === null ? 9 : 6, "stroke");
    }
    if (view.radius) {
      context.setLineDash([4, 3]);
      circle(context, toCanvas(now.cursor), (view.radius / box.side) * canvas.clientWidth, "stroke");
      context.setLineDash([]);
    }
    if (!now.keys) return;
    const [x, y] = toCanvas(now.cursor);
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [0, 1]]) {
      context.moveTo(x - 15 * dx, y - 15 * dy);
      context.lineTo(x + 15 * dx, y + 15 * dy);
    }
    context.stroke();
  }

  onResize(canvas, redraw, signal);
  return {
    element: canvas,
    redraw,
    get points() {
      return now.points;
    },
    setPoints(points) {
      Object.assign(now, { points, held: null, cursor: points[0] });
      describe();
    },
    setView(next) {
      view = next;
      redraw();
    },
    add() {
      now.keys = true;
      if (addAt(now.cursor)) changed();
    },
    remove() {
      now.keys = true;
      const nearest = under(now.cursor, Infinity);
      now.cursor = now.points[nearest];
      removeAt(nearest);
    },
    // The cursor goes to the dot that comes next, from left to right.
    next() {
      now.keys = true;
      const order = [...now.points].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
      const [x, y] = now.cursor;
      now.cursor = order.find((point) => point[0] > x || (point[0] === x && point[1] > y)) ?? order[0];
      describe();
      redraw();
    },
  };
}

// ---- samples --------------------------------------------------------------------------------------------------------

// { element, show(points, words) }: dots on paper.
export function samplePlane({ box, role, signal }) {
  const canvas = node("canvas", { role: "img", class: "gl-canvas gl-still", "aria-label": "Samples", "data-role": role });
  const [toCanvas] = mapping(canvas, box);
  let points = [];
  function redraw() {
    const context = prepare(canvas);
    if (!context) return;
    context.fillStyle = `rgb(${colour(canvas, "--gl-group-0")})`;
    const size = points.length > 150 ? 2.2 : 3.2;
    for (const point of points) circle(context, toCanvas(point), size, "fill");
  }
  onResize(canvas, redraw, signal);
  return {
    element: canvas,
    redraw,
    show(next, words) {
      points = next;
      canvas.setAttribute("aria-label", words);
      redraw();
    },
  };
}

// ---- what they share ------------------------------------------------------------------------------------------------

// The plane and the canvas in CSS pixels: [point -> place, pointer event -> point]. The second axis points up.
function mapping(canvas, { low, side }) {
  const toCanvas = ([x, y]) => [
    ((x - low[0]) / side) * canvas.clientWidth,
    (1 - (y - low[1]) / side) * canvas.clientWidth,
  ];
  const toPlane = (event) => {
    const frame = canvas.getBoundingClientRect();
    return [
      low[0] + ((event.clientX - frame.left) / frame.width) * side,
      low[1] + (1 - (event.clientY - frame.top) / frame.height) * side,
    ];
  };
  return [toCanvas, toPlane];
}

// An empty sheet of paper at the screen's resolution; null while the canvas is not on the page.
function prepare(canvas) {
  const width = canvas.clientWidth;
  if (width === 0) return null;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = canvas.height = Math.round(width * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.fillStyle = `rgb(${colour(canvas, "--gl-paper")})`;
  context.fillRect(0, 0, width, width);
  return context;
}

// The density as orange on paper. Half as strong as can be where it is `full`, so that a spike does not wash out the rest.
function drawGrid(context, canvas, { grid: { values, count, smooth }, full }) {
  const tile = node("canvas", { width: count, height: count });
  const image = new ImageData(count, count);
  const [red, green, blue] = colour(canvas, "--gl-group-1");
  for (let row = 0; row < count; row++) {
    for (let column = 0; column < count; column++) {
      const value = values[row * count + column];
      const at = 4 * ((count - 1 - row) * count + column); // rows of a picture run from the top down
      image.data.set([red, green, blue, Math.round((255 * value) / (value + full))], at);
    }
  }
  tile.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = smooth;
  context.drawImage(tile, 0, 0, canvas.clientWidth, canvas.clientWidth);
}

// Each component as the ellipse of two standard deviations, fainter where it has little weight, and its middle.
function drawEllipses(context, canvas, { ellipses }, toCanvas, { side }) {
  if (!ellipses) return;
  const { weights, means, covs } = ellipses;
  const scale = (2 * canvas.clientWidth) / side;
  context.strokeStyle = context.fillStyle = `rgb(${colour(canvas, "--gl-group-0")})`;
  context.lineWidth = 2;
  means.forEach((mean, k) => {
    const [xx, xy, yy] = covs[k];
    const half = Math.hypot((xx - yy) / 2, xy);
    const [large, small] = [(xx + yy) / 2 + half, Math.max(0, (xx + yy) / 2 - half)];
    const [x, y] = toCanvas(mean);
    context.globalAlpha = Math.min(1, 0.25 + weights[k] * weights.length * 0.6);
    context.beginPath();
    context.ellipse(x, y, scale * Math.sqrt(large), scale * Math.sqrt(small), -0.5 * Math.atan2(2 * xy, xx - yy), 0, 2 * Math.PI);
    context.stroke();
    circle(context, [x, y], 2.5, "fill");
  });
  context.globalAlpha = 1;
}

function circle(context, [x, y], radius, how) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context[how]();
}
