// The dialog that sends a module.

import { Away, Refused, tell } from "./api.js";
import { change } from "./dialog.js";
import { element } from "./dom.js";

const WAYS = [
  ["", "as the configuration says"],
  ["by-rule", "compare it with what serves, then the written rule decides"],
  ["by-hand", "compare it with what serves, then it waits for a decision"],
  ["no", "have it serve at once"],
];

/** Asks for a file and how it is to come to serve, and sends it. */
export function upload({ pipeline, transform }) {
  const file = element("input", { type: "file", accept: ".wasm,application/wasm", required: true, name: "module" });
  const bounds = ["events", "seconds"].map((name) =>
    element("input", { type: "number", min: "1", step: "1", name, placeholder: "as configured", disabled: true }));
  const ways = WAYS.map(([value, label]) => element("label", { class: "row" },
    element("input", {
      type: "radio", name: "shadow", value, checked: value === "",
      change: () => bounds.forEach((bound) => { bound.disabled = !value.startsWith("by-"); }),
    }), element("span", {}, label)));
  const [events, seconds] = bounds;
  const content = element("div", { class: "fields" },
    element("label", {}, element("span", {}, "Module (.wasm)"), file),
    element("fieldset", {}, element("legend", {}, "How it comes to serve"), ways),
    element("div", { class: "columns" },
      element("label", {}, element("span", {}, "Compare so many events at most"), events),
      element("label", {}, element("span", {}, "Compare so many seconds at most"), seconds)));
  change({
    title: `Upload a module for ${pipeline} / ${transform}`, label: "Upload",
    text: "It is checked and compiled beside the stream, which goes on whatever comes of it.",
    content,
    run: () => send(address(pipeline, transform, content), file.files[0]),
    done: ({ id }) => (id ? `It is offer no. ${id}.` : "This module serves already."),
  });
}

async function send(path, module) {
  try {
    return await tell(path, module);
  } catch (error) {
    if (!(error instanceof Away)) {
      throw error;
    }
    // A host that takes no more of a module that is too large may be gone before its answer is read.
    throw new Refused(0, "the connection broke off while the module was sent",
      "look whether it is larger than `max_body_mb` of [admin], and whether the host runs");
  }
}

function address(pipeline, transform, content) {
  const query = new URLSearchParams();
  const way = content.querySelector("[name=shadow]:checked").value;
  if (way) {
    query.set("shadow", way);
  }
  for (const bound of content.querySelectorAll("input[type=number]:enabled")) {
    if (bound.value) {
      query.set(bound.name, bound.value);
    }
  }
  const path = `v1/modules/${encodeURIComponent(pipeline)}/${encodeURIComponent(transform)}`;
  return query.size > 0 ? `${path}?${query}` : path;
}
