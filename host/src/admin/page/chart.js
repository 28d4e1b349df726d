// A line over time: axes with units, the last value, and the value under the pointer or chosen with the arrow keys.

import { drawn, element, setText } from "./dom.js";
import { clock, count, short } from "./format.js";

const HEIGHT = 132;
const EDGE = { left: 46, right: 12, top: 8, bottom: 20 };
/** Minutes between two labels of the time axis, the first that leaves enough room. */
const STEPS = [0.25, 0.5, 1, 2, 5, 10, 15, 30, 60];
const LABEL_WIDTH = 64;

export class Chart {
  #unit;
  #unknown;
  #value = element("span", { class: "value" });
  #plot;
  #view = { points: [], from: 0, to: 1, gap: 0 };
  #chosen = null;
  #marker = null;

  /** `unknown` is what to say where no value is known. */
  constructor({ title, unit, unknown, kind }) {
    this.#unit = unit;
    this.#unknown = unknown;
    this.#plot = drawn("svg", {
      role: "img", tabindex: "0", height: HEIGHT, class: `plot ${kind}`,
      pointermove: (event) => this.#chooseAt(event.offsetX),
      pointerleave: () => this.#choose(null),
      blur: () => this.#choose(null),
      keydown: (event) => this.#key(event),
    });
    this.root = element("figure", { class: "chart", "data-chart": kind },
      element("figcaption", {}, element("span", {}, title, " ", element("span", { class: "muted" }, `(${unit})`)),
        this.#value),
      this.#plot);
    this.title = title;
    new ResizeObserver(() => this.#redraw()).observe(this.root);
  }

  /** Draws points `{ time, value, state }` from one moment to another; `gap` is how long a line bridges, ms. */
  draw(points, from, to, gap) {
    const chosen = this.#chosen === null ? null : this.#view.points[this.#chosen]?.time;
    this.#view = { points: points.filter(({ time }) => time >= from && time <= to), from, to, gap };
    const again = chosen === null ? -1 : this.#view.points.findIndex(({ time }) => time === chosen);
    this.#chosen = again < 0 ? null : again;
    this.#redraw();
  }

  #redraw() {
    const width = this.#plot.clientWidth;
    if (width === 0) {
      return;
    }
    const { points, from, to } = this.#view;
    const known = points.filter(({ value }) => value !== null);
    const most = niceAbove(Math.max(...known.map(({ value }) => value), 0));
    const x = (time) => EDGE.left + ((time - from) / (to - from)) * (width - EDGE.left - EDGE.right);
    const y = (value) => HEIGHT - EDGE.bottom - (value / most) * (HEIGHT - EDGE.top - EDGE.bottom);
    this.#view = { ...this.#view, x, y };
    this.#plot.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.#plot.replaceChildren(
      ...this.#states(), ...axes(most, known.length > 0, from, to, x, y, width), ...this.#lines(),
    );
    if (known.length === 0) {
      const text = points.length === 0 ? "no samples yet" : this.#unknown;
      this.#plot.append(drawn("text", { x: width / 2, y: HEIGHT / 2 - 4, class: "unknown" }, text));
    }
    this.#plot.dataset.points = known.length;
    this.#label(known);
    this.#mark();
  }

  #label(known) {
    const last = known.at(-1);
    const highest = known.reduce((most, { value }) => Math.max(most, value), 0);
    const text = last
      ? `${this.title}: ${count(last.value)} ${this.#unit} at ${clock(last.time)}, at most ${count(highest)} since `
        + `${clock(known[0].time)}. The arrow keys go from value to value.`
      : `${this.title}: ${this.#unknown}`;
    this.#plot.setAttribute("aria-label", text);
  }

  /** The times at which it did not run, shaded and named. */
  #states() {
    const { points, x, y, gap } = this.#view;
    const spans = [];
    for (const { time, state } of points) {
      const last = spans.at(-1);
      if (last && last.state === state && time - last.to <= gap) {
        last.to = time;
      } else {
        // The state has changed somewhere in between.
        const from = last && time - last.to <= gap ? last.to : time;
        spans.push({ state, from, to: time });
      }
    }
    return spans.filter(({ state }) => state !== "running").flatMap(({ state, from, to }) => {
      const [left, right] = [x(from), Math.max(x(to), x(from) + 2)];
      const band = drawn("rect", {
        class: "band", "data-state": state, x: left, width: right - left, y: EDGE.top, height: y(0) - EDGE.top,
      });
      const fits = right - left > state.length * 7 + 6;
      return [band, fits ? drawn("text", { class: "band-name", x: left + 4, y: EDGE.top + 11 }, state) : null]
        .filter(Boolean);
    });
  }

  /** The line, broken where nothing is known, and the area below it. */
  #lines() {
    const { points, x, y, gap } = this.#view;
    const runs = [];
    let before = null;
    for (const point of points) {
      if (point.value === null) {
        before = null;
        continue;
      }
      if (before === null || point.time - before.time > gap) {
        runs.push([]);
      }
      runs.at(-1).push(`${x(point.time).toFixed(1)} ${y(point.value).toFixed(1)}`);
      before = point;
    }
    return runs.flatMap((run) => {
      const [left, right] = [run[0].split(" ")[0], run.at(-1).split(" ")[0]];
      // A single value is seen by the round ends of a line without length.
      const line = run.length === 1 ? `M${run[0]}h0.01` : `M${run.join("L")}`;
      return [
        drawn("path", { class: "area", d: `M${left} ${y(0)}L${run.join("L")}L${right} ${y(0)}Z` }),
        drawn("path", { class: "line", d: line }),
      ];
    });
  }

  #chooseAt(place) {
    const { points, x } = this.#view;
    if (!x || points.length === 0) {
      return;
    }
    let nearest = 0;
    points.forEach(({ time }, at) => {
      if (Math.abs(x(time) - place) < Math.abs(x(points[nearest].time) - place)) {
        nearest = at;
      }
    });
    this.#choose(nearest);
  }

  #key(event) {
    const last = this.#view.points.length - 1;
    const at = this.#chosen ?? last;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last, Escape: null }[event.key];
    if (to !== undefined && last >= 0) {
      event.preventDefault();
      this.#choose(to === null ? null : Math.min(Math.max(to, 0), last));
    }
  }

  #choose(place) {
    this.#chosen = place;
    this.#mark();
  }

  /** The chosen value, or the last one. */
  #mark() {
    const { points, x, y } = this.#view;
    this.#marker?.remove();
    this.#marker = null;
    const point = this.#chosen === null ? points.at(-1) : points[this.#chosen];
    if (!point || !x) {
      setText(this.#value, "–");
      return;
    }
    const value = point.value === null ? "not known" : `${count(point.value)} ${this.#unit}`;
    setText(this.#value, this.#chosen === null ? value : `${clock(point.time)} ${point.state}: ${value}`);
    this.#value.classList.toggle("chosen", this.#chosen !== null);
    if (this.#chosen === null) {
      return;
    }
    const at = x(point.time);
    const dot = point.value === null ? null : drawn("circle", { cx: at, cy: y(point.value), r: 3.5 });
    this.#marker = drawn("g", { class: "marker" },
      drawn("line", { x1: at, x2: at, y1: EDGE.top, y2: HEIGHT - EDGE.bottom }), dot);
    this.#plot.append(this.#marker);
  }
}

