// The next-token explorer (chapter 15): a prompt, the distribution of what comes next, and ways to go on.
// `next_token.py` says what is in the state and what the network does; the cache is kept here.

import { createFigure, decodeArray, node, uniqueId } from "./common.mjs";
import { button, select, slider } from "./controls.mjs";
import { drawToken, KeyValueCache, nextTokenProbabilities, ranked } from "./next_token_math.mjs";
import { createTokenizer } from "./tokenizer.mjs";

const LOOKS = 5; // tokens named in the sentence on attention

export default { render };

const floats = (...values) => ({ shape: [values.length], values: Float64Array.from(values) });

// A share in words: three decimals of a per cent for what is rare, none for what is common.
const percent = (part) => `${(100 * part).toFixed(part >= 0.0995 ? 0 : part >= 0.00095 ? 1 : 3)} %`;

async function render({ model, el, signal }) {
  const state = model.get("state");
  const figure = createFigure({ model, el, signal, name: "next-token" });
  const tokenizer = createTokenizer(state.tokenizer);
  const first = state.start === null ? [] : [state.start];
  const cache = new KeyValueCache({ layers: state.layers, heads: state.kv_heads, width: state.head_dim, context: state.context });
  const now = {
    ids: state.initial.ids, // all tokens of the text
    prompt: state.initial.ids.length, // how many of them were given
    text: state.prompts[0].text, // of the prompt
    logits: decodeArray(state.initial.logits).values,
    looks: [], // of each token that was read its attention: (layers · heads) rows of one number for each token up to it
    chosen: state.initial.ids.length - 1, // the token whose attention is shown
    probabilities: null,
    running: false,
  };
  now.looks[now.chosen] = decodeArray(state.initial.attention).values;
  const say = (id) => (id === state.start ? "⟨start⟩" : tokenizer.label(id));

  // ---- reading and drawing ------------------------------------------------------------------------------------------------

  // Let the network read what is not in the cache yet; afterwards `logits` are those of the token after the text.
  async function read() {
    while (cache.position < now.ids.length) {
      const from = cache.position;
      const unread = now.ids.slice(from, from + state.chunk);
      const row = (values) => ({ shape: [1, values.length], values: Float32Array.from(values) });
      const answer = await figure.call("step", {
        tokens: row(unread), positions: row(unread.map((_, index) => from + index)), ...cache.inputs(),
      });
      keepLooks(answer.attention.values, from, unread.length);
      cache.extend(answer.keys_out.values, answer.values_out.values, unread.length);
      now.logits = answer.logits.values;
    }
  }
  // The weights come as (layers · heads, unread, 1 + held + unread); the first column is the place holder's.
  function keepLooks(weights, from, count) {
    const rows = state.layers * state.heads;
    const wide = 1 + from + count;
    for (let query = 0; query < count; query++) {
      const length = from + query + 1;
      const kept = new Float32Array(rows * length);
      for (let row = 0; row < rows; row++) {
        const start = (row * count + query) * wide + 1;
        kept.set(weights.subarray(start, start + length), row * length);
      }
      now.looks[from + query] = kept;
    }
  }
  function filter() {
    const started = performance.now();
    const [t, k, p] = [temperature.value, state.top_k[topK.value] ?? 0, topP.value];
    now.probabilities = nextTokenProbabilities(now.logits, { temperature: t, topK: k, topP: p });
    const logits = { shape: [now.logits.length], values: Float64Array.from(now.logits) };
    const outputs = { probabilities: { shape: [now.logits.length], values: now.probabilities } };
    if (now.alive) figure.computed("filter", { logits, temperature: floats(t), top_k: floats(k), top_p: floats(p) }, outputs, started);
  }
  function draw() {
    const u = Math.fround(0.999999 * Math.random());
    const token = drawToken(now.probabilities, u);
    const given = { shape: [now.probabilities.length], values: now.probabilities };
    figure.computed("draw", { probabilities: given, u: floats(u) }, { token: floats(token) });
    return token;
  }
  async function append(token) {
    now.ids = [...now.ids, token];
    await read();
    now.chosen = now.ids.length - 1;
    filter();
    show();
  }
  // Forget all tokens after the first `length`: the cache is only set back, and the last one read again for its logits.
  async function cut(length) {
    now.ids = now.ids.slice(0, length);
    cache.position = Math.min(cache.position, length - 1);
    await read();
    now.chosen = length - 1;
    filter();
    show();
  }
  async function start(ids) {
    cache.position = 0;
    now.ids = ids;
    now.looks = [];
    now.prompt = ids.length;
    await read();
    now.chosen = ids.length - 1;
    filter();
    show();
  }

  // One thing after the other, in the order of the touches.
  let queue = Promise.resolve();
  function enqueue(work) {
    now.alive = true;
    const done = queue.then(work);
    queue = done.catch((error) => {
      stop();
      if (!figure.signal.aborted) figure.fail(error);
    });
    return queue;
  }

  const isFull = () => now.ids.length >= state.context;
  function stop() {
    now.running = false;
    generate.textContent = "Generate";
  }
  async function run() {
    if (now.running) return stop();
    now.running = true;
    generate.textContent = "Stop";
    const began = performance.now();
    let count = 0;
    while (now.running && !isFull() && !figure.signal.aborted) {
      await enqueue(() => now.running && append(draw()));
      count += 1;
      speed.textContent = `${(count / ((performance.now() - began) / 1000)).toFixed(0)} tokens a second`;
      if (now.ids.at(-1) === state.start) break; // the text has ended
      await new Promise((resume) => setTimeout(resume)); // let the page paint
    }
    stop();
    figure.say(`The text goes on: ${tokenizer.decode(now.ids.slice(now.prompt).filter((id) => id !== state.start))}`);
  }

  // ---- what is shown ------------------------------------------------------------------------------------------------------

  const text = node("div", { class: "gl-text", "data-drawn": true, "data-role": "text" });
  const list = node("ol", { class: "gl-next", "data-drawn": true, "data-role": "candidates" });
  const summary = node("p", { class: "gl-value", "data-drawn": true, "data-role": "summary" });
  const looking = node("p", { class: "gl-value", "data-drawn": true, "data-role": "looking" });
  const speed = node("output", { "data-role": "speed" });

  function show() {
    position.input.max = now.ids.length - 1;
    position.set(now.chosen);
    showText();
    showCandidates();
    showLooks();
    const full = isFull();
    step.disabled = full;
    generate.disabled = full;
    back.disabled = now.ids.length <= Math.max(1, first.length);
    again.disabled = now.ids.length === now.prompt;
  }
  function showText() {
    text.replaceChildren(...now.ids.map((id, place) => {
      const mark = id === state.start;
      const span = node("span", { class: place >= now.prompt ? "gl-token gl-fresh" : "gl-token" }, mark ? "◆" : tokenizer.decode([id]));
      if (mark) span.classList.add("gl-mark");
      span.addEventListener("click", () => choose(place));
      return span;
    }));
  }
  function showCandidates() {
    const raw = nextTokenProbabilities(now.logits, { temperature: 1, topK: 0, topP: 1 });
    const order = ranked(raw);
    list.replaceChildren(...order.slice(0, state.shown).map((token) => {
      const [was, is] = [raw[token], now.probabilities[token]];
      const take = button(say(token), () => enqueue(() => stop() ?? (isFull() ? null : append(token))), {
        "data-role": "candidate", disabled: isFull(), "aria-label": `${say(token)}, ${percent(is)}: take it`,
      });
      const bar = node("i", { style: `--gl-part: ${is.toFixed(4)}; --gl-was: ${was.toFixed(4)}` });
      return node("li", { class: is > 0 ? "" : "gl-out" }, take, bar, node("span", {}, is > 0 ? percent(is) : "out"));
    }));
    let [count, kept, entropy] = [0, 0, 0];
    now.probabilities.forEach((part, token) => {
      if (part <= 0) return;
      count += 1;
      kept += raw[token];
      entropy -= part * Math.log(part);
    });
    summary.textContent = isFull() ? `The context of ${state.context} tokens is full: go back, or begin anew.`
      : `${count.toLocaleString("en")} of ${raw.length.toLocaleString("en")} tokens may come next; the model gave them ${percent(kept)}. ` +
        `Perplexity of the draw: ${Math.exp(entropy).toFixed(2)}.`;
    figure.say(`Most likely next: ${order.slice(0, 3).map((token) => `${say(token)} ${percent(now.probabilities[token])}`).join(", ")}.`);
  }
  // Weights of the chosen token on each token up to it, of one head or the mean of all.
  function weightsOf(place) {
    const rows = now.looks[place];
    const length = place + 1;
    const which = head.input.value === "-1" ? [...Array(state.layers * state.heads).keys()] : [Number(head.input.value)];
    return Float64Array.from({ length }, (_, key) => which.reduce((sum, row) => sum + rows[row * length + key], 0) / which.length);
  }
  function showLooks() {
    const weights = weightsOf(now.chosen);
    const top = Math.max(...weights);
    Array.from(text.children).forEach((span, place) => {
      span.classList.toggle("gl-chosen", place === now.chosen);
      span.style.setProperty("--gl-part", place < weights.length ? (weights[place] / top).toFixed(3) : 0);
    });
    const best = ranked(weights).slice(0, LOOKS).map((place) => `${say(now.ids[place])} ${percent(weights[place])}`);
    looking.textContent = `Token ${now.chosen + 1}, ${say(now.ids[now.chosen])}, looks at ${best.join(", ")}.`;
  }
  function choose(place) {
    return enqueue(async () => {
      await read(); // at the beginning only the last token's attention is known
      now.chosen = Math.min(place, now.ids.length - 1);
      position.set(now.chosen);
      showLooks();
      figure.say(looking.textContent);
    });
  }

  // ---- controls -----------------------------------------------------------------------------------------------------------

  const refilter = () => {
    now.alive = true;
    filter();
    showCandidates();
  };
  const temperature = slider({
    label: "Temperature", min: 0, max: 2, step: 0.05, value: 1, role: "temperature", className: "gl-wide", onInput: refilter,
    describe: (value) => (value === 0 ? "0: always the most likely" : value.toFixed(2)),
  });
  const topK = slider({
    label: "Top-k", min: 0, max: state.top_k.length, step: 1, value: state.top_k.length, role: "top-k", className: "gl-wide", onInput: refilter,
    describe: (index) => (index < state.top_k.length ? `${state.top_k[index]} most likely` : "off: all tokens"),
  });
  const topP = slider({
    label: "Top-p", min: 0.05, max: 1, step: 0.05, value: 1, role: "top-p", className: "gl-wide", onInput: refilter,
    describe: (value) => (value < 1 ? `a nucleus of ${value.toFixed(2)}` : "off: all tokens"),
  });

  const areaId = uniqueId("prompt");
  const area = node("textarea", { id: areaId, rows: 4, spellcheck: "false", "data-role": "prompt" });
  area.value = now.text;
  area.addEventListener("input", () => (use.disabled = area.value === now.text));
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !use.disabled) use.click();
  });
  function begin(prompt) {
    stop();
    return enqueue(async () => {
      const bytes = new TextEncoder().encode(prompt);
      const ids = tokenizer.encode(prompt);
      figure.computed("encode", { bytes: floats(...bytes) }, { ids: floats(...ids) });
      const room = state.context - first.length - 1;
      if (first.length + ids.length === 0) throw new Error("Write something for the model to go on from.");
      if (ids.length > room) throw new Error(`The prompt has ${ids.length} tokens, and the model sees ${state.context}: make it shorter.`);
      now.text = prompt;
      use.disabled = area.value === prompt;
      await start([...first, ...ids]);
    });
  }
  const use = button("Read this prompt", () => begin(area.value), { "data-role": "use", disabled: true });
  const examples = select({
    label: "Begin with", options: state.prompts.map(({ name }, index) => [index, name]), value: 0, role: "example",
    onChange: (index) => {
      area.value = state.prompts[index].text;
      begin(area.value);
    },
  });

  const step = button("One token", () => {
    stop();
    enqueue(() => (isFull() ? null : append(draw())));
  }, { "data-role": "step" });
  const generate = button("Generate", run, { "data-role": "play" });
  const back = button("Back", () => {
    stop();
    enqueue(() => (now.ids.length > Math.max(1, first.length) ? cut(now.ids.length - 1) : null));
  }, { "data-role": "back" });
  const again = button("Back to the prompt", () => {
    stop();
    enqueue(() => (now.ids.length > now.prompt ? cut(now.prompt) : null));
  }, { "data-role": "restart" });

  const position = slider({
    label: "Attention of", min: 0, max: now.ids.length - 1, step: 1, value: now.chosen, role: "position", className: "gl-wide",
    onInput: choose, describe: (place) => `token ${Number(place) + 1}`,
  });
  const heads = Array.from({ length: state.layers * state.heads }, (_, row) => [
    row, `layer ${Math.floor(row / state.heads) + 1}, head ${(row % state.heads) + 1}`,
  ]);
  const head = select({ label: "Head", options: [[-1, "mean of all heads"], ...heads], value: -1, role: "head", onChange: () => showLooks() });

  figure.build(
    node("div", { class: "gl-bar" }, state.prompts.length > 1 ? examples.element : null),
    node("label", { for: areaId, class: "gl-area-label" }, "Prompt"), area,
    node("div", { class: "gl-buttons" }, use),
    node("p", { class: "gl-heading gl-above" }, node("span", {}, "The text; what the model wrote is underlined"), speed),
    text,
    node("div", { class: "gl-buttons", role: "group", "aria-label": "Go on" }, step, generate, back, again),
    temperature.element, topK.element, topP.element,
    summary, list,
    node("p", { class: "gl-help" }, "Bars: what is drawn from. The mark on each: what the model said before the sliders. Press a token to take it yourself."),
    node("div", { class: "gl-attention" }, position.element, head.element),
    looking,
  );
  filter();
  show();
  return figure.close;
}
