// The view of the dead letters: the list, and one of them whole.

import { askPatiently } from "./api.js";
import { element, isNew, replace, table } from "./dom.js";
import { count, digest, refusal, time } from "./format.js";
import { layOutIfJson } from "./layout.js";
import { beginning, folded, pagedRows, pagedText } from "./paged.js";

const LIMIT = 200;
/** What the list holds of a reason, characters. */
const REASON = 500;
/** How long to leave between two readings that nobody has asked for, ms. */
const REST = 5_000;

export class DeadLetters {
  #list = element("div", {});
  #letter = element("div", { class: "letter" });
  #found = element("p", { class: "muted", role: "status" });
  #pipeline = element("select", { name: "pipeline", change: () => this.#ask() });
  #fault = element("select", { name: "fault", change: () => this.#ask() });
  #position = null;
  #counted = null;
  #asked = 0;
  #mayAskAt = 0;
  #faults = [];

  constructor() {
    const again = element("button", { type: "button", click: () => this.#ask() }, "Refresh");
    const chosen = (label, select) => element("label", {}, element("span", {}, label), select);
    this.root = element("section", { class: "view", "aria-labelledby": "title" },
      element("div", { class: "head" }, element("h1", { id: "title" }, "Dead letters"),
        element("div", { class: "choice" }, chosen("Pipeline", this.#pipeline), chosen("Fault", this.#fault), again)),
      this.#found, element("div", { class: "halves" }, this.#list, this.#letter));
  }

  /** Shows the letters of this record; of none, where there is no position. */
  async open(position) {
    this.#position = position;
    this.root.classList.toggle("opened", position !== null);
    this.#list.querySelectorAll("tr[data-position]").forEach((row) => {
      row.classList.toggle("chosen", row.dataset.position === position);
    });
    if (position === null) {
      replace(this.#letter);
      return;
    }
    replace(this.#letter, element("p", { class: "muted" }, "reading…"));
    try {
      const found = await askPatiently(`v1/dead-letters/${encodeURIComponent(position)}`);
      if (position === this.#position) {
        this.#show(position, found);
      }
    } catch (error) {
      replace(this.#letter, element("p", { class: "note bad" }, refusal(error)));
    }
  }

  /** Has them read again where more were counted, and waits for no reading: they are read from where they are filed. */
  update({ pipelines }) {
    if (isNew(this.#pipeline, pipelines.map(({ name }) => name))) {
      options(this.#pipeline, [["", "all"], ...pipelines.map(({ name }) => [name, name])]);
    }
    const counted = JSON.stringify(pipelines.map(({ dead_letters: letters }) => letters));
    if (counted !== this.#counted && Date.now() >= this.#mayAskAt) {
      this.#counted = counted;
      this.#ask();
    }
  }

  async #ask() {
    this.#asked += 1;
    this.#mayAskAt = Infinity;
    const asked = this.#asked;
    const query = new URLSearchParams({ limit: LIMIT });
    for (const select of [this.#pipeline, this.#fault]) {
      if (select.value) {
        query.set(select.name, select.value);
      }
    }
    try {
      const listed = await askPatiently(`v1/dead-letters?${query}`);
      if (asked === this.#asked) {
        this.#fill(listed);
      }
    } catch (error) {
      if (isNew(this.#list, String(error))) {
        replace(this.#list, element("p", { class: "note bad" }, refusal(error)));
      }
      this.#counted = null;
    } finally {
      this.#mayAskAt = Date.now() + REST;
    }
  }

  #fill({ total, faults, letters, foreign }) {
    // Of one fault alone the others are not counted.
    this.#faults = [...new Set([...this.#faults, ...Object.keys(faults)])].sort();
    if (isNew(this.#fault, [this.#faults, this.#fault.value ? null : faults])) {
      const named = (fault) => [fault, Object.hasOwn(faults, fault) ? `${fault} (${count(faults[fault])})` : fault];
      options(this.#fault, [["", "all"], ...this.#faults.map(named)]);
    }
    const shown = letters.length < total ? `the newest ${count(letters.length)} of ${count(total)}` : count(total);
    const others = foreign.count > 0
      ? `; ${count(foreign.count)} records that are filed there are no dead letters, the first at ${foreign.first}` : "";
    this.#found.textContent = total === 0 ? `None${others}.` : `${shown} ${total === 1 ? "letter" : "letters"}${others}`;
    if (!isNew(this.#list, letters)) {
      return;
    }
    const columns = [["Record"], ["Time of the record"], ["Fault"], ["Transform", "spare"], ["Reason", "wide"]];
    replace(this.#list, letters.length === 0 ? element("p", { class: "empty" }, "There are no dead letters.")
      : table("Dead letters", columns, letters.toReversed().map((letter, place) => this.#row(letter, place))));
  }

  #row({ position, time: at, fault, transform, sink, reason, pipeline }, place) {
    const address = `#dead-letters/${encodeURIComponent(position)}`;
    const open = () => {
      // Who selects a text does not want to go elsewhere.
      if (getSelection().isCollapsed) {
        location.hash = address;
      }
    };
    return element("tr", {
      "data-position": position, class: position === this.#position ? "chosen" : false, click: open,
    },
      element("td", {}, element("a", { href: address, "data-focus": `letter ${position} ${place}` }, position), element("div", { class: "muted" }, pipeline)),
      element("td", {}, at ? time(at) : "–"),
      element("td", {}, element("span", { class: "fault" }, fault)),
      element("td", { class: "spare" }, transform || "–", sink ? element("div", { class: "muted" }, `sink ${sink}`) : null),
      element("td", { class: "wide" }, element("p", { class: "clamped" }, beginning(reason, REASON))));
  }

  #show(position, { letters, more }) {
    replace(this.#letter,
      element("div", { class: "card-head" }, element("h2", { tabindex: "-1" }, position),
        element("a", { href: "#dead-letters", class: "button" }, "Close")),
      letters.map(whole),
      more ? element("p", { class: "note warn" }, "There are more letters of this record, left out for their size.") : null);
    if (matchMedia("(max-width: 70rem)").matches) {
      this.#letter.querySelector("h2").focus();
    }
  }
}

function whole(letter) {
  const fact = (name, told) => (told ? element("div", {}, element("dt", {}, name), element("dd", {}, told)) : null);
  return element("article", { class: "card" },
    element("p", { class: "note bad" }, element("strong", {}, `${letter.fault}: `), folded(letter.reason)),
    element("dl", { class: "facts" },
      fact("pipeline", letter.pipeline), fact("position", letter.position), fact("transform", letter.transform),
      fact("module", letter.digest && digest(letter.digest)), fact("stage", letter.stage), fact("sink", letter.sink),
      fact("time of the record", letter.time && time(letter.time))),
    letter.omitted.map(([part, bytes]) =>
      element("p", { class: "note warn" }, `Left out of the letter for its size: ${part}, ${bytes}`)),
    bytes("Key", letter.key), bytes("Value", letter.value),
    letter.headers.length > 0 ? element("details", {},
      element("summary", {}, letter.headers.length === 1 ? "1 header" : `${letter.headers.length} headers`),
      pagedRows(letter.headers, ([name, value]) => element("tr", {},
        element("td", {}, folded(name)), element("td", { class: "code" }, folded(text(value) ?? "null"))),
      (rows) => table("Headers", [["Header"], ["Value"]], rows))) : null);
}

/** Bytes of a record, laid out where they are JSON. */
function bytes(title, value) {
  const told = text(value);
  const note = told === null ? " (null)" : typeof value === "string" ? "" : " (not UTF-8: base64)";
  return [
    element("h3", {}, title, element("span", { class: "muted" }, note)),
    told === null ? null : pagedText(layOutIfJson(told), told.length),
  ];
}

function text(value) {
  return value === null || typeof value === "string" ? value : value.base64;
}

function options(select, values) {
  const chosen = select.value;
  select.replaceChildren(...values.map(([value, label]) => element("option", { value }, label)));
  select.value = values.some(([value]) => value === chosen) ? chosen : "";
}
