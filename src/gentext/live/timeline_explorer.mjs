// The timeline explorer (chapter 3): zoom along the history, filter it by family, follow the lineage of a model.
// `timeline_explorer.py` says what is in the state; `timeline_lanes.mjs` draws.

import { createFigure, node, uniqueId } from "./common.mjs";
import { button, colour, select, slider } from "./controls.mjs";
import { timelineLanes } from "./timeline_lanes.mjs";

const MONTHS = "January February March April May June July August September October November December".split(" ");

export default { render };

function render({ model, el, signal }) {
  const state = model.get("state");
  const { events, families, range, shortest, initial } = state;
  const figure = createFigure({ model, el, signal, name: "timeline-explorer" });
  const full = range[1] - range[0];
  const children = events.map(() => []);
  events.forEach((event, index) => event.parents.forEach((parent) => children[parent].push(index)));
  const now = { window: initial.window, families: families.map(() => true), chosen: initial.event, visible: [], related: new Map() };

  // ---- what is in sight, and who descends from whom: the package's `select`, `ancestors` and `descendants` --------------------

  function look() {
    const started = performance.now();
    const edges = Float32Array.from(now.window);
    const on = Float32Array.from(now.families, Number);
    const seen = events.map(({ time, family }) => edges[0] <= time && time <= edges[1] && on[family] === 1);
    now.visible = seen;
    const visible = { shape: [events.length], values: Float32Array.from(seen, Number) };
    figure.computed("visible", { window: { shape: [2], values: edges }, families: { shape: [on.length], values: on } }, { visible }, started);
  }

  function trace() {
    const started = performance.now();
    const marks = { ancestors: reached((index) => events[index].parents), descendants: reached((index) => children[index]) };
    now.related = new Map();
    marks.ancestors.forEach((index) => now.related.set(index, "ancestor"));
    marks.descendants.forEach((index) => now.related.set(index, "descendant"));
    events[now.chosen].parents.forEach((index) => now.related.set(index, "parent"));
    children[now.chosen].forEach((index) => now.related.set(index, "child"));
    const asArray = (set) => ({ shape: [events.length], values: Float32Array.from(events, (_, index) => Number(set.has(index))) });
    const outputs = { ancestors: asArray(marks.ancestors), descendants: asArray(marks.descendants) };
    figure.computed("lineage", { event: { shape: [1], values: Float32Array.of(now.chosen) } }, outputs, started);
  }

  function reached(step) {
    const found = new Set();
    const waiting = [...step(now.chosen)];
    while (waiting.length) {
      const index = waiting.pop();
      if (found.has(index)) continue;
      found.add(index);
      waiting.push(...step(index));
    }
    return found;
  }

  // ---- changes --------------------------------------------------------------------------------------------------------------

  function setWindow([start, end], tell = true) {
    const span = Math.min(full, Math.max(shortest, end - start));
    const middle = Math.min(range[1], Math.max(range[0], (start + end) / 2));
    now.window = [Math.fround(middle - span / 2), Math.fround(middle + span / 2)];
    middleSlider.set(middle);
    spanSlider.set(spanPart(span));
    look();
    refresh();
    if (tell) figure.say(`${spanWords()}: ${count()}.`);
  }

  function choose(index, { bring = true } = {}) {
    now.chosen = index;
    const event = events[index];
    if (!now.families[event.family]) boxes[event.family].checked = now.families[event.family] = true;
    trace();
    const [start, end] = now.window;
    const margin = 0.04 * (end - start);
    if (bring && (event.time < start + margin || event.time > end - margin)) centre();
    look();
    refresh();
    card.show(index);
    chooser.input.value = index;
    figure.say(`${event.name}, ${dateWords(event)}. ${event.idea}`);
  }

  function centre() {
    const half = (now.window[1] - now.window[0]) / 2;
    const { time } = events[now.chosen];
    setWindow([time - half, time + half], false);
  }

  function zoom(factor) {
    const [start, end] = now.window;
    const { time } = events[now.chosen];
    const about = time > start && time < end ? time : (start + end) / 2; // the chosen event stays where it is
    setWindow(now.window.map((edge) => about + (edge - about) * factor));
  }

  const neighbour = (step) => {
    for (let index = now.chosen + step; index >= 0 && index < events.length; index += step) {
      if (now.families[events[index].family]) return index;
    }
    return null;
  };
  const step = (by) => neighbour(by) !== null && choose(neighbour(by));

  function onKey(event) {
    const [start, end] = now.window;
    const move = (part) => setWindow(now.window.map((edge) => edge + part * (end - start)));
    const newest = (list) => list.length && choose(list.at(-1));
    const plain = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), Home: showAll, " ": centre };
    plain.ArrowUp = () => newest(events[now.chosen].parents);
    plain.ArrowDown = () => children[now.chosen].length && choose(children[now.chosen][0]);
    plain["+"] = plain["="] = () => zoom(1 / 1.5);
    plain["-"] = () => zoom(1.5);
    const shifted = { ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), ArrowUp: () => zoom(1 / 1.5), ArrowDown: () => zoom(1.5) };
    const act = (event.shiftKey && shifted[event.key]) || plain[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  }

  const showAll = () => setWindow(range);

  // ---- controls -------------------------------------------------------------------------------------------------------------

  const lanes = timelineLanes({
    events,
    families,
    range,
    role: "lanes",
    signal: figure.signal,
    onWindow: setWindow,
    onChoose: (index) => choose(index, { bring: false }),
    onKey,
  });
  const count = () => `${now.visible.filter(Boolean).length} of ${events.length} events in sight`;
  const spanWords = () => `${Math.round(now.window[0])} to ${Math.round(now.window[1])}`;
  const middleSlider = slider({
    label: "Year",
    min: range[0],
    max: range[1],
    step: 0.25,
    value: (now.window[0] + now.window[1]) / 2,
    role: "middle",
    describe: (year) => String(Math.round(year)),
    onInput: (middle) => {
      const half = (now.window[1] - now.window[0]) / 2;
      setWindow([middle - half, middle + half]);
    },
  });
  // The second slider runs from the whole history (0) to the closest look (1), by equal factors.
  const spanPart = (span) => Math.log(full / span) / Math.log(full / shortest);
  const spanSlider = slider({
    label: "Zoom",
    min: 0,
    max: 1,
    step: 0.01,
    value: spanPart(now.window[1] - now.window[0]),
    role: "span",
    describe: (part) => yearsWords(full * (shortest / full) ** part),
    onInput: (part) => {
      const half = (full * (shortest / full) ** part) / 2;
      const middle = (now.window[0] + now.window[1]) / 2;
      setWindow([middle - half, middle + half]);
    },
  });
  const buttons = {
    in: button("Zoom in", () => zoom(1 / 1.5), { "data-role": "zoom-in" }),
    out: button("Zoom out", () => zoom(1.5), { "data-role": "zoom-out" }),
    all: button("Whole history", showAll, { "data-role": "all" }),
    earlier: button("Earlier", () => step(-1), { "data-role": "earlier" }),
    later: button("Later", () => step(1), { "data-role": "later" }),
  };
  const boxes = families.map((_, family) => {
    const input = node("input", { type: "checkbox", id: uniqueId("family"), "data-role": "family", checked: true });
    input.addEventListener("change", () => {
      now.families[family] = input.checked;
      look();
      refresh();
      figure.say(`${families[family].name} ${input.checked ? "shown" : "hidden"}: ${count()}.`);
    });
    return input;
  });
  const swatches = families.map(() => node("i", { "aria-hidden": "true" }));
  const legend = node("fieldset", { class: "gl-families" }, node("legend", { class: "gl-hidden" }, "Families to show"));
  families.forEach(({ name }, family) => {
    legend.append(node("span", {}, boxes[family], node("label", { for: boxes[family].id }, swatches[family], name)));
  });
  const chooser = select({
    label: "Event",
    options: events.map((event, index) => [index, `${event.date}  ${event.name}`]),
    value: now.chosen,
    role: "event",
    onChange: (index) => choose(index),
  });
  const sight = node("p", { class: "gl-help", "data-drawn": true });
  const card = eventCard({ state, children, lineage: () => now.related, onChoose: (index) => choose(index) });

  function refresh() {
    lanes.show(now);
    sight.textContent = `${spanWords()}: ${count()}.`;
    const span = now.window[1] - now.window[0];
    // A button that had the focus when it went dead would throw a keyboard reader to the top of the page.
    const rest = (element, off) => {
      if (off && element === document.activeElement) lanes.element.focus({ preventScroll: true });
      element.disabled = off;
    };
    rest(buttons.in, span <= shortest * 1.001);
    rest(buttons.out, span >= full * 0.999);
    rest(buttons.all, span >= full * 0.999 && Math.abs(now.window[0] - range[0]) < 0.01);
    rest(buttons.earlier, neighbour(-1) === null);
    rest(buttons.later, neighbour(1) === null);
  }
  function paint() {
    swatches.forEach((swatch, family) => {
      const name = family === 0 ? "--gl-other" : `--gl-group-${family - 1}`;
      swatch.style.background = `rgb(${colour(lanes.element, name)})`;
    });
    lanes.redraw();
  }

  figure.build(
    lanes.element,
    sight,
    legend,
    node("div", { class: "gl-travel" }, middleSlider.element, spanSlider.element),
    node("div", { class: "gl-buttons" }, buttons.in, buttons.out, buttons.all),
    node("div", { class: "gl-picker gl-follow" }, chooser.element, buttons.earlier, buttons.later),
    card.element,
    node("p", { class: "gl-help" }, HELP),
  );
  figure.onTheme(paint);
  // The opening picture is drawn before anybody has touched anything, so it is not reported as an answer.
  now.visible = events.map(({ time }) => now.window[0] <= time && time <= now.window[1]);
  const mark = (step_, name) => reached(step_).forEach((index) => now.related.set(index, name));
  mark((index) => events[index].parents, "ancestor");
  mark((index) => children[index], "descendant");
  events[now.chosen].parents.forEach((index) => now.related.set(index, "parent"));
  children[now.chosen].forEach((index) => now.related.set(index, "child"));
  refresh();
  paint();
  card.show(now.chosen);
  return figure.close;
}

