// The attention explorer (chapter 12): type a line, see where every head of a network looks, switch heads off, and see
// what that does to the next token. `attention_explorer.py` says what is in the state.

import { createFigure, decodeArray, format, latest, node, uniqueId } from "./common.mjs";
import { button, checkbox, colour, select, slider } from "./controls.mjs";
import { createTokenizer } from "./tokenizer.mjs";

const CELL = 4; // pixels of a map for each token
const SHOWN = 6; // next tokens
const CLEAR = 0.2; // a head with a smaller score has no trade worth a name

export default { render };

async function render({ model, el, signal }) {
  const state = model.get("state");
  const figure = createFigure({ model, el, signal, name: "attention-explorer" });
  const tokenizer = createTokenizer(state.tokenizer);
  const { length, start, layers, heads, vocab } = state;
  const all = layers * heads;
  const headName = (index) => `${Math.floor(index / heads) + 1}.${(index % heads) + 1}`;

  const now = {
    row: [], // tokens of the line
    place: 0, // the chosen token: its row of the maps, and what comes after it
    on: new Array(all).fill(true),
    head: bestHead(state.trades), // the one whose looks colour the line
    weights: null, // at(head, query, key), of the heads that are on
    whole: null, // { logProbs, nats } with all heads
    left: null, // the same with those that are on, null if these are all
  };

  // ---- answers ----------------------------------------------------------------------------------------------------------

  // A line that begins with a blank goes on from what nobody has seen: no start of a text before it.
  const encodeLine = (text) => [...(start === null || text.startsWith(" ") ? [] : [start]), ...tokenizer.encode(text)];

  function setLine(text) {
    const found = encodeLine(text);
    if (found.length < 2) return false;
    now.row = found.slice(0, length);
    now.place = now.row.length - 1;
    cut.hidden = found.length <= length;
    return true;
  }

  // Weights arrive as (layers, heads, size, size).
  const weightsOf = (values, size, offset = 0) => (head, query, key) => values[offset + (head * size + query) * size + key];

  const refresh = latest(async () => {
    const allOn = now.on.every(Boolean);
    const count = allOn ? 1 : 2; // beside the heads that are on, all of them
    const repeat = (make) => Float32Array.from({ length: count * make.size }, (_, index) => make(index % make.size, Math.floor(index / make.size)));
    const input = (size, make) => ({ shape: [count, size], values: repeat(Object.assign(make, { size })) });
    const { row, place } = now;
    try {
      const answer = await figure.call("attention", {
        tokens: input(length, (index) => row[index] ?? 0),
        place: input(length, (index) => Number(index === place)),
        heads: input(all, (index, which) => Number(which === 0 || now.on[index])),
      });
      const part = (which) => ({
        logProbs: answer.log_probs.values.subarray(which * vocab, (which + 1) * vocab),
        nats: answer.nats.values.subarray(which * (length - 1), which * (length - 1) + row.length - 1),
      });
      now.weights = weightsOf(answer.weights.values, length, (count - 1) * all * length * length);
      now.whole = part(0);
      now.left = allOn ? null : part(1);
      if (row === now.row && place === now.place) show();
    } catch (error) {
      figure.fail(error);
    }
  });

  // ---- the line ---------------------------------------------------------------------------------------------------------

  const lineId = uniqueId("line");
  const field = node("textarea", { id: lineId, rows: 2, spellcheck: "false", "data-role": "text" });
  field.addEventListener("input", () => setLine(field.value) && moved());
  const examples = select({
    label: "A line of ours",
    options: state.lines.map(({ name }, index) => [index, name]),
    value: 0,
    role: "line",
    onChange: (index) => {
      field.value = state.lines[index].text;
      setLine(field.value);
      moved();
    },
  });
  const cut = node("p", { class: "gl-help" }, `Only the first ${length} tokens are read.`);
  cut.hidden = true;
  const label = (token) => (token === start ? "▷" : tokenizer.label(token));
  const words = node("p", { class: "gl-tokens", "data-role": "tokens", "data-drawn": true });
  let pieces = [];

  function buildWords() {
    pieces = now.row.map((token) => node("span", {}, label(token)));
    words.replaceChildren(...pieces);
  }
  const choose = (place) => {
    if (place === now.place || place < 0 || place >= now.row.length) return;
    now.place = place;
    showMaps(); // at once; what comes next follows
    refresh();
  };
  const pointed = (event) => {
    const found = pieces.indexOf(document.elementFromPoint(event.clientX, event.clientY));
    if (found >= 0) choose(found);
  };
  words.addEventListener("pointermove", pointed);
  words.addEventListener("pointerdown", pointed);

  const stepper = slider({
    label: "Token",
    min: 0,
    max: 1,
    step: 1,
    value: 0,
    role: "token",
    className: "gl-wide",
    describe: (place) => (now.row.length ? `${place + 1}: ${label(now.row[place])}` : ""),
    onInput: choose,
  });
  function moved() {
    buildWords();
    now.weights = null;
    stepper.input.max = now.row.length - 1;
    refresh();
  }

  // ---- the heads --------------------------------------------------------------------------------------------------------

  const views = Array.from({ length: all }, (_, index) => {
    const canvas = node("canvas", { class: "gl-map", role: "img", "aria-label": "", "data-role": `map-${headName(index)}` });
    const trade = tradeOf(state.trades, index);
    const box = checkbox({
      label: headName(index),
      role: `head-${headName(index)}`,
      onChange: (checked) => {
        now.on[index] = checked;
        everything.disabled = now.on.every(Boolean);
        refresh();
      },
    });
    box.input.checked = true;
    box.input.setAttribute("aria-label", `head ${headName(index)} is on`);
    const words = node("figcaption", {}, trade ? `${trade.name} ${format(100 * trade.score, 0)} %` : "no clear trade");
    const element = node("figure", { class: "gl-head" }, box.element, canvas, words);
    const attend = () => {
      if (now.head === index) return;
      now.head = index;
      showMaps();
    };
    element.addEventListener("pointerenter", attend);
    box.input.addEventListener("focus", attend);
    const onMap = (event) => {
      const { top, height } = canvas.getBoundingClientRect();
      choose(Math.min(now.row.length - 1, Math.floor(((event.clientY - top) / height) * now.row.length)));
    };
    canvas.addEventListener("pointermove", onMap);
    canvas.addEventListener("pointerdown", onMap);
    return { canvas, element, box };
  });
  const everything = button("All heads on", () => {
    now.on.fill(true);
    for (const { box } of views) box.input.checked = true;
    everything.disabled = true;
    refresh();
  }, { "data-role": "all-heads", disabled: true });

  function drawMap(index) {
    const { canvas, element } = views[index];
    const count = now.row.length;
    const side = CELL * count;
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, side, side);
    const [red, green, blue] = colour(canvas, now.on[index] ? "--gl-accent" : "--gl-other");
    for (let query = 0; query < count; query++) {
      for (let key = 0; key <= query; key++) {
        const weight = Math.sqrt(now.weights(index, query, key)); // small weights shall show too
        context.fillStyle = `rgba(${red}, ${green}, ${blue}, ${((now.on[index] ? 1 : 0.4) * weight).toFixed(3)})`;
        context.fillRect(CELL * key, CELL * query, CELL, CELL);
      }
    }
    context.fillStyle = `rgb(${colour(canvas, "--gl-ink").join(", ")})`;
    context.fillRect(0, CELL * now.place - 1, side, 1);
    context.fillRect(0, CELL * (now.place + 1), side, 1);
    element.classList.toggle("gl-off", !now.on[index]);
    element.classList.toggle("gl-chosen", index === now.head);
    const [key, weight] = looksAt(index);
    const off = now.on[index] ? "" : ", switched off";
    canvas.setAttribute("aria-label", `Head ${headName(index)}${off}: ${label(now.row[now.place])} looks most at ${label(now.row[key])}, ${percent(weight)}`);
  }

  function looksAt(head) {
    let best = 0;
    for (let key = 1; key <= now.place; key++) {
      if (now.weights(head, now.place, key) > now.weights(head, now.place, best)) best = key;
    }
    return [best, now.weights(head, now.place, best)];
  }

  function showMaps() {
    if (!now.weights) return;
    views.forEach((_, index) => drawMap(index));
    pieces.forEach((piece, key) => {
      const weight = key <= now.place ? now.weights(now.head, now.place, key) : 0;
      piece.style.setProperty("--gl-part", Math.sqrt(weight).toFixed(3));
      piece.classList.toggle("gl-here-token", key === now.place);
      piece.classList.toggle("gl-later", key > now.place);
    });
    stepper.set(now.place);
    const [key, weight] = looksAt(now.head);
    looks.textContent = `Head ${headName(now.head)}: ${label(now.row[now.place])} looks most at ${label(now.row[key])} (token ${key + 1}), ${percent(weight)}.`;
  }
  const looks = node("p", { class: "gl-value", "data-drawn": true, "data-role": "looks" });

  // ---- what comes next ----------------------------------------------------------------------------------------------------

  const percent = (part) => `${format(100 * part, part < 0.0995 ? 1 : 0)} %`;
  const next = node("ul", { class: "gl-odds gl-follows", "data-drawn": true, "data-role": "next" });
  const heading = node("p", { class: "gl-value" });
  const summary = node("p", { class: "gl-summary", "data-drawn": true, "data-role": "summary" });

  function showNext() {
    const { whole, left, row, place } = now;
    const really = place + 1 < row.length ? row[place + 1] : null;
    const ranked = [...whole.logProbs.keys()].sort((a, b) => whole.logProbs[b] - whole.logProbs[a]);
    const shown = ranked.slice(0, SHOWN);
    if (left) {
      const favourite = left.logProbs.indexOf(Math.max(...left.logProbs));
      if (!shown.includes(favourite)) shown[SHOWN - 1] = favourite;
    }
    if (really !== null && !shown.includes(really)) shown[SHOWN - (left ? 2 : 1)] = really;
    heading.textContent = left ? "What comes next: all heads above, those left on below" : "What comes next";
    next.replaceChildren(...shown.map((token) => {
      const parts = [whole, ...(left ? [left] : [])].map(({ logProbs }) => Math.exp(logProbs[token]));
      const bars = parts.map((part, index) => node("i", { class: index ? "gl-without" : "", style: `--gl-part: ${part.toFixed(4)}` }));
      return node("li", { class: token === really ? "gl-true" : "" },
        node("span", {}, label(token)), node("span", { class: "gl-twins" }, ...bars), node("span", {}, parts.map(percent).join(" → ")));
    }));
    const mean = ({ nats }) => nats.reduce((sum, value) => sum + value, 0) / nats.length;
    const cost = [mean(whole), ...(left ? [mean(left)] : [])].map((value) => format(value));
    const text = left
      ? `The line costs ${cost[0]} nats a token with all heads, ${cost[1]} without ${offNames()}.`
      : `The line costs ${cost[0]} nats a token.`;
    summary.textContent = text;
    figure.say(`After ${label(row[place])} most likely ${label(shown[0])}. ${text}`);
  }
  const offNames = () => now.on.flatMap((on, index) => (on ? [] : [headName(index)])).join(", ");

  function show() {
    showMaps();
    showNext();
  }

  // ---- layout -------------------------------------------------------------------------------------------------------------

  figure.build(
    node("div", { class: "gl-bar" }, examples.element, node("div", { class: "gl-typed" }, node("label", { for: lineId }, "or type one"), field)),
    cut,
    words,
    stepper.element,
    looks,
    node("div", { class: "gl-heads", role: "group", "aria-label": "Heads of the network, a row for each layer", style: `--gl-columns: ${heads}` },
      ...views.map(({ element }) => element)),
    node("div", { class: "gl-bar" }, everything, node("p", { class: "gl-help" }, "Each map: a row for each token, dark where it looks. Untick a head to switch it off. A line that starts with a blank has no start of a text (▷) before it.")),
    heading,
    next,
    summary,
  );
  figure.onTheme(() => now.weights && showMaps());

  field.value = state.lines[0].text;
  setLine(field.value);
  buildWords();
  stepper.input.max = now.row.length - 1;
  const initial = Object.fromEntries(Object.entries(state.initial).map(([name, array]) => [name, decodeArray(array)]));
  now.weights = weightsOf(initial.weights.values, now.row.length);
  now.whole = { logProbs: initial.log_probs.values, nats: initial.nats.values };
  show();
  return figure.close;
}

// The trade at which a head scores best, if it is any good at it.
function tradeOf(trades, head) {
  const found = trades.map(({ name, scores }) => ({ name, score: scores[head] })).sort((a, b) => b.score - a.score)[0];
  return found && found.score >= CLEAR ? found : null;
}

// The head that is best at looking where it went on the last time, the second of the trades: the line opens in its eyes.
function bestHead(trades) {
  const scores = trades[1].scores;
  return scores.indexOf(Math.max(...scores));
}
