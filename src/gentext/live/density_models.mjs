// The densities of chapter 1 in the plane, as gentext.density computes them: histogram, kernel estimate, mixture by EM.
//
// A point is [x, y]; a box is { low: [x, y], side }. A model is { logProb(point), push(u, [a, b]) }: the logarithm of its
// density in nats, and the map that turns noise into a sample. Numbers are double throughout, as in the package's tests.

const LOG_TWO_PI = Math.log(2 * Math.PI);

function logSumExp(values) {
  const top = Math.max(...values);
  if (top === -Infinity) return top;
  let sum = 0;
  for (const value of values) sum += Math.exp(value - top);
  return top + Math.log(sum);
}

// The inverse of a cumulative distribution: the index whose stretch of [0, 1) holds u.
function indexAt(weights, u) {
  let total = 0;
  const cdf = weights.map((weight) => (total += weight));
  const found = cdf.findIndex((value) => value > u * total);
  return found < 0 ? weights.length - 1 : found;
}

// ---- histogram ------------------------------------------------------------------------------------------------------

// Constant on bins × bins cells of the box. One point in all, spread evenly, keeps empty cells possible.
export function histogram(points, bins, { low, side }) {
  const uniform = 1 / (points.length + 1);
  const cellOf = (point) => {
    const parts = [0, 1].map((axis) => (point[axis] - low[axis]) / side);
    if (parts.some((part) => part < 0 || part > 1)) return -1;
    const [column, row] = parts.map((part) => Math.min(bins - 1, Math.trunc(part * bins)));
    return column * bins + row;
  };
  const counts = new Float64Array(bins * bins);
  for (const point of points) counts[cellOf(point)] += 1;
  const occupied = [...counts.keys()].filter((cell) => counts[cell] > 0);
  const mass = occupied.map((cell) => counts[cell] / points.length);
  const share = (cell) => (cell < 0 ? 0 : ((1 - uniform) * counts[cell]) / points.length + uniform / bins ** 2);
  return {
    logProb: (point) => Math.log(share(cellOf(point))) - 2 * Math.log(side) + 2 * Math.log(bins),
    push(u, place) {
      if (u < uniform) return place.map((part, axis) => low[axis] + side * part);
      const cell = occupied[indexAt(mass, Math.max(0, (u - uniform) / (1 - uniform)))];
      const corner = [Math.trunc(cell / bins), cell % bins];
      return corner.map((start, axis) => low[axis] + (side * (start + place[axis])) / bins);
    },
  };
}

// ---- kernel density estimate ----------------------------------------------------------------------------------------

export function kernelDensity(points, bandwidth) {
  const constant = Math.log(points.length) + 2 * Math.log(bandwidth) + LOG_TWO_PI;
  const exponents = new Float64Array(points.length); // one array for all calls: this is asked for every dot at every move
  const equal = points.map(() => 1);
  return {
    logProb([x, y]) {
      let top = -Infinity;
      points.forEach((centre, i) => {
        exponents[i] = -0.5 * (((x - centre[0]) / bandwidth) ** 2 + ((y - centre[1]) / bandwidth) ** 2);
        if (exponents[i] > top) top = exponents[i];
      });
      let sum = 0;
      for (const exponent of exponents) sum += Math.exp(exponent - top);
      return top + Math.log(sum) - constant;
    },
    push: (u, noise) => points[indexAt(equal, u)].map((value, axis) => value + bandwidth * noise[axis]),
  };
}

// ---- Gaussian mixture -----------------------------------------------------------------------------------------------

// parameters: { weights: [w], means: [[x, y]], covs: [[xx, xy, yy]] }
export function mixture({ weights, means, covs }) {
  const log = logJoint({ weights, means, covs });
  const factors = covs.map(cholesky);
  return {
    logProb: (point) => logSumExp(log(point)),
    push(u, [a, b]) {
      const z = indexAt(weights, u);
      const [l11, l21, l22] = factors[z];
      return [means[z][0] + l11 * a, means[z][1] + l21 * a + l22 * b];
    },
  };
}