const HELP =
  "Drag to move; pinch, or hold Ctrl and turn the wheel, to zoom; click an event to follow it. With the picture in focus, the left and right " +
  "arrow keys go from event to event, up to a parent, down to a child. With Shift they move and zoom.";

// ---- the card of one event ---------------------------------------------------------------------------------------------------

function eventCard({ state, children, lineage, onChoose }) {
  const { events, families, chapters } = state;
  const element = node("section", { class: "gl-card", "aria-label": "The chosen event", tabindex: -1 });
  const pages = bookPages();

  function kin(label, list, role) {
    if (list.length === 0) return null;
    const go = (index) => () => {
      onChoose(index);
      element.focus({ preventScroll: true }); // the button is gone with the old card
    };
    const items = list.map((index) => node("li", {}, button(events[index].name, go(index), { "data-role": role })));
    return node("div", { class: "gl-kin" }, node("p", {}, label), node("ul", {}, ...items));
  }

  function show(index) {
    const event = events[index];
    const counts = { before: 0, after: 0 };
    for (const relation of lineage().values()) counts[relation === "parent" || relation === "ancestor" ? "before" : "after"] += 1;
    const rows = [
      ["By", authorWords(event.authors)],
      ["Family", families[event.family].name],
      ["Parameters", event.parameters && `${amount(event.parameters.value)} (${sourceWords(event.parameters)})`],
      ["Training compute", event.compute && `${scientific(event.compute.value)} FLOP (${sourceWords(event.compute)})`],
      ["Source", node("span", {}, event.cite, ", in the ", pages.has("bibliography") ? node("a", { href: pages.get("bibliography") }, "bibliography") : "bibliography")],
      ["In this book", chapterWords(event.chapter)],
      ["Lineage", `rests on ${number(counts.before, "earlier event")}; ${number(counts.after, "later one")} ${counts.after === 1 ? "rests" : "rest"} on it`],
    ];
    const parts = [
      node("p", { class: "gl-card-title" }, node("strong", {}, event.name), " ", node("span", {}, dateWords(event))),
      node("p", { class: "gl-card-idea", "data-drawn": true }, event.idea),
      node("dl", {}, ...rows.filter(([, value]) => value).flatMap(([name, value]) => [node("dt", {}, name), node("dd", {}, value)])),
      kin("Built on", event.parents, "parent"),
      kin("Built upon by", children[index], "child"),
    ];
    element.replaceChildren(...parts.filter(Boolean));
  }

  function chapterWords(chapter) {
    if (!chapter) return null;
    const name = `chapter ${chapter}, ${chapters[chapter]}`;
    return pages.has(chapter) ? node("a", { href: pages.get(chapter) }, name) : `${name} (to come)`;
  }
  return { element, show };
}