/** The first of 1, 2, 5, 10, … that is not below. */
function niceAbove(value) {
  if (value <= 1) {
    return 1;
  }
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((nice) => nice >= value);
}

function axes(most, isKnown, from, to, x, y, width) {
  const values = !isKnown ? [0] : most === 1 ? [0, 1] : [0, most / 2, most];
  const across = values.flatMap((value) => [
    drawn("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }),
    isKnown ? drawn("text", { class: "scale", x: EDGE.left - 6, y: y(value) + 4 }, short(value)) : "",
  ]).filter(Boolean);
  const room = (width - EDGE.left - EDGE.right) / LABEL_WIDTH;
  const minutes = (to - from) / 60_000;
  const step = (STEPS.find((step) => minutes / step <= room) ?? 60) * 60_000;
  const offset = new Date(to).getTimezoneOffset() * 60_000;
  const times = [];
  for (let time = Math.ceil((from - offset) / step) * step + offset; time <= to; time += step) {
    times.push(time);
  }
  const along = times.flatMap((time) => [
    drawn("line", { class: "tick", x1: x(time), x2: x(time), y1: y(0), y2: y(0) + 4 }),
    drawn("text", { class: "time", x: x(time), y: HEIGHT - 4 }, clock(time, step < 60_000)),
  ]);
  return [...across, ...along];
}
