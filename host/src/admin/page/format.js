// How numbers, times, digests and states are written.

import { element, say } from "./dom.js";

/** A count, every digit of it: 1,234,567. */
export function count(number) {
  return number.toLocaleString("en-US", { maximumFractionDigits: number < 10 ? 1 : 0 });
}

/** A count for an axis: 12k. */
export function short(number) {
  return number.toLocaleString("en-US", { notation: "compact", maximumFractionDigits: 1 });
}

/** How long: 0.4 s, 4 min 12 s, 3 h 5 min, 2 d 1 h. */
export function duration(seconds) {
  const [minute, hour, day] = [60, 3600, 86400];
  if (seconds < minute) {
    return `${seconds === 0 ? "0" : seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  }
  const [large, one, name, small, other] =
    seconds < hour ? [minute, 1, "min", 1, "s"] : seconds < day ? [hour, minute, "h", minute, "min"]
      : [day, hour, "d", hour, "h"];
  return `${Math.floor(seconds / large)} ${name} ${Math.floor((seconds % large) / (one === 1 ? small : one))} ${other}`;
}

/** The time of day: 21:30:02. */
export function clock(millis, withSeconds = true) {
  const text = new Date(millis).toLocaleTimeString("en-GB");
  return withSeconds ? text : text.slice(0, 5);
}

/** The time of day, with the day where it is not today. */
export function moment(millis) {
  const at = new Date(millis);
  if (at.toDateString() === new Date().toDateString()) {
    return clock(millis);
  }
  const two = (number) => String(number).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(millis)}`;
}

/** A moment, in milliseconds or as the host writes it, as an element that tells it in full. One that is in no calendar is
    told as it is. */
export function time(told) {
  const millis = typeof told === "string" ? Date.parse(told) : told;
  const at = new Date(millis);
  if (Number.isNaN(at.getTime())) {
    return element("span", { title: "a time that this browser's calendar does not have" }, String(told));
  }
  const iso = at.toISOString();
  return element("time", { datetime: iso, title: iso }, moment(millis));
}

/** A digest, shortened; whole on hover, and copied by a click. */
export function digest(whole) {
  if (!whole) {
    return element("span", { class: "muted" }, "–");
  }
  const button = element("button", {
    type: "button", class: "digest", title: `${whole}\nclick to copy`, "aria-label": `Copy the digest ${whole}`,
    "data-focus": `digest ${whole}`,
    click: () => copy(button, whole),
  }, whole.slice(0, 12));
  return button;
}

async function copy(button, whole) {
  try {
    await navigator.clipboard.writeText(whole);
    say("The digest is copied.");
  } catch {
    // Over plain HTTP from another machine a browser lets no page copy.
    button.textContent = whole;
    getSelection().selectAllChildren(button);
  }
}

const MARKS = {
  running: "●", serving: "●", paused: "‖", waiting: "◔", waits: "◔", starting: "○", checking: "○", shadow: "◑",
  stopped: "■", refused: "✕", ended: "□", replaced: "□", "rolled-back": "↩",
};

/** The state of a pipeline or an offer: mark, word and colour. */
export function state(name) {
  const mark = element("span", { "aria-hidden": "true" }, MARKS[name] ?? "?");
  return element("span", { class: "state", "data-state": name }, mark, ` ${name}`);
}

/** A refusal, with what to do. */
export function refusal(error) {
  return [element("strong", {}, error.message), error.remedy ? element("span", {}, error.remedy) : null];
}
