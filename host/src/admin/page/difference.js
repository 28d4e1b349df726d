// Two answers to one event beside each other, with the lines marked that differ.

import { element } from "./dom.js";
import { count } from "./format.js";
import { layOut } from "./layout.js";

/** Above so many pairs of lines, lines are compared in their order alone. */
const MOST_PAIRS = 4_000_000;

/** The table of a difference `{ serving, candidate }`, both JSON text. Of long ones the beginnings are compared. */
export function sideBySide({ serving, candidate }) {
  const [left, right] = [serving, candidate].map((text) => layOut(text));
  const rows = align((left.next().value ?? "").split("\n"), (right.next().value ?? "").split("\n")).map(row);
  const whole = left.next().done && right.next().done;
  const head = (text) => element("th", { scope: "col", colspan: "2" }, text);
  const note = whole ? null : element("p", { class: "note warn" }, "These are the beginnings; "
    + `all of it is ${count(serving.length)} and ${count(candidate.length)} characters.`);
  return [note, element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Serving and candidate" },
    element("table", { class: "sides" },
      element("colgroup", {}, ["sign", "code", "sign", "code"].map((kind) => element("col", { class: kind }))),
      element("thead", {}, element("tr", {}, head("serving"), head("candidate"))), element("tbody", {}, rows)))];
}

function row([left, right]) {
  const same = left === right;
  const [one, other] = same ? [[left], [right]] : marked(left, right);
  return element("tr", { class: same ? false : "differs" },
    side(one, !same && left !== null ? "−" : "", "removed"), side(other, !same && right !== null ? "+" : "", "added"));
}

/** A sign and a line: what is read where colours are not seen. */
function side(parts, sign, kind) {
  const label = sign && (kind === "removed" ? "serving alone" : "candidate alone");
  const there = parts[0] !== null;
  return [
    element("td", { class: `sign ${sign ? kind : ""}` }, element("span", { "aria-label": label || false }, sign)),
    element("td", { class: `code ${sign ? kind : there ? "" : "absent"}` }, there ? parts : ""),
  ];
}

/** The part in which two lines differ, marked in both. */
function marked(left, right) {
  if (left === null || right === null) {
    return [[left], [right]];
  }
  const most = Math.min(left.length, right.length);
  let head = 0;
  while (head < most && left[head] === right[head]) {
    head += 1;
  }
  let tail = 0;
  while (tail < most - head && left.at(-1 - tail) === right.at(-1 - tail)) {
    tail += 1;
  }
  const split = (text) => [
    text.slice(0, head), element("mark", {}, text.slice(head, text.length - tail)), text.slice(text.length - tail),
  ];
  return [split(left), split(right)];
}

/** Pairs of lines: equal ones beside each other, and those in between side by side as far as they go. */
function align(left, right) {
  let head = 0;
  while (head < left.length && head < right.length && left[head] === right[head]) {
    head += 1;
  }
  let tail = 0;
  const most = Math.min(left.length, right.length) - head;
  while (tail < most && left.at(-1 - tail) === right.at(-1 - tail)) {
    tail += 1;
  }
  const middle = (lines) => lines.slice(head, lines.length - tail);
  const equal = (lines) => lines.map((line) => [line, line]);
  return [
    ...equal(left.slice(0, head)), ...alignMiddle(middle(left), middle(right)), ...equal(left.slice(left.length - tail)),
  ];
}

function alignMiddle(left, right) {
  if (left.length * right.length > MOST_PAIRS) {
    return beside(left, right);
  }
  const width = right.length + 1;
  // The length of the longest common sequence of what follows each pair of places.
  const longest = new Uint32Array((left.length + 1) * width);
  for (let i = left.length - 1; i >= 0; i -= 1) {
    for (let j = right.length - 1; j >= 0; j -= 1) {
      longest[i * width + j] = left[i] === right[j]
        ? longest[(i + 1) * width + j + 1] + 1
        : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  const rows = [];
  let [i, j, fromI, fromJ] = [0, 0, 0, 0];
  const flush = () => rows.push(...beside(left.slice(fromI, i), right.slice(fromJ, j)));
  while (i < left.length && j < right.length) {
    if (left[i] === right[j]) {
      flush();
      rows.push([left[i], right[j]]);
      [i, j] = [i + 1, j + 1];
      [fromI, fromJ] = [i, j];
    } else if (longest[(i + 1) * width + j] >= longest[i * width + j + 1]) {
      i += 1;
    } else {
      j += 1;
    }
  }
  [i, j] = [left.length, right.length];
  flush();
  return rows;
}

function beside(left, right) {
  const rows = Math.max(left.length, right.length);
  return Array.from({ length: rows }, (_, at) => [left[at] ?? null, right[at] ?? null]);
}
