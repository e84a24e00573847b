// What both halves of the sign generator (chapter 11) do with the denoiser: ask it in small parts, so that progress shows
// and a stop is heard; one thing at a time; and tell the page what was worked out.

import { clip, createRandom, guided, inpaintWalk, karrasGrid, logSnr, SAMPLERS, startingNoise, toNetwork, walk } from "./diffusion_math.mjs";

const PICTURES_A_CALL = 4; // at most
const PATIENCE = 300; // milliseconds that a call may take where the machine is slow, if one picture allows it

export const numbers = (...values) => ({ shape: [values.length], values: Float64Array.from(values) });
const flat = (values) => ({ shape: [values.length], values });

// Rows of `width` numbers as one array.
function stack(rows, width) {
  const values = new Float32Array(rows.length * width);
  rows.forEach((row, index) => values.set(row, index * width));
  return { shape: [rows.length, width], values };
}

// What the network is asked about: told the class, not told, or both where guidance mixes them.
export function questions(label, weight) {
  if (label === null || weight === 0) return ["untold"];
  return weight === 1 ? ["told"] : ["told", "untold"];
}

// How often a walk needs an estimate, and the grid it goes along. resample: of inpainting, null for a sampler.
export function plan({ figure, state, sampler, steps, resample = null, record = true }) {
  const started = performance.now();
  const sigmas = karrasGrid(steps, ...state.levels);
  const calls = resample !== null ? steps * resample : sampler === "heun" ? 2 * steps - 1 : steps;
  if (record) {
    const kind = resample !== null ? SAMPLERS.length : SAMPLERS.indexOf(sampler);
    const inputs = { steps: numbers(steps), levels: numbers(...state.levels), sampler: numbers(kind), resample: numbers(resample ?? 1) };
    figure.computed("plan", inputs, { sigmas: flat(sigmas), calls: numbers(calls) }, started);
  }
  return { sigmas, calls };
}

// One thing at a time: run(task, onEnd) stops what runs. task(alive) asks `alive()` after every wait whether it still
// counts; onEnd is called once, when it is done, has failed or was stopped.
export function createJobs(figure) {
  let current = null;
  function stop() {
    const job = current;
    current = null;
    job?.onEnd();
  }
  figure.signal.addEventListener("abort", () => (current = null));
  async function run(task, onEnd) {
    stop();
    const job = (current = { onEnd });
    const alive = () => current === job;
    try {
      await task(alive);
    } catch (error) {
      if (alive()) figure.fail(error);
    } finally {
      if (alive()) stop();
    }
  }
  return { run, stop };
}