// The pages that this copy of the book has, from its table of contents: a chapter's number, or "bibliography" -> address. In
// a notebook there are none.
function bookPages() {
  const pages = new Map();
  for (const link of document.querySelectorAll("nav a[href]")) {
    const found = /(?:^|\/)(?:(\d\d)-[^/#?]*|(bibliography))\.html$/.exec(link.getAttribute("href"));
    if (!found) continue;
    const name = found[2] ?? Number(found[1]);
    if (!pages.has(name)) pages.set(name, link.href);
  }
  return pages;
}

// ---- words -------------------------------------------------------------------------------------------------------------------

const number = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

function dateWords({ date }) {
  const [year, month] = date.split("-");
  return month ? `${MONTHS[Number(month) - 1]} ${year}` : year;
}

const yearsWords = (span) => `${span < 10 ? span.toFixed(1) : Math.round(span)} years`;

function authorWords(authors) {
  if (authors.at(-1) === "others") return `${authors.slice(0, -1).join(", ")} and others`;
  return authors.length > 1 ? `${authors.slice(0, -1).join(", ")} and ${authors.at(-1)}` : authors[0];
}

const sourceWords = ({ cite, where, by }) => `${by === "authors" ? "published" : "an estimate"}: ${cite}, ${where}`;

// 175000000000 as "175 billion".
function amount(value) {
  for (const [size, name] of [[1e12, "trillion"], [1e9, "billion"], [1e6, "million"]]) {
    if (value >= size) return `${Number((value / size).toPrecision(4))} ${name}`;
  }
  return value.toLocaleString("en");
}

// 3.14e23 as "3.1 × 10²³".
function scientific(value) {
  const [digits, power] = value.toExponential(1).split("e");
  return `${digits} × 10${power.replace("+", "").replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit])}`;
}