function cholesky([xx, xy, yy]) {
  const l11 = Math.sqrt(xx);
  const l21 = xy / l11;
  return [l11, l21, Math.sqrt(yy - l21 * l21)];
}

// point -> log w_k + log N(point; μ_k, Σ_k) for every k
function logJoint({ weights, means, covs }) {
  const factors = covs.map(cholesky);
  const constants = factors.map(([l11, , l22], k) => Math.log(weights[k]) - Math.log(l11) - Math.log(l22) - LOG_TWO_PI);
  return (point) =>
    factors.map(([l11, l21, l22], k) => {
      const a = (point[0] - means[k][0]) / l11;
      const b = (point[1] - means[k][1] - l21 * a) / l22;
      return constants[k] - 0.5 * (a * a + b * b);
    });
}

// One EM step: { parameters, score }, score being the mean log-likelihood of the parameters that came in.
export function emStep(points, old, kind, floor) {
  const log = logJoint(old);
  const count = old.weights.length;
  let score = 0;
  const responsibilities = points.map((point) => {
    const joint = log(point);
    const total = logSumExp(joint);
    score += total / points.length;
    return joint.map((value) => Math.exp(value - total));
  });
  const parameters = { weights: [], means: [], covs: [] };
  for (let k = 0; k < count; k++) {
    const column = responsibilities.map((row) => row[k]);
    const answers = column.reduce((sum, value) => sum + value, 0); // points that this component answers for
    parameters.weights.push(answers / points.length);
    const alive = answers > 1e-8; // a component without points keeps its place
    const [mean, cov] = alive ? moments(points, column, answers) : [old.means[k], old.covs[k]];
    parameters.means.push(mean);
    parameters.covs.push(alive ? floored(cov, kind, floor) : cov);
  }
  return { parameters, score };
}

function moments(points, weights, total) {
  const mean = [0, 0];
  points.forEach((point, i) => mean.forEach((_, axis) => (mean[axis] += (weights[i] / total) * point[axis])));
  const cov = [0, 0, 0];
  points.forEach(([x, y], i) => {
    const [dx, dy, share] = [x - mean[0], y - mean[1], weights[i] / total];
    cov[0] += share * dx * dx;
    cov[1] += share * dx * dy;
    cov[2] += share * dy * dy;
  });
  return [mean, cov];
}

// The most likely covariance of its kind (0 full, 1 diagonal, 2 spherical) with no variance below the floor.
function floored([xx, xy, yy], kind, floor) {
  if (kind === 2) return [Math.max(floor, (xx + yy) / 2), 0, Math.max(floor, (xx + yy) / 2)];
  if (kind === 1) return [Math.max(floor, xx), 0, Math.max(floor, yy)];
  const half = Math.hypot((xx - yy) / 2, xy);
  const [small, large] = [(xx + yy) / 2 - half, (xx + yy) / 2 + half]; // eigenvalues
  if (small >= floor) return [xx, xy, yy];
  if (large <= floor) return [floor, 0, floor];
  const lift = (floor - small) / (large - small); // Σ + (floor − small) v vᵀ, with v vᵀ = (large I − Σ) / (large − small)
  return [xx + lift * (large - xx), xy - lift * xy, yy + lift * (large - yy)];
}

