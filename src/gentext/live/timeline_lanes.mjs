// The picture of the timeline explorer: a lane for each family, a dot for each event, and as many names as have room.
//
// Every lane has rows for names and, below them, a rail for dots whose names found no room. Names are placed by weight
// (the chosen event, its lineage, then the most followed), so that none ever covers another, at any zoom.

import { node, onResize } from "./common.mjs";
import { colour } from "./controls.mjs";

const AXIS = 24; // CSS pixels for the years
const STRIP = 26; // for the whole history, with the window marked
const RAIL = 13; // below the names of a lane
const GAP = 9; // from a dot to its name
const REACH = 22; // how far from a dot a finger may land
const MOVED = 5; // pixels: less is a click

// { element, redraw, show({ window, families, chosen, related, visible }) }. Calls back with what the reader's hand wants:
// onWindow([start, end]), onChoose(index), onKey(event) for keys on the canvas.
export function timelineLanes({ events, families, range, role, signal, onWindow, onChoose, onKey }) {
  const canvas = node("canvas", { tabindex: 0, role: "application", class: "gl-lanes", "data-role": role });
  const weight = descendantCounts(events);
  let now = null;
  let places = []; // where each event in sight was drawn: { index, x, y, left, right }

  const width = () => canvas.clientWidth;
  const lanesHeight = () => canvas.clientHeight - AXIS - STRIP;
  const toX = (time) => ((time - now.window[0]) / (now.window[1] - now.window[0])) * width();
  const toTime = (x) => now.window[0] + (x / width()) * (now.window[1] - now.window[0]);
  const stripX = (time) => ((time - range[0]) / (range[1] - range[0])) * width();

  // ---- moving -------------------------------------------------------------------------------------------------------------

  const zoomAt = (x, factor) => {
    const time = toTime(x);
    onWindow(now.window.map((edge) => time + (edge - time) * factor));
  };
  const pan = (pixels) => {
    const years = (pixels / width()) * (now.window[1] - now.window[0]);
    onWindow(now.window.map((edge) => edge - years));
  };
  const position = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const fingers = new Map(); // pointer id -> [x, y]
  let travelled = 0;
  let onStrip = false;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    const at = position(event);
    fingers.set(event.pointerId, at);
    if (fingers.size === 1) {
      travelled = 0;
      onStrip = at[1] > canvas.clientHeight - STRIP;
      if (onStrip) centreOn(at[0]);
    }
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const at = position(event);
    travelled += Math.hypot(at[0] - before[0], at[1] - before[1]);
    if (fingers.size === 2) {
      const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const apart = (place) => Math.max(20, Math.abs(place[0] - other[0]));
      zoomAt((at[0] + other[0]) / 2, apart(before) / apart(at));
    } else if (onStrip) {
      centreOn(at[0]);
    } else if (travelled >= MOVED) {
      pan(at[0] - before[0]);
    }
    fingers.set(event.pointerId, at);
  });
  canvas.addEventListener("pointerup", (event) => {
    const at = fingers.get(event.pointerId);
    fingers.delete(event.pointerId);
    if (!at || travelled >= MOVED || onStrip || fingers.size > 0) return;
    const found = nearestPlace(at);
    if (found !== null) onChoose(found);
  });
  canvas.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
  // A wheel scrolls the page, as everywhere. With Ctrl (which is what a trackpad's pinch sends) or with the canvas in
  // focus it zooms; sideways it moves along.
  canvas.addEventListener(
    "wheel",
    (event) => {
      const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY);
      if (!sideways && !event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return;
      event.preventDefault();
      if (sideways) pan(-event.deltaX);
      else zoomAt(position(event)[0], Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 150));
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", onKey);

  function centreOn(x) {
    const half = (now.window[1] - now.window[0]) / 2;
    const time = range[0] + (x / width()) * (range[1] - range[0]);
    onWindow([time - half, time + half]);
  }

  function nearestPlace([x, y]) {
    let best = null;
    let least = REACH;
    for (const place of places) {
      const across = Math.max(place.left - x, 0, x - place.right);
      const distance = Math.hypot(across, y - place.y);
      if (distance < least) [best, least] = [place.index, distance];
    }
    return best;
  }

  // ---- drawing ------------------------------------------------------------------------------------------------------------

  function redraw() {
    if (!now || width() === 0) return; // not on the page yet
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width() * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const ink = palette(canvas, families.length);
    const small = width() < 480;
    const size = small ? 11.5 : 12.5;
    const face = getComputedStyle(canvas).fontFamily;
    const type = { plain: `${size}px ${face}`, bold: `700 ${size}px ${face}`, rowHeight: small ? 16 : 17 };
    context.textBaseline = "middle";
    drawYears(context, ink, type);
    const layout = arrange(context, type);
    drawLanes(context, layout, ink, type);
    drawLines(context, layout, ink);
    drawEvents(context, layout, ink, type);
    drawStrip(context, ink);
  }

  // Where every event of the shown families goes: { lanes, at: Map index -> { x, y, name: { x, align } or null } }.
  function arrange(context, type) {
    const shown = families.map((_, family) => family).filter((family) => now.families[family]);
    const height = lanesHeight() / Math.max(1, shown.length);
    const lanes = shown.map((family, order) => ({ family, top: order * height, height }));
    const at = new Map();
    places = [];
    for (const lane of lanes) {
      const rows = Math.max(1, Math.floor((height - RAIL - 3) / type.rowHeight));
      const taken = Array.from({ length: rows }, () => []);
      context.font = type.bold;
      taken[0].push([0, context.measureText(families[lane.family].name).width + 14]);
      const rail = lane.top + height - RAIL / 2;
      const members = events.map((_, index) => index).filter((index) => events[index].family === lane.family);
      const order = members.filter((index) => now.visible[index]).sort((a, b) => rank(a) - rank(b));
      for (const index of order) {
        const x = toX(events[index].time);
        context.font = now.chosen === index ? type.bold : type.plain;
        const length = context.measureText(events[index].name).width;
        const row = freeRow(taken, index, x, length, gapOf(index));
        if (row === null) {
          at.set(index, { x, y: rail, name: null });
          places.push({ index, x, y: rail, left: x, right: x });
          continue;
        }
        const [left, right] = row.span;
        taken[row.number].push([left - 4, right + 6]);
        const y = lane.top + 3 + (row.number + 0.5) * type.rowHeight;
        const side = row.before ? { x: x - gapOf(index), align: "right" } : { x: x + gapOf(index), align: "left" };
        at.set(index, { x, y, name: side });
        places.push({ index, x, y, left, right });
      }
      // Those out of sight have a place too: lines lead there.
      for (const index of members) if (!at.has(index)) at.set(index, { x: toX(events[index].time), y: rail, name: null });
    }
    return { lanes, at };
  }

  const gapOf = (index) => (index === now.chosen ? GAP + 4 : GAP); // it wears a ring
  const rank = (index) => {
    if (index === now.chosen) return -1e6;
    const kin = { parent: -4e4, child: -3e4, ancestor: -2e4, descendant: -1e4 }[now.related.get(index)] ?? 0;
    return kin - weight[index];
  };

  // The first row with room for a dot and its name, after the dot or else before it; null when there is none.
  function freeRow(taken, index, x, length, gap) {
    for (let step = 0; step < taken.length; step++) {
      const number = (index + step) % taken.length; // begin at a row of its own, so that a zoom moves few names
      for (const before of [false, true]) {
        const span = before ? [x - gap - length, x + 5] : [x - 5, x + gap + length];
        if (span[0] < 0 || span[1] > width()) continue;
        if (taken[number].every(([left, right]) => span[1] + 4 < left || span[0] - 4 > right)) return { number, before, span };
      }
    }
    return null;
  }

  function drawYears(context, ink, type) {
    const [start, end] = now.window;
    const room = width() / (end - start); // pixels a year
    const step = [1, 2, 5, 10, 20, 50].find((years) => years * room > 46) ?? 50;
    context.font = type.plain;
    context.textAlign = "center";
    for (let year = Math.ceil(start / step) * step; year <= end; year += step) {
      const x = toX(year);
      context.fillStyle = ink.line;
      context.fillRect(x, 0, 1, lanesHeight());
      context.fillStyle = ink.muted;
      if (x > 16 && x < width() - 16) context.fillText(String(year), x, lanesHeight() + AXIS / 2);
    }
  }

  function drawLanes(context, { lanes }, ink, type) {
    for (const { family, top, height } of lanes) {
      context.fillStyle = ink.line;
      context.fillRect(0, top + height - 1, width(), 1);
      const name = families[family].name;
      context.font = type.bold;
      context.textAlign = "left";
      halo(context, name, 4, top + 3 + type.rowHeight / 2, ink.muted, ink.ground);
    }
    if (lanes.length === 0) {
      context.fillStyle = ink.muted;
      context.textAlign = "center";
      context.font = type.plain;
      context.fillText("No family is chosen.", width() / 2, lanesHeight() / 2);
    }
  }

  // The chosen event's lineage: strong lines to parents and children, faint ones beyond.
  function drawLines(context, { at }, ink) {
    context.save();
    context.beginPath();
    context.rect(0, 0, width(), lanesHeight());
    context.clip();
    const kin = (index) => index === now.chosen || now.related.has(index);
    events.forEach((event, index) => {
      if (!kin(index) || !at.has(index)) return;
      for (const parent of event.parents) {
        if (!kin(parent) || !at.has(parent)) continue;
        const near = index === now.chosen || parent === now.chosen;
        // An ancestor's line to a descendant by another way is not this event's lineage.
        const sides = [parent, index].map((end) => (end === now.chosen ? 0 : EARLIER.has(now.related.get(end)) ? -1 : 1));
        if (sides[0] * sides[1] < 0) continue;
        const [from, to] = [at.get(parent), at.get(index)];
        context.strokeStyle = near ? ink.accent : ink.rail;
        context.globalAlpha = near ? 0.95 : 0.5;
        context.lineWidth = near ? 1.8 : 0.8;
        context.beginPath();
        const bend = Math.max(14, 0.4 * (to.x - from.x));
        context.moveTo(from.x, from.y);
        context.bezierCurveTo(from.x + bend, from.y, to.x - bend, to.y, to.x, to.y);
        context.stroke();
      }
    });
    context.restore();
  }

  function drawEvents(context, { at }, ink, type) {
    for (const { index } of [...places].reverse()) {
      const { x, y, name } = at.get(index);
      const kin = index === now.chosen || now.related.has(index);
      context.fillStyle = ink.families[events[index].family];
      disc(context, x, y, kin ? 4.5 : 3.4);
      if (index === now.chosen) {
        context.strokeStyle = ink.text;
        context.lineWidth = 2;
        context.beginPath();
        context.arc(x, y, 7.5, 0, 2 * Math.PI);
        context.stroke();
      }
      if (!name) continue;
      context.font = index === now.chosen ? type.bold : type.plain;
      context.textAlign = name.align;
      halo(context, events[index].name, name.x, y, kin ? ink.text : ink.muted, ink.ground);
    }
  }

  // The whole history, small, and which part of it is above.
  function drawStrip(context, ink) {
    const top = canvas.clientHeight - STRIP;
    context.fillStyle = ink.paper;
    context.fillRect(0, top, width(), STRIP);
    events.forEach((event, index) => {
      if (!now.families[event.family]) return;
      context.fillStyle = index === now.chosen ? ink.text : ink.families[event.family];
      const order = (event.family + 0.5) / families.length;
      disc(context, stripX(event.time), top + 3 + order * (STRIP - 6), index === now.chosen ? 3 : 1.4);
    });
    const [left, right] = now.window.map(stripX);
    context.strokeStyle = ink.accent;
    context.lineWidth = 2;
    context.strokeRect(left + 1, top + 1, Math.max(4, right - left - 2), STRIP - 2);
  }

  onResize(canvas, redraw, signal);
  return {
    element: canvas,
    redraw,
    show(next) {
      now = next;
      const [start, end] = now.window.map((edge) => Math.round(edge));
      const { name } = events[now.chosen];
      canvas.setAttribute(
        "aria-label",
        `Timeline from ${start} to ${end}, ${now.visible.filter(Boolean).length} events in sight. Chosen: ${name}. ` +
          "Left and right arrows go to the event before and after, up to a parent, down to a child; with Shift they move and zoom.",
      );
      redraw();
    },
  };
}

const EARLIER = new Set(["parent", "ancestor"]);

// How many events build on each, directly or through others: the more, the sooner its name finds room.
function descendantCounts(events) {
  const below = events.map(() => new Set());
  for (let index = events.length - 1; index >= 0; index--) {
    for (const parent of events[index].parents) {
      below[parent].add(index);
      for (const other of below[index]) below[parent].add(other);
    }
  }
  return below.map((set) => set.size);
}

function palette(element, families) {
  const get = (name) => `rgb(${colour(element, name)})`;
  const groups = Array.from({ length: families }, (_, family) => get(family === 0 ? "--gl-other" : `--gl-group-${family - 1}`));
  const names = ["text", "muted", "line", "paper", "rail", "accent"];
  const ground = getComputedStyle(element).backgroundColor; // on the book's pages it is the theme's
  return { ...Object.fromEntries(names.map((name) => [name, get(`--gl-${name}`)])), families: groups, ground };
}

function halo(context, text, x, y, fill, ground) {
  context.lineJoin = "round";
  context.lineWidth = 3;
  context.strokeStyle = ground;
  context.strokeText(text, x, y);
  context.fillStyle = fill;
  context.fillText(text, x, y);
}

function disc(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}
