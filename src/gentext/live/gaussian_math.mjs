// The arithmetic of chapter 2 in the page: Gaussians of principal components, their directions and their densities.
// `gaussian_signs.py` holds the same by the package, and tests compare the two.

const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer;

// Covariances (groups, d (d + 1) / 2), lower triangles row by row, as square matrices: Float64Array of d × d each.
function squares({ shape: [groups, entries], data }, d) {
  const values = new Float32Array(bytes(data));
  return Array.from({ length: groups }, (_, group) => {
    const square = new Float64Array(d * d);
    for (let i = 0, place = group * entries; i < d; i++) {
      for (let j = 0; j <= i; j++, place++) square[i * d + j] = square[j * d + i] = values[place];
    }
    return square;
  });
}

// The leading n × n part of a d × d matrix, shrunk: (1 − λ) Σ + λ (tr Σ / n) I.
function shrunk(square, d, n, shrinkage) {
  const out = new Float64Array(n * n);
  let trace = 0;
  for (let i = 0; i < n; i++) trace += square[i * d + i];
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) out[i * n + j] = (1 - shrinkage) * square[i * d + j];
    out[i * n + i] += (shrinkage * trace) / n;
  }
  return out;
}

// Eigenvalues of a symmetric n × n matrix, largest first, and unit eigenvectors, each with its largest entry positive.
// Jacobi's method: turn two axes at a time until nothing is left off the diagonal.
export function eigen(matrix, n) {
  const a = Float64Array.from(matrix);
  const v = new Float64Array(n * n); // columns are the directions
  for (let i = 0; i < n; i++) v[i * n + i] = 1;
  const total = Math.sqrt(a.reduce((sum, value) => sum + value * value, 0));
  for (let sweep = 0; sweep < 50; sweep++) {
    let off = 0;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) off += a[p * n + q] ** 2;
    if (Math.sqrt(off) <= 1e-15 * total) break;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) rotate(a, v, n, p, q);
  }
  const order = Array.from({ length: n }, (_, i) => i).sort((i, j) => a[j * n + j] - a[i * n + i]);
  const values = order.map((i) => Math.max(0, a[i * n + i]));
  const vectors = order.map((i) => {
    const vector = Float64Array.from({ length: n }, (_, row) => v[row * n + i]);
    const largest = vector.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best), 0);
    return largest < 0 ? vector.map((value) => -value) : vector;
  });
  return { values, vectors };
}

function rotate(a, v, n, p, q) {
  const apq = a[p * n + q];
  if (apq === 0) return;
  const theta = (a[q * n + q] - a[p * n + p]) / (2 * apq);
  const t = Math.sign(theta || 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1)); // the smaller angle
  const c = 1 / Math.sqrt(t * t + 1);
  const s = t * c;
  for (let k = 0; k < n; k++) {
    const [kp, kq] = [a[k * n + p], a[k * n + q]];
    a[k * n + p] = c * kp - s * kq;
    a[k * n + q] = s * kp + c * kq;
  }
  for (let k = 0; k < n; k++) {
    const [pk, qk] = [a[p * n + k], a[q * n + k]];
    a[p * n + k] = c * pk - s * qk;
    a[q * n + k] = s * pk + c * qk;
    const [vp, vq] = [v[k * n + p], v[k * n + q]];
    v[k * n + p] = c * vp - s * vq;
    v[k * n + q] = s * vp + c * vq;
  }
}

// The lower triangular L with L Lᵀ = matrix (n × n).
export function cholesky(matrix, n) {
  const l = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = matrix[i * n + j];
      for (let k = 0; k < j; k++) sum -= l[i * n + k] * l[j * n + k];
      l[i * n + j] = i === j ? Math.sqrt(sum) : sum / l[j * n + j];
    }
  }
  return l;
}

// log N(r; 0, L Lᵀ), the constant left out: it is the same for every class.
function logDensity(l, n, r) {
  const y = new Float64Array(n); // solves L y = r
  let sum = 0;
  for (let i = 0; i < n; i++) {
    let value = r[i];
    for (let k = 0; k < i; k++) value -= l[i * n + k] * y[k];
    y[i] = value / l[i * n + i];
    sum -= 0.5 * y[i] * y[i] + Math.log(l[i * n + i]);
  }
  return sum;
}