// Where EM sets out from: means far apart by k-means++, one covariance for all. `random()` is uniform on [0, 1).
export function start(points, count, kind, floor, random) {
  const centres = [points[indexAt(points.map(() => 1), random())]];
  const toNearest = (point) => Math.min(...centres.map((centre) => (point[0] - centre[0]) ** 2 + (point[1] - centre[1]) ** 2));
  while (centres.length < count) {
    const distances = points.map(toNearest);
    const flat = distances.every((distance) => distance === 0); // all points are centres already
    centres.push(points[indexAt(flat ? points.map(() => 1) : distances, random())]);
  }
  const groups = points.map((point) => {
    const distances = centres.map((centre) => (point[0] - centre[0]) ** 2 + (point[1] - centre[1]) ** 2);
    return distances.indexOf(Math.min(...distances));
  });
  const pooled = [0, 0, 0];
  const weights = [];
  const means = centres.map((centre, k) => {
    const column = groups.map((group) => Number(group === k));
    const total = column.reduce((sum, value) => sum + value, 0);
    weights.push(total / points.length);
    if (total === 0) return centre;
    const [mean, cov] = moments(points, column, total);
    cov.forEach((value, i) => (pooled[i] += (total / points.length) * value));
    return mean;
  });
  const cov = floored(pooled, kind, floor);
  return { weights, means, covs: centres.map(() => [...cov]) };
}

// EM from `parameters` until a step gains less than `tolerance` nats per point: { parameters, steps, converged }.
export function climb(points, parameters, kind, floor, { tolerance = 1e-5, most = 100 } = {}) {
  let last = -Infinity;
  for (let steps = 0; steps < most; steps++) {
    const next = emStep(points, parameters, kind, floor);
    if (next.score - last < tolerance) return { parameters, steps, converged: true };
    last = next.score;
    parameters = next.parameters;
  }
  return { parameters, steps: most, converged: false };
}

// ---- what is asked of every model -------------------------------------------------------------------------------------

// The density on a grid of count × count places in the middle of equal cells, rows from the bottom up, row-major.
export function densityGrid(model, count, { low, side }) {
  const values = new Float64Array(count * count);
  const at = (index, axis) => low[axis] + (side * (index + 0.5)) / count;
  for (let row = 0; row < count; row++) {
    for (let column = 0; column < count; column++) {
      values[row * count + column] = Math.exp(model.logProb([at(column, 0), at(row, 1)]));
    }
  }
  return values;
}

// The same for a kernel estimate, faster: a round hill is a product of one factor for each axis.
export function kernelGrid(points, bandwidth, count, { low, side }) {
  const values = new Float64Array(count * count);
  const scale = 1 / (points.length * 2 * Math.PI * bandwidth ** 2);
  const factor = (centre, axis) =>
    Float64Array.from({ length: count }, (_, i) =>
      Math.exp(-0.5 * ((low[axis] + (side * (i + 0.5)) / count - centre) / bandwidth) ** 2),
    );
  for (const point of points) {
    const [across, up] = [factor(point[0], 0), factor(point[1], 1)];
    for (let row = 0; row < count; row++) {
      const part = scale * up[row];
      if (part === 0) continue;
      for (let column = 0; column < count; column++) values[row * count + column] += part * across[column];
    }
  }
  return values;
}

// Mean log-likelihood in nats a point, and its standard error.
export function score(model, points) {
  const values = points.map((point) => model.logProb(point));
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const square = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, error: values.length < 2 ? 0 : Math.sqrt(square / (values.length - 1) / values.length) };
}

// The median distance from a point of `from` to the nearest of `to`; of an even number the lower of the two.
export function nearestDistance(from, to) {
  const distances = from.map(([x, y]) => {
    let least = Infinity;
    for (const point of to) least = Math.min(least, (x - point[0]) ** 2 + (y - point[1]) ** 2);
    return Math.sqrt(least);
  });
  return distances.sort((a, b) => a - b)[Math.floor((distances.length - 1) / 2)];
}

// Uniform random numbers that float32 holds, always the same for the same seed (a small counter-based mixer).
export function randomNumbers(seed) {
  let state = (seed * 0x9e3779b9) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 8) / 2 ** 24;
  };
}

// A pair of standard normal numbers from two uniform ones (Box and Muller 1958).
export function normalPair(random) {
  const radius = Math.sqrt(-2 * Math.log(1 - random()));
  const angle = 2 * Math.PI * random();
  return [Math.fround(radius * Math.cos(angle)), Math.fround(radius * Math.sin(angle))];
}
