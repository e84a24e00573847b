// The lower half of the sign generator (chapter 11): rub out a part of a sign, and have it filled in from what is left.

import { format, node, uniqueId } from "./common.mjs";
import { button, choice, colour, signPicker, signView, slider } from "./controls.mjs";
import { createRandom, toInk } from "./diffusion_math.mjs";
import { plan } from "./sign_walks.mjs";

const RESOLUTION = 256; // pixels of the canvas with the eraser
const ERASER = 3 / 32; // its radius, as a part of the frame

// { element, show(), redraw() }
export function createRestoration({ figure, state, images, jobs, walker, calm }) {
  const { signs, size } = state;
  const pixels = size * size;
  const told = state.classes.length > 0;
  const now = { sign: state.initial.sign, steps: state.initial.steps, resample: 5, told, running: false, attempts: 0, damages: 0 };
  const erased = new Uint8Array(pixels);
  const original = () => images[now.sign];
  const count = () => erased.reduce((sum, gone) => sum + gone, 0);

  // ---- the eraser -----------------------------------------------------------------------------------------------------------

  const help = uniqueId("help");
  const canvas = node("canvas", {
    width: RESOLUTION, height: RESOLUTION, class: "gl-pad", tabindex: 0, role: "application", "aria-describedby": help, "data-role": "eraser",
  });
  const rubber = { x: 0.5, y: 0.5, visible: false };
  const inside = (value) => Math.min(1, Math.max(0, value));

  // Rub out a disc around (x, y), both in [0, 1].
  function rub(x, y, radius = ERASER) {
    for (let i = 0; i < pixels; i++) {
      const [dx, dy] = [((i % size) + 0.5) / size - x, (Math.floor(i / size) + 0.5) / size - y];
      if (Math.hypot(dx, dy) <= radius) erased[i] = 1;
    }
  }
  // From one point of a stroke to the next, leaving no gap.
  function rubAlong([x0, y0], [x1, y1]) {
    const parts = Math.max(1, Math.ceil((2 * Math.hypot(x1 - x0, y1 - y0)) / ERASER));
    for (let part = 1; part <= parts; part++) rub(x0 + (part / parts) * (x1 - x0), y0 + (part / parts) * (y1 - y0));
    changed();
  }
  let last = null; // the stroke's last point
  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    return [inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    rubber.visible = false;
    last = point(event);
    rubAlong(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last || !canvas.hasPointerCapture(event.pointerId)) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const next of (events.length ? events : [event]).map(point)) {
      rubAlong(last, next);
      last = next;
    }
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (last = null));
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    rubber.visible = true;
    if (move) {
      const step = (event.shiftKey ? 4 : 1) / 32;
      [rubber.x, rubber.y] = [inside(rubber.x + step * move[0]), inside(rubber.y + step * move[1])];
      paint();
    } else {
      rubAlong([rubber.x, rubber.y], [rubber.x, rubber.y]);
    }
  });
  canvas.addEventListener("focus", () => {
    rubber.visible = canvas.matches(":focus-visible");
    paint();
  });
  canvas.addEventListener("blur", () => {
    rubber.visible = false;
    paint();
  });

  // The sign without what was rubbed out, which is hatched: nobody knows whether there was ink.
  function paint() {
    const context = canvas.getContext("2d");
    const [red, green, blue] = colour(canvas, "--gl-ink");
    const side = RESOLUTION / size;
    context.clearRect(0, 0, RESOLUTION, RESOLUTION);
    context.lineWidth = 1.6;
    context.strokeStyle = `rgb(${colour(canvas, "--gl-group-1")})`;
    for (let i = 0; i < pixels; i++) {
      const [left, top] = [(i % size) * side, Math.floor(i / size) * side];
      if (erased[i]) {
        context.beginPath();
        context.moveTo(left, top + side);
        context.lineTo(left + side, top);
        context.stroke();
      } else if (original()[i] > 0) {
        context.fillStyle = `rgba(${red}, ${green}, ${blue}, ${original()[i]})`;
        context.fillRect(left, top, side, side);
      }
    }
    if (!rubber.visible) return;
    context.lineWidth = 3;
    context.strokeStyle = `rgb(${colour(canvas, "--gl-accent")})`;
    context.beginPath();
    context.arc(rubber.x * RESOLUTION, rubber.y * RESOLUTION, ERASER * RESOLUTION, 0, 2 * Math.PI);
    context.stroke();
  }

  // ---- damage -----------------------------------------------------------------------------------------------------------------

  // A band across the sign, or all beyond a line, is lost; which is for chance to say.
  function damage() {
    const random = createRandom(now.damages++);
    const angle = 2 * Math.PI * random.uniform();
    const place = 0.24 * (random.uniform() - 0.5);
    const band = random.uniform() < 0.5;
    erased.forEach((_, i) => {
      const [x, y] = [((i % size) + 0.5) / size - 0.5, (Math.floor(i / size) + 0.5) / size - 0.5];
      const beyond = x * Math.cos(angle) + y * Math.sin(angle) - place + 0.02 * Math.sin(25 * (y * Math.cos(angle) - x * Math.sin(angle)));
      erased[i] = (band ? Math.abs(beyond) < 0.11 : beyond > 0.17) ? 1 : 0;
    });
  }

  // ---- restoring --------------------------------------------------------------------------------------------------------------

  const restored = signView({ size, role: "restored", caption: "not restored yet", large: true });
  const whole = signView({ size, role: "original", caption: "the whole sign", large: true });
  const verdict = node("p", { class: "gl-value", "data-role": "verdict", "data-drawn": true });
  const summary = node("p", { class: "gl-summary", "data-role": "restoration-plan", "data-drawn": true });

  function changed(record = false) {
    if (now.running) jobs.stop();
    forget();
    paint();
    showPlan(record);
    const gone = count();
    play.disabled = gone === 0;
    reset.disabled = gone === 0;
    canvas.setAttribute("aria-label", `${signs.words[now.sign]}, with ${gone} of ${pixels} pixels rubbed out`);
  }
  function forget() {
    restored.clear("Not restored yet");
    restored.caption.textContent = "not restored yet";
    verdict.textContent = "";
  }
  const label = () => (now.told ? signs.labels[now.sign] : null);
  const setting = () => ({ label: label(), weight: 1, steps: now.steps, resample: now.resample });
  function showPlan(record) {
    const { calls } = plan({ figure, state, steps: now.steps, resample: now.resample, record });
    const who = !told ? "" : now.told ? `, told the script (${signs.classes[label()]})` : ", not told the script";
    const pace = walker.pace();
    summary.textContent = `${count()} of ${pixels.toLocaleString("en")} pixels are gone. ${now.steps} steps, each taken ` +
      `${now.resample === 1 ? "once" : `${now.resample} times`}: ${calls} questions to the network${who}${pace ? `, about ${((calls * pace) / 1000).toFixed(1)} s here` : ""}.`;
  }

  // Root mean square of the difference from the original, over what was rubbed out; ink in [0, 1].
  function miss(ink) {
    let sum = 0;
    for (let i = 0; i < pixels; i++) if (erased[i]) sum += (ink[i] - original()[i]) ** 2;
    return Math.sqrt(sum / count());
  }

  const restore = () =>
    jobs.run(async (alive) => {
      now.running = true;
      now.attempts += 1;
      const [picture, known] = [original().map((ink) => 2 * ink - 1), Uint8Array.from(erased, (gone) => 1 - gone)];
      picture.forEach((_, i) => known[i] || (picture[i] = 0)); // what is not known plays no part
      const total = now.steps * now.resample;
      let asked = 0;
      forget();
      restored.show(toInk(picture.map((value, i) => (known[i] ? value : -1))), `Restoration of ${signs.words[now.sign]}, attempt ${now.attempts} begins`);
      restored.caption.textContent = `attempt ${now.attempts}`;
      showRunning();
      const done = await walker.restore(state.streams * now.attempts + state.streams / 2, picture, known, setting(), {
        alive,
        onStep({ index, sigma, x, x0 }) {
          if (calm && sigma > 0 && index % 5 !== 0) return;
          // What is known stands from the start; the rest is the network's guess.
          const ink = toInk(sigma > 0 ? x0.map((value, i) => (known[i] ? picture[i] : value)) : x);
          restored.show(ink, `Restoration of ${signs.words[now.sign]}, attempt ${now.attempts}, after step ${index} of ${now.steps}`);
          restored.caption.textContent = `attempt ${now.attempts}, step ${index} of ${now.steps}`;
          if (sigma > 0) return;
          verdict.textContent = `Where the sign was rubbed out, attempt ${now.attempts} differs from it by ${format(miss(ink))} of full ink ` +
            `(root mean square); blank paper would by ${format(miss(new Float32Array(pixels)))}.`;
        },
        onCall(some) {
          asked += some;
          progress.max = total;
          progress.value = asked;
        },
      });
      if (done) figure.say(`Restored. ${verdict.textContent}`);
    }, () => {
      now.running = false;
      showRunning();
    });

  function showRunning() {
    play.textContent = now.running ? "Stop" : now.attempts ? "Restore again" : "Restore";
    progress.hidden = !now.running;
    if (now.running) progress.removeAttribute("value");
    else showPlan(false);
  }

  // ---- controls ---------------------------------------------------------------------------------------------------------------

  const touch = () => changed(true);
  const picker = signPicker({
    signs, value: now.sign, role: "damaged",
    onChange: (index) => {
      now.sign = index;
      whole.show(original(), signs.words[index]);
      whole.caption.textContent = signs.names[index];
      touch();
    },
  });
  const steps = slider({
    label: "Steps", min: 5, max: 50, step: 1, value: now.steps, role: "restore-steps", className: "gl-wide", marks: 9, describe: String,
    onInput: (value) => {
      now.steps = value;
      touch();
    },
  });
  const resample = slider({
    label: "Each step", min: 1, max: 10, step: 1, value: now.resample, role: "resample", className: "gl-wide", marks: 9,
    describe: (value) => (value === 1 ? "once" : `${value} times`),
    onInput: (value) => {
      now.resample = value;
      touch();
    },
  });
  const knows = choice({
    label: "The network knows", options: [["picture", "what is left"], ["script", "and the script"]], value: told ? "script" : "picture", role: "told",
    onChange: (key) => {
      now.told = key === "script";
      touch();
    },
  });
  const play = button("Restore", () => (now.running ? jobs.stop() : restore()), { "data-role": "play", "data-what": "restore" });
  const random = button("Random damage", () => {
    damage();
    touch();
  }, { "data-role": "random" });
  const reset = button("Undo the damage", () => {
    erased.fill(0);
    touch();
  }, { "data-role": "reset" });
  const progress = node("progress", { "aria-label": "Progress of the restoration", hidden: true });

  const element = node(
    "div",
    { class: "gl-squeeze", role: "group", "aria-label": "Restoration of a damaged sign" },
    picker.element,
    node("div", { class: "gl-repair" },
      node("figure", { class: "gl-sign gl-large" }, canvas, node("figcaption", {}, "rub out a part of it")), restored.element, whole.element),
    node("p", { id: help, class: "gl-help" }, "Rub with mouse or finger. By keyboard: arrows move the eraser (Shift: faster), ", node("kbd", {}, "Space"), " rubs."),
    node("div", { class: "gl-buttons" }, random, play, reset),
    progress,
    steps.element,
    resample.element,
    told ? knows.element : null,
    summary,
    verdict,
  );
  whole.show(original(), signs.words[now.sign]);
  whole.caption.textContent = signs.names[now.sign];
  damage();
  return {
    element,
    show() {
      whole.redraw(); // by now the style sheet says what colour ink has
      changed();
    },
    redraw() {
      paint();
      restored.redraw();
      whole.redraw();
    },
  };
}