// Walks with the figure's network. A setting says { label: class or null, weight: of guidance }.
export function createWalker({ figure, state }) {
  const pixels = state.size * state.size;
  const nobody = state.classes.length; // the null class
  const speed = { questions: 0, milliseconds: 0, warm: false }; // the first call is not counted: it loads

  // Milliseconds for one question to the network, or null before they are known.
  const pace = () => (speed.questions ? speed.milliseconds / speed.questions : null);

  async function askNetwork(x, sigma, { label, weight }) {
    const names = questions(label, weight);
    const count = x.length / pixels;
    const batch = names.length * count;
    const x_t = toNetwork(x, sigma);
    const values = new Float32Array(batch * pixels);
    names.forEach((_, part) => values.set(x_t, part * x_t.length));
    const inputs = {
      x_t: { shape: [batch, 1, state.size, state.size], values },
      log_snr: flat(new Float32Array(batch).fill(logSnr(sigma))),
    };
    if (nobody) inputs.label = flat(Float32Array.from({ length: batch }, (_, i) => (names[Math.floor(i / count)] === "told" ? label : nobody)));
    const begun = performance.now();
    const { x0 } = await figure.call("denoiser", inputs);
    const milliseconds = performance.now() - begun;
    if (speed.warm) {
      const kept = speed.questions < 200 ? 1 : 0.5; // the last few hundred count: a machine gets busy, and idle again
      speed.questions = kept * speed.questions + batch;
      speed.milliseconds = kept * speed.milliseconds + milliseconds;
    }
    speed.warm = true;
    return Object.fromEntries(names.map((name, part) => [name, x0.values.slice(part * x.length, (part + 1) * x.length)]));
  }

  // Estimates for all pictures of x, a few in one call. Null where the job was stopped meanwhile.
  async function estimate(x, sigma, setting, alive, onCall) {
    const said = { told: [], untold: [] };
    const x0 = new Float32Array(x.length);
    const each = questions(setting.label, setting.weight).length;
    for (let start = 0, end; start < x.length; start = end) {
      const some = pace() === null ? PICTURES_A_CALL : Math.floor(PATIENCE / (each * pace()));
      end = start + Math.min(PICTURES_A_CALL, Math.max(1, some)) * pixels;
      const answer = await askNetwork(x.subarray(start, end), sigma, setting);
      if (!alive()) return null;
      const { told, untold } = answer;
      const mixed = told && untold ? guided(told, untold, setting.weight) : (told ?? untold);
      x0.set(state.clip ? clip(mixed) : mixed, start);
      for (const name of Object.keys(answer)) said[name].push(answer[name]);
      onCall(Object.values(answer).reduce((sum, values) => sum + values.length / pixels, 0));
    }
    return { x0, said };
  }

  // Follow a walk to its end. Returns what the network said of the first picture, call by call, or null if stopped.
  async function follow(steps, setting, { alive, onStep, onCall }) {
    const log = { told: [], untold: [] };
    let next = steps.next();
    while (!next.done) {
      const { ask, step } = next.value;
      if (step) {
        onStep(step);
        next = steps.next();
        continue;
      }
      const found = await estimate(ask.x, ask.sigma, setting, alive, onCall);
      if (!found) return null;
      for (const name of Object.keys(log)) if (found.said[name].length) log[name].push(found.said[name][0].slice(0, pixels));
      next = steps.next(found.x0);
    }
    return log;
  }

  // Noise of several streams, drawn picture by picture; `drawn` keeps what the first one gave.
  function noiseOf(seeds) {
    const streams = seeds.map(createRandom);
    const drawn = [];
    const begun = performance.now();
    function draw() {
      const values = new Float32Array(seeds.length * pixels);
      streams.forEach((stream, index) => values.set(stream.normals(pixels), index * pixels));
      drawn.push(values.slice(0, pixels));
      return values;
    }
    const first = draw();
    figure.computed("noise", { seed: numbers(seeds[0]), count: numbers(pixels) }, { noise: flat(drawn.shift()) }, begun);
    return { first, draw, drawn };
  }

  // Everything about the walk of the first picture, for the page's record.
  function record(name, { sigmas, start, drawn, log, states, weight, more = {} }) {
    const inputs = {
      ...more,
      sigmas: flat(sigmas),
      start: flat(start.slice(0, pixels)),
      noise: stack(drawn, pixels),
      told: stack(log.told, pixels),
      untold: stack(log.untold, pixels),
      guidance: numbers(weight),
    };
    figure.computed(name, inputs, { x: stack(states, pixels) });
  }

  return {
    pace,

    // Signs from the noise of the streams `seeds`. Calls onStep({ index, sigma, x, x0 }), first with index 0 and x0 null.
    async sample(seeds, setting, { alive, onStep, onCall = () => {} }) {
      const sigmas = karrasGrid(setting.steps, ...state.levels);
      const { first, draw, drawn } = noiseOf(seeds);
      const start = startingNoise(first, sigmas[0]);
      onStep({ index: 0, sigma: sigmas[0], x: start, x0: null });
      const states = [];
      const log = await follow(walk(setting.sampler, start, sigmas, draw), setting, {
        alive,
        onCall,
        onStep(step) {
          states.push(step.x.slice(0, pixels));
          onStep(step);
        },
      });
      const more = { sampler: numbers(SAMPLERS.indexOf(setting.sampler)) };
      if (log) record("sample", { sigmas, start, drawn, log, states, weight: setting.weight, more });
      return log !== null;
    },

    // Fill in what is not known of one picture (values in [−1, 1]; known: 1 or 0 for each pixel).
    async restore(seed, picture, known, setting, { alive, onStep, onCall = () => {} }) {
      const sigmas = karrasGrid(setting.steps, ...state.levels);
      const { first, draw, drawn } = noiseOf([seed]);
      const start = startingNoise(first, sigmas[0]);
      const states = [];
      const steps = inpaintWalk({ picture, known, x: start, sigmas, resample: setting.resample, noise: draw });
      const log = await follow(steps, setting, {
        alive,
        onCall,
        onStep(step) {
          states.push(step.x);
          onStep(step);
        },
      });
      const more = { picture: flat(picture), known: flat(known), resample: numbers(setting.resample) };
      if (log) record("restore", { sigmas, start, drawn, log, states, weight: setting.weight, more });
      return log !== null;
    },
  };
}
