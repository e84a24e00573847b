// The chain of chapter 10 in the page: many steps of noise in one, and one step back over any number of times.
// gentext/diffusion.py does the same, and tests hold the two against each other. Pictures are Float32Arrays in the
// chain's units, [−1, 1] for pixels.

// logAlphaBar: log ᾱ_t for t = 0..T. clipped: whether an estimate of x₀ is kept where pixels are.
export function createChain({ logAlphaBar, clipped }) {
  const last = logAlphaBar.length - 1;
  const alphaBar = (t) => Math.exp(logAlphaBar[t]);
  const rest = (t) => -Math.expm1(logAlphaBar[t]); // 1 − ᾱ_t, with all its digits where ᾱ_t is nearly 1

  return {
    last,
    logSnr: (t) => logAlphaBar[t] - Math.log(rest(t)),
    sigma: (t) => Math.sqrt(rest(t) / alphaBar(t)),
    estimate: (x0) => (clipped ? x0.map((value) => Math.min(1, Math.max(-1, value))) : x0),

    // x_t = √ᾱ_t x₀ + √(1 − ᾱ_t) ε
    noised(x0, t, noise) {
      const [keep, add] = [Math.sqrt(alphaBar(t)), Math.sqrt(rest(t))];
      return x0.map((value, i) => keep * value + add * noise[i]);
    },

    // Draw x_s from q(x_s ∣ x_t, x₀), s < t: equations 6 and 7 of Ho et al. (2020), with β of all the steps between.
    stepBack({ x0, xt, t, s, noise }) {
      const beta = -Math.expm1(logAlphaBar[t] - logAlphaBar[s]);
      const fromX0 = (Math.exp(0.5 * logAlphaBar[s]) * beta) / rest(t);
      const fromXt = (Math.exp(0.5 * (logAlphaBar[t] - logAlphaBar[s])) * rest(s)) / rest(t);
      const deviation = Math.sqrt(Math.max(0, (beta * rest(s)) / rest(t)));
      return xt.map((value, i) => fromX0 * x0[i] + fromXt * value + deviation * noise[i]);
    },

    // The times that a walk from `from` to 0 visits, `from` among them: of `count` even steps from T to 0 those below.
    visits(from, count) {
      const even = Array.from({ length: count + 1 }, (_, k) => Math.round((last * (count - k)) / count));
      return [from, ...even.filter((t) => t < from)];
    },
  };
}