// All that the figure asks of its Gaussians. A setting is { script, size, shrinkage, shared }.
export function gaussians(state) {
  const [d, pixels] = state.components.shape;
  const classes = state.classes.length;
  const picture = new Float32Array(bytes(state.picture.data));
  const components = Float64Array.from(new Int16Array(bytes(state.components.data)), (step) => step * state.components.scale);
  const mean = new Float32Array(bytes(state.mean.data)); // (classes, d)
  const cov = squares(state.cov, d);
  const all = state.counts.reduce((sum, count) => sum + count, 0);
  const prior = state.counts.map((count) => count / all);
  const pooled = new Float64Array(d * d);
  cov.forEach((square, k) => square.forEach((value, place) => (pooled[place] += prior[k] * value)));
  const covOf = (script, shared) => (shared ? pooled : cov[script]);

  // The directions do not hang on the shrinkage, so they are kept.
  const spectra = new Map();
  function spectrum({ script, size, shared }) {
    const key = `${shared ? "shared" : script} ${size}`;
    if (!spectra.has(key)) spectra.set(key, eigen(shrunk(covOf(script, shared), d, size, 0), size));
    return spectra.get(key);
  }
  // Standard deviations along the directions, after shrinkage: each variance moves towards their mean.
  function deviations(setting) {
    const { values } = spectrum(setting);
    const level = values.reduce((sum, value) => sum + value, 0) / values.length;
    return values.map((value) => Math.sqrt((1 - setting.shrinkage) * value + setting.shrinkage * level));
  }

  function encode(image, size) {
    return Float64Array.from({ length: size }, (_, i) => {
      let sum = 0;
      for (let p = 0; p < pixels; p++) sum += (image[p] - picture[p]) * components[i * pixels + p];
      return sum;
    });
  }
  function decode(code) {
    const image = Float64Array.from(picture);
    code.forEach((value, i) => {
      for (let p = 0; p < pixels; p++) image[p] += value * components[i * pixels + p];
    });
    return Float32Array.from(image);
  }

  let factors = { key: "" }; // of all covariances, for the last setting
  function factorsFor({ size, shrinkage, shared }) {
    const key = `${size} ${shrinkage} ${shared}`;
    if (factors.key !== key) {
      const list = (shared ? [pooled] : cov).map((square) => cholesky(shrunk(square, d, size, shrinkage), size));
      factors = { key, list };
    }
    return factors.list;
  }

  return {
    spectrum,
    deviations,
    // Classes without a density: no shrinkage, and no more signs than numbers.
    flat({ size, shrinkage, shared }) {
      if (shrinkage > 0) return 0;
      return shared ? (all - classes < size ? classes : 0) : state.counts.filter((count) => count <= size).length;
    },
    // The sign of noise (size,): μ + Σ^½ ε, as a picture.
    generate(noise, setting) {
      const { vectors } = spectrum(setting);
      const deviation = deviations(setting);
      const code = Float64Array.from({ length: setting.size }, (_, i) => mean[setting.script * d + i]);
      vectors.forEach((vector, j) => {
        const along = deviation[j] * vector.reduce((sum, value, i) => sum + value * noise[i], 0);
        vector.forEach((value, i) => (code[i] += along * value));
      });
      return decode(code);
    },
    project: (image, size) => decode(encode(image, size)),
    // p(class | image), (classes,).
    classify(image, setting) {
      const { size } = setting;
      const code = encode(image, size);
      const list = factorsFor(setting);
      const logs = prior.map((share, k) => {
        const rest = code.map((value, i) => value - mean[k * d + i]);
        return Math.log(share) + logDensity(list[setting.shared ? 0 : k], size, rest);
      });
      const top = Math.max(...logs);
      const weights = logs.map((value) => Math.exp(value - top));
      const sum = weights.reduce((total, value) => total + value, 0);
      return Float32Array.from(weights, (value) => value / sum);
    },
  };
}
