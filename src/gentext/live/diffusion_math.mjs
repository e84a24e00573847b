// The arithmetic of chapters 10 and 11 in the page: grids of noise levels, samplers step by step, guidance, inpainting,
// and noise that a seed decides. gentext/diffusion_sampling.py does the same, and tests hold the two against each other.
//
// As there, a state is x = x₀ + σ ε: a Float32Array of one picture or of many, one after the other. `x0` is an estimate
// of the datum, of the same length. Pixels lie in [−1, 1].

// ---- noise ----------------------------------------------------------------------------------------------------------

// Numbers that a seed (a whole number) decides, the same in every browser: mulberry32 for the bits, Box and Muller for
// the bell. { uniform(): a number in [0, 1), normal(): one number, normals(count): Float32Array }.
export function createRandom(seed) {
  let state = seed | 0;
  let spare = null;
  function word() {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  }
  function normal() {
    if (spare !== null) {
      const kept = spare;
      spare = null;
      return kept;
    }
    const radius = Math.sqrt(-2 * Math.log((word() + 1) / 2 ** 32));
    const angle = (2 * Math.PI * word()) / 2 ** 32;
    spare = Math.fround(radius * Math.sin(angle));
    return Math.fround(radius * Math.cos(angle));
  }
  return { uniform: () => word() / 2 ** 32, normal, normals: (count) => Float32Array.from({ length: count }, normal) };
}

// ---- grids ----------------------------------------------------------------------------------------------------------

// `numSteps` (at least 2) levels from σ_max to σ_min, even in σ^(1/ρ), and 0: Float64Array of numSteps + 1.
export function karrasGrid(numSteps, sigmaMin = 0.002, sigmaMax = 80, rho = 7) {
  const [high, low] = [sigmaMax ** (1 / rho), sigmaMin ** (1 / rho)];
  const levels = Float64Array.from({ length: numSteps + 1 }, (_, i) => (high + (i / (numSteps - 1)) * (low - high)) ** rho);
  levels[numSteps] = 0;
  return levels;
}

// ---- between the samplers' units and the network's --------------------------------------------------------------------

// The network wants x_t = x / √(1 + σ²), and the noise as its log-SNR, −2 log σ.
export const logSnr = (sigma) => -2 * Math.log(sigma);
export function toNetwork(x, sigma) {
  const scale = 1 / Math.sqrt(1 + sigma * sigma);
  return Float32Array.from(x, (value) => scale * value);
}

// Where a sampler starts: √(1 + σ²) times noise, since x has the datum's variance too.
export function startingNoise(noise, sigma) {
  const scale = Math.sqrt(1 + sigma * sigma);
  return Float32Array.from(noise, (value) => scale * value);
}

export const addNoise = (x, scale, noise) => Float32Array.from(x, (value, i) => value + scale * noise[i]);

// What a network says: between two estimates, w times as far from the one without the class as the class goes.
export function guided(conditional, unconditional, weight) {
  return Float32Array.from(unconditional, (value, i) => value + weight * (conditional[i] - value));
}

export const clip = (values, low = -1, high = 1) => Float32Array.from(values, (value) => Math.min(high, Math.max(low, value)));

// Pixels of a picture, [−1, 1] -> ink in [0, 1].
export const toInk = (values) => Float32Array.from(values, (value) => Math.min(1, Math.max(0, (value + 1) / 2)));

// ---- one step of each sampler, from level `before` to level `sigma` -----------------------------------------------------

// From the estimate, a share `keep` of the way back to x, and `fresh` times new noise.
function between({ x, x0, keep, fresh = 0, noise = null }) {
  return Float32Array.from(x, (value, i) => x0[i] + keep * (value - x0[i]) + (fresh ? fresh * noise[i] : 0));
}

// Draw from the posterior. `noise` may be missing where sigma is 0.
export function ancestralStep({ x, x0, before, sigma, noise = null }) {
  const keep = (sigma / before) ** 2;
  return between({ x, x0, keep, fresh: sigma * Math.sqrt(1 - keep), noise });
}

