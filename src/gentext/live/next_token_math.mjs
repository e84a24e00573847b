// What the next-token explorer (chapter 15) works out by itself: filters of a distribution, a draw, the cache.
// gentext/gpt_sampling.py does the same, and tests hold the two against each other.

function softmax(logits) {
  let top = -Infinity;
  for (const value of logits) top = Math.max(top, value);
  const parts = Float64Array.from(logits, (value) => Math.exp(value - top));
  let sum = 0;
  for (const part of parts) sum += part;
  return parts.map((part) => part / sum);
}

// Places of the largest values first; of equals the smaller place.
export const ranked = (values) => Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b);

// Probabilities of the next token: temperature, then top-k (0: all), then top-p. Temperature 0 takes the most probable.
export function nextTokenProbabilities(logits, { temperature, topK, topP }) {
  if (temperature === 0) {
    const only = new Float64Array(logits.length);
    only[logits.indexOf(Math.max(...logits))] = 1;
    return only;
  }
  const scaled = Float64Array.from(logits, (value) => value / temperature);
  if (topK > 0 && topK < scaled.length) {
    const least = Float64Array.from(scaled).sort()[scaled.length - topK]; // those tied with the last one stay
    scaled.forEach((value, token) => value < least && (scaled[token] = -Infinity));
  }
  if (topP < 1) {
    const probabilities = softmax(scaled);
    let sum = 0;
    ranked(scaled).forEach((token, place) => {
      sum += probabilities[token];
      if (place > 0 && sum - probabilities[token] >= topP) scaled[token] = -Infinity;
    });
  }
  return softmax(scaled);
}

// The token at which the sum of the probabilities first exceeds u in [0, 1).
export function drawToken(probabilities, u) {
  let total = 0;
  for (const value of probabilities) total += value;
  let sum = 0;
  for (let token = 0; token < probabilities.length; token++) {
    sum += probabilities[token];
    if (sum > u * total) return token;
  }
  return probabilities.length - 1;
}

// Keys and values of the tokens that the network has read, (layers, heads, context, width) each. `position` says how
// many there are, and may be set back: what stands behind it is forgotten.
export class KeyValueCache {
  constructor({ layers, heads, width, context }) {
    Object.assign(this, { layers, heads, width, context, position: 0 });
    this.keys = new Float32Array(layers * heads * context * width);
    this.values = new Float32Array(this.keys.length);
  }
  // Put what the network said of `count` tokens, (layers, heads, count, width), at `position`.
  extend(keys, values, count) {
    const { width, context } = this;
    for (let row = 0; row < this.layers * this.heads; row++) {
      const to = (row * context + this.position) * width;
      const part = [row * count * width, (row + 1) * count * width];
      this.keys.set(keys.subarray(...part), to);
      this.values.set(values.subarray(...part), to);
    }
    this.position += count;
  }
  // Both as inputs of the network, with the place holder that it wants in front.
  inputs() {
    const { layers, heads, width, context, position } = this;
    const shape = [1, layers, heads, position + 1, width];
    const pack = (from) => {
      const values = new Float32Array(layers * heads * (position + 1) * width);
      for (let row = 0; row < layers * heads; row++) {
        const start = row * context * width;
        values.set(from.subarray(start, start + position * width), (row * (position + 1) + 1) * width);
      }
      return { shape, values };
    };
    return { keys: pack(this.keys), values: pack(this.values) };
  }
}
