// A film strip: states of a walk from left to right, two pictures each, on one canvas. What is still to come is empty.

import { node, onResize } from "./common.mjs";
import { colour } from "./controls.mjs";

const GAP = 4; // CSS pixels between pictures
const WORDS = 17; // height of the line of labels
const LARGEST = 72; // side of a picture
const NARROW = 560; // a canvas below this width has room for fewer frames

// { element, show(frames, alt), redraw() }. frames(count): what stands in at most `count` frames, each { label, above,
// below, here }; above and below are Float32Arrays of size × size with ink in [0, 1], or null.
export function filmStrip({ size, role, caption, signal }) {
  const canvas = node("canvas", { role: "img", "aria-label": caption, "data-role": role });
  const element = node("figure", { class: "gl-strip" }, canvas, node("figcaption", {}, caption));
  const tile = node("canvas", { width: size, height: size });
  let framed = () => [];

  function paintInk(context, values, [red, green, blue], left, top, side) {
    const image = new ImageData(size, size);
    values.forEach((value, i) => image.data.set([red, green, blue, Math.round(255 * value)], 4 * i));
    tile.getContext("2d").putImageData(image, 0, 0);
    context.drawImage(tile, left, top, side, side);
  }
  function redraw() {
    const width = canvas.clientWidth;
    const shown = framed(width < NARROW ? 6 : 11);
    if (!width || shown.length === 0) return;
    const side = Math.min(LARGEST, (width - GAP * (shown.length - 1)) / shown.length);
    const height = 2 * side + GAP + WORDS;
    const scale = devicePixelRatio || 1;
    canvas.style.height = `${height}px`;
    Object.assign(canvas, { width: Math.round(width * scale), height: Math.round(height * scale) });
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    context.imageSmoothingEnabled = false;
    const style = (name) => `rgb(${colour(canvas, name)})`;
    const ink = colour(canvas, "--gl-ink");
    context.font = `11px ${getComputedStyle(canvas).fontFamily}`;
    context.textAlign = "center";
    shown.forEach(({ label, above, below, here }, index) => {
      const left = index * (side + GAP);
      [above, below].forEach((values, line) => {
        const top = WORDS + line * (side + GAP);
        context.fillStyle = style("--gl-paper");
        context.fillRect(left, top, side, side);
        if (values) paintInk(context, values, ink, left, top, side);
      });
      context.fillStyle = style(here ? "--gl-accent" : "--gl-muted");
      context.fillText(label, left + side / 2, WORDS - 5);
      if (!here) return;
      context.strokeStyle = style("--gl-accent");
      context.lineWidth = 2;
      context.strokeRect(left + 1, WORDS + 1, side - 2, 2 * side + GAP - 2);
    });
  }
  onResize(canvas, () => requestAnimationFrame(redraw), signal); // afterwards: it sets the canvas's height

  return {
    element,
    show(frames, alt) {
      framed = frames;
      canvas.setAttribute("aria-label", alt);
      redraw();
    },
    redraw,
  };
}