// Straight towards the estimate; eta says how much of the noise is drawn anew. With eta 0 it is Euler's step.
export function ddimStep({ x, x0, before, sigma, eta = 0, noise = null }) {
  const fresh = eta * sigma * Math.sqrt(1 - (sigma / before) ** 2);
  return between({ x, x0, keep: Math.sqrt(sigma ** 2 - fresh ** 2) / before, fresh, noise });
}

// Heun's second half: `ahead` is where `ddimStep` led, and `x0Ahead` the estimate there. Not for sigma 0.
export function heunStep({ x, x0, ahead, x0Ahead, before, sigma }) {
  const half = 0.5 * (sigma - before);
  return Float32Array.from(x, (value, i) => value + half * ((value - x0[i]) / before + (ahead[i] - x0Ahead[i]) / sigma));
}

// DPM-Solver++(2M). `earlier` is the estimate of the step before, { x0, sigma: the level it was asked at }, or null.
export function dpmSolver2mStep({ x, x0, earlier = null, before, sigma }) {
  const width = Math.log(before / sigma); // infinite where sigma is 0: the step takes the estimate as it is
  const ahead = earlier && sigma > 0 ? width / (2 * Math.log(earlier.sigma / before)) : 0;
  const [keep, take] = [sigma / before, -Math.expm1(-width)];
  return Float32Array.from(x, (value, i) => {
    const line = ahead ? x0[i] + ahead * (x0[i] - earlier.x0[i]) : x0[i];
    return keep * value + take * line;
  });
}

// ---- whole walks, as generators -----------------------------------------------------------------------------------------
//
// A walk yields { ask: { x, sigma } } where it needs the estimate at x, and goes on with next(x0); after each step it
// yields { step: { index, sigma, x, x0 } }. Who walks decides how to ask, and may stop at any time.

export const SAMPLERS = ["ancestral", "ddim", "heun", "dpm-solver++2m"]; // in the package's order

// From x at sigmas[0] to sigmas.at(-1). `noise()` draws a Float32Array like x; of these samplers only the first asks.
export function* walk(sampler, x, sigmas, noise) {
  let earlier = null;
  for (let index = 1; index < sigmas.length; index++) {
    const [before, sigma] = [sigmas[index - 1], sigmas[index]];
    let x0 = yield { ask: { x, sigma: before } };
    if (sampler === "ancestral") {
      x = ancestralStep({ x, x0, before, sigma, noise: sigma > 0 ? noise() : null });
    } else if (sampler === "ddim") {
      x = ddimStep({ x, x0, before, sigma });
    } else if (sampler === "heun") {
      let ahead = ddimStep({ x, x0, before, sigma });
      if (sigma > 0) {
        const x0Ahead = yield { ask: { x: ahead, sigma } };
        ahead = heunStep({ x, x0, ahead, x0Ahead, before, sigma });
        x0 = x0Ahead;
      }
      x = ahead;
    } else {
      const next = dpmSolver2mStep({ x, x0, earlier, before, sigma });
      earlier = { x0, sigma: before };
      x = next;
    }
    yield { step: { index, sigma, x, x0 } };
  }
}

// Fill in what is not known of a picture, each step taken `resample` times: RePaint. `picture` and the start x are like
// each other, and `known` says of each pixel whether the picture has it.
export function* inpaintWalk({ picture, known, x, sigmas, resample, noise }) {
  for (let index = 1; index < sigmas.length; index++) {
    const [before, sigma] = [sigmas[index - 1], sigmas[index]];
    let x0 = null;
    for (let repeat = resample; repeat > 0; repeat--) {
      x0 = yield { ask: { x, sigma: before } };
      const drawn = ancestralStep({ x, x0, before, sigma, noise: sigma > 0 ? noise() : null });
      const given = sigma > 0 ? addNoise(picture, sigma, noise()) : picture;
      x = Float32Array.from(drawn, (value, i) => (known[i] ? given[i] : value));
      if (repeat > 1) x = addNoise(x, Math.sqrt(before ** 2 - sigma ** 2), noise()); // back up to the level before
    }
    yield { step: { index, sigma, x, x0 } };
  }
}
