// The timestep slider (chapter 10): a sign under the noise of any time t, what the network still sees in it, and the walk
// back, step by step. `diffusion_steps.py` says what is in the state.

import { createFigure, decodeArray, format, latest, nearest, node, unpackImages } from "./common.mjs";
import { button, choice, select, signPicker, signView, slider } from "./controls.mjs";
import { createChain } from "./diffusion_chain.mjs";
import { createRandom, toInk } from "./diffusion_math.mjs";
import { filmStrip } from "./film_strip.mjs";
import { drawingPad } from "./pad.mjs";

const FILM = 3000; // milliseconds that playing a walk takes at least

export default { render };

const number = (value) => ({ shape: [1], values: Float64Array.of(value) });

// An amount of any size for a person: two digits that count.
function amount(value) {
  if (value > 0 && value < 0.001) return "less than 0.001";
  return value >= 100 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(2)));
}

async function render({ model, el, signal }) {
  const state = model.get("state");
  const figure = createFigure({ model, el, signal, name: "diffusion-steps" });
  const images = await unpackImages(state.signs.images);
  const { size, signs, classes, initial } = state;
  const chain = createChain({ logAlphaBar: decodeArray(state.log_alpha_bar).values, clipped: state.clip });
  const picture = (values) => ({ shape: [1, 1, size, size], values });
  const centred = (ink) => ink.map((value) => 2 * value - 1);
  const likeness = (x) => signs.words[nearest(toInk(x), images)];

  const now = {
    x0: centred(images[initial.sign]),
    words: signs.words[initial.sign], // what x₀ is
    t: initial.t,
    seed: initial.seed, // of the noise on x₀; walks have seeds of their own
    noise: null, // ε
    xt: null,
    guess: decodeArray(initial.guess).values, // of x₀, at x_t
    told: classes.length > 0,
    script: signs.labels[initial.sign], // what the network is told then
    walk: null,
    walks: 1, // the number of the walk, which is its seed
    running: false,
  };
  const fresh = (seed) => createRandom(seed).normals(size * size);
  now.noise = fresh(now.seed);
  now.xt = chain.noised(now.x0, now.t, now.noise);

  // ---- the network ------------------------------------------------------------------------------------------------------

  // What the network takes x_t to be. At t = 0 there is no noise, and nothing to ask.
  async function look(xt, t) {
    if (t === 0) return xt;
    const label = classes.length ? { label: { shape: [1], values: Float32Array.of(now.told ? now.script : classes.length) } } : {};
    const log_snr = { shape: [1], values: Float32Array.of(chain.logSnr(t)) };
    const { x0 } = await figure.call("denoiser", { x_t: picture(xt), log_snr, ...label });
    return chain.estimate(x0.values);
  }

  // ---- noise on a sign --------------------------------------------------------------------------------------------------

  const clean = signView({ size, role: "clean", caption: "the sign, x₀" });
  const noisy = signView({ size, role: "noisy" });
  const guessed = signView({ size, role: "guess", caption: "the network's guess" });
  const note = node("p", { class: "gl-value", "data-drawn": true, "data-role": "note" });

  function showClean() {
    clean.show(toInk(now.x0), `The sign x₀: ${now.words}`);
  }
  function showNoisy() {
    noisy.show(toInk(now.xt), `The same under the noise of t = ${now.t}`);
    noisy.caption.textContent = `xₜ at t = ${now.t}`;
  }
  function showGuess() {
    const like = likeness(now.guess);
    guessed.show(toInk(now.guess), `The network's guess of x₀ at t = ${now.t}, most like the test sign ${like}`);
    if (now.t === 0) {
      note.textContent = "t = 0: no noise yet, and nothing to guess.";
    } else {
      const error = Math.sqrt(now.guess.reduce((sum, value, i) => sum + (value - now.x0[i]) ** 2, 0) / now.guess.length) / 2;
      note.textContent =
        `σ = ${amount(chain.sigma(now.t))} parts of noise to one of sign, a signal-to-noise ratio of ${amount(Math.exp(chain.logSnr(now.t)))}. ` +
        `The guess is wrong by ${format(100 * error, error < 0.1 ? 1 : 0)} % of full ink (root mean square). It is most like: ${like}.`;
    }
    figure.say(note.textContent);
  }

  // Put the noise on x₀ anew and let the network look. A walk from there begins anew; others only if `restart`.
  function update(restart = false) {
    const started = performance.now();
    now.xt = chain.noised(now.x0, now.t, now.noise);
    const inputs = { x0: picture(now.x0), t: number(now.t), noise: picture(now.noise) };
    figure.computed("noised", inputs, { x_t: picture(now.xt), log_snr: number(chain.logSnr(now.t)) }, started);
    showNoisy();
    if (restart || from.value === "xt") begin();
    refresh();
  }
  const refresh = latest(async () => {
    const { xt, t, walk } = now;
    try {
      now.guess = await look(xt, t);
      if (now.xt !== xt) return; // moved on meanwhile, and another look is coming
      showGuess();
      if (walk.path[0].x === xt) walk.path[0].guess = now.guess;
      await guessAt(walk, 0);
      if (walk === now.walk) showWalk();
    } catch (error) {
      if (!figure.signal.aborted) figure.fail(error);
    }
  });

  // ---- the walk back ----------------------------------------------------------------------------------------------------

  const here = signView({ size, role: "walk-state" });
  const hereGuess = signView({ size, role: "walk-guess", caption: "the guess there" });
  const summary = node("p", { class: "gl-value", "data-drawn": true, "data-role": "walk-summary" });
  const strip = filmStrip({
    size,
    role: "strip",
    caption: "The walk from left to right: above, the states; below, the network's guess at each.",
    signal: figure.signal,
  });

  // Stand at the start of a walk. Its number decides the noise of every step, and the start where that is pure noise.
  function begin() {
    pause();
    const random = createRandom(1000 + now.walks);
    const noisyStart = from.value === "noise";
    const x = noisyStart ? random.normals(size * size) : now.xt;
    now.walk = {
      random,
      times: chain.visits(noisyStart ? chain.last : now.t, Number(visited.value)),
      path: [{ x, guess: null }], // the states so far, at the first of `times`
      at: 0, // the one that is shown
    };
    showWalk();
  }
  async function guessAt(walk, k) {
    walk.path[k].guess ??= await look(walk.path[k].x, walk.times[k]);
  }
  const atEnd = (walk) => walk.at === walk.times.length - 1;

  // To the next state: one that was visited before, or a new one.
  async function advance(walk) {
    if (atEnd(walk)) return;
    const k = walk.at;
    if (k === walk.path.length - 1) {
      await guessAt(walk, k);
      const started = performance.now();
      const [t, s] = [walk.times[k], walk.times[k + 1]];
      const [{ x: xt, guess: x0 }, noise] = [walk.path[k], walk.random.normals(size * size)];
      const x = chain.stepBack({ x0, xt, t, s, noise });
      const inputs = { x0: picture(x0), x_t: picture(xt), t: number(t), s: number(s), noise: picture(noise) };
      figure.computed("step_back", inputs, { x_s: picture(x) }, started);
      walk.path.push({ x, guess: null });
    }
    await guessAt(walk, k + 1); // known where it was visited
    if (walk.at === k) walk.at = k + 1; // else the reader has gone elsewhere meanwhile
  }

  // One thing after the other, in the order of the touches.
  let queue = Promise.resolve();
  function enqueue(work) {
    queue = queue.then(work).catch((error) => {
      pause();
      if (!figure.signal.aborted) figure.fail(error);
    });
    return queue;
  }
  function step() {
    pause();
    const { walk } = now;
    enqueue(async () => {
      if (walk !== now.walk) return;
      await advance(walk);
      if (walk === now.walk) showWalk(true);
    });
  }
  function back() {
    pause();
    moveTo(now.walk.at - 1);
  }
  function moveTo(k) {
    now.walk.at = Math.min(now.walk.path.length - 1, Math.max(0, k));
    showWalk(true);
  }
  function pause() {
    now.running = false;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  }
  // Those who asked for less motion see the states of the strip, not each on the way to them.
  async function run() {
    if (now.running) return pause();
    now.running = true;
    play.textContent = "Stop";
    play.setAttribute("aria-pressed", "true");
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const { walk } = now;
    const steps = walk.times.length - 1;
    const going = () => now.running && walk === now.walk && !figure.signal.aborted;
    while (going() && !atEnd(walk)) {
      const due = performance.now() + FILM / steps;
      await enqueue(() => going() && advance(walk));
      if (walk === now.walk && (!calm || atEnd(walk) || walk.at % Math.max(1, Math.round(steps / 10)) === 0)) showWalk();
      await new Promise((resume) => setTimeout(resume, Math.max(0, due - performance.now()))); // let the page paint
    }
    if (walk !== now.walk) return;
    pause();
    showWalk(true);
  }

  function showWalk(speak = false) {
    const { times, path, at } = now.walk;
    const [t, steps] = [times[at], times.length - 1];
    const { x, guess } = path[at];
    here.show(toInk(x), `The state of the walk at t = ${t}`);
    here.caption.textContent = `the walk at t = ${t}`;
    if (guess) hereGuess.show(toInk(guess), `The network's guess there, most like the test sign ${likeness(guess)}`);
    else hereGuess.clear("The network has not looked yet");
    summary.textContent =
      steps === 0
        ? "At t = 0 there is no way back to go: move t, or start from pure noise."
        : `Walk ${now.walks}, step ${at} of ${steps}: t = ${t}.${guess ? ` The guess is most like: ${likeness(guess)}.` : ""}`;
    position.input.max = Math.max(1, path.length - 1);
    position.input.disabled = path.length === 1;
    position.set(at);
    stepButton.disabled = at === steps;
    play.disabled = at === steps;
    backButton.disabled = at === 0;
    strip.show(framesOf(now.walk), `Film strip of the walk: ${path.length} of ${steps + 1} states from t = ${times[0]} to t = 0. ${summary.textContent}`);
    if (speak) figure.say(summary.textContent);
  }
  // As many states of the walk as there is room for: the first, the last, the present one, the others evenly spaced.
  const framesOf = ({ times, path, at }) => (room) => {
    const steps = times.length - 1;
    const count = Math.min(room, steps + 1);
    const indices = Array.from({ length: count }, (_, i) => (count > 1 ? Math.round((i * steps) / (count - 1)) : 0));
    if (!indices.includes(at)) {
      const inner = indices.slice(1, -1);
      const distance = (k) => Math.abs(k - at);
      indices[1 + inner.indexOf(inner.reduce((best, k) => (distance(k) < distance(best) ? k : best)))] = at;
    }
    const ink = (values) => (values ? toInk(values) : null);
    return indices.map((k) => ({ label: `${times[k]}`, above: ink(path[k]?.x), below: ink(path[k]?.guess), here: k === at }));
  };

  // ---- controls ---------------------------------------------------------------------------------------------------------

  function take(ink, words, script) {
    Object.assign(now, { x0: centred(ink), words });
    if (script !== undefined) setScript(script);
    showClean();
    update(true);
  }
  const sign = signPicker({
    signs, value: initial.sign, role: "sign", onChange: (index) => take(images[index], signs.words[index], signs.labels[index]),
  });
  const pad = drawingPad({
    size, role: "pad", onChange: (ink, empty) => take(ink, empty ? "an empty page" : "your drawing"),
  });
  const panels = {
    sign: node("div", { class: "gl-panel" }, sign.element),
    drawing: node("div", { class: "gl-panel", hidden: true }, pad.element),
  };
  const origin = choice({
    label: "Begin with", options: [["sign", "a test sign"], ["drawing", "your drawing"]], value: "sign", role: "origin",
    onChange: (key) => {
      for (const [name, panel] of Object.entries(panels)) panel.hidden = name !== key;
      if (key === "sign") sign.choose(sign.value);
      else pad.clear();
    },
  });

  const quarters = chain.last % 4 === 0 ? [0, 1, 2, 3, 4].map((k) => (k * chain.last) / 4) : [0, chain.last];
  const time = slider({
    label: "t", min: 0, max: chain.last, step: 1, value: now.t, role: "time", className: "gl-wide gl-time",
    marks: quarters.length - 1, ticks: quarters, describe: (t) => `${t} of ${chain.last}`,
    onInput: (t) => {
      now.t = t;
      update();
    },
  });
  const otherNoise = button("Other noise", () => {
    now.seed += 1;
    now.noise = fresh(now.seed);
    update();
  }, { "data-role": "noise" });

  const asked = () => {
    begin();
    refresh();
  };
  const told = choice({
    label: "The network is told", options: [["script", "the script"], ["nothing", "nothing"]], value: "script", role: "told",
    onChange: (key) => {
      now.told = key === "script";
      script.element.hidden = !now.told;
      asked();
    },
  });
  const script = select({
    label: "Script told", options: classes.map((name, index) => [index, name]), value: now.script, role: "script",
    onChange: (label) => {
      now.script = label;
      asked();
    },
  });
  const setScript = (label) => {
    now.script = label;
    script.input.value = label;
  };
  const knows = classes.length ? [told.element, script.element] : [];

  const from = choice({
    label: "Start from", options: [["xt", "xₜ above"], ["noise", "pure noise"]], value: "xt", role: "from", onChange: asked,
  });
  const visited = choice({
    label: "Steps from T to 0", options: state.steps.map((count) => [String(count), String(count)]), value: String(initial.steps),
    role: "steps", onChange: asked,
  });
  const stepButton = button("One step", step, { "data-role": "step" });
  const play = button("Play", run, { "data-role": "play", "aria-pressed": "false" });
  const backButton = button("Back", back, { "data-role": "back" });
  const again = button("Another walk", () => {
    now.walks += 1;
    asked();
  }, { "data-role": "again" });
  const position = slider({
    label: "Look at", min: 0, max: 1, step: 1, value: 0, role: "position", className: "gl-wide",
    describe: (k) => `step ${k}`,
    onInput: (k) => {
      pause();
      moveTo(k);
    },
  });
  figure.signal.addEventListener("abort", pause);

  // ---- layout -----------------------------------------------------------------------------------------------------------

  figure.build(
    node("div", {}, origin.element, ...Object.values(panels)),
    node("div", { class: "gl-drown" }, clean.element, noisy.element, guessed.element, note),
    time.element,
    node("div", { class: "gl-bar gl-above" }, otherNoise, ...knows),
    node(
      "div",
      { class: "gl-squeeze", role: "group", "aria-label": "The walk back" },
      node("p", { class: "gl-heading" }, "The walk back, from noise to a sign"),
      node("div", { class: "gl-settings" }, from.element, visited.element),
      node("div", { class: "gl-drown gl-walkers" }, here.element, hereGuess.element,
        node("div", {}, node("div", { class: "gl-buttons" }, stepButton, play, backButton, again), position.element, summary)),
      strip.element,
    ),
  );
  figure.onTheme(() => [clean, noisy, guessed, here, hereGuess, pad, strip].forEach((view) => view.redraw()));
  showClean();
  showNoisy();
  showGuess();
  begin();
  now.walk.path[0].guess = now.guess;
  showWalk();
  return figure.close;
}
