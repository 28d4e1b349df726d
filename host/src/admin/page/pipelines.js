// The view of the pipelines: what each does, how far it is behind, lag and rate over time.

import { Chart } from "./chart.js";
import { changing } from "./dialog.js";
import { element, isNew, replace, setText, table } from "./dom.js";
import { count, digest, duration, state } from "./format.js";
import { Series } from "./series.js";

const MINUTE = 60_000;
const SPANS = [[5, "5 min"], [15, "15 min"], [60, "1 hour"]];

export class Pipelines {
  #cards = new Map();
  #span = 15;
  #list = element("div", { class: "cards" });
  #empty = element("p", { class: "empty", hidden: true }, "The configuration has no pipelines.");

  constructor() {
    const spans = SPANS.map(([minutes, label]) => element("label", {},
      element("input", {
        type: "radio", name: "span", value: minutes, checked: minutes === this.#span,
        change: () => { this.#span = minutes; this.#drawAll(); },
      }), element("span", {}, label)));
    this.root = element("section", { class: "view", "aria-labelledby": "title" },
      element("div", { class: "head" }, element("h1", { id: "title" }, "Pipelines"),
        element("fieldset", { class: "choice" }, element("legend", {}, "Charts show at most"), spans)),
      this.#list, this.#empty);
  }

  /** Shows the pipelines as they are now; fetches their samples. */
  async update({ pipelines }) {
    this.#empty.hidden = pipelines.length > 0;
    for (const pipeline of pipelines) {
      let card = this.#cards.get(pipeline.name);
      if (!card) {
        card = new Card(pipeline.name);
        this.#cards.set(pipeline.name, card);
        this.#list.append(card.root);
      }
      card.show(pipeline);
    }
    // A configuration is of one run; another run may have another.
    for (const [name, card] of this.#cards) {
      if (!pipelines.some((pipeline) => pipeline.name === name)) {
        card.root.remove();
        this.#cards.delete(name);
      }
    }
    await Promise.all([...this.#cards.values()].map((card) => card.series.refresh()));
    this.#drawAll();
  }

  #drawAll() {
    this.#cards.forEach((card) => card.draw(this.#span * MINUTE));
  }
}

class Card {
  #name;
  #state = element("span", {});
  #action = element("span", {});
  #notes = element("div", {});
  #facts = element("dl", { class: "facts" });
  #partitions = element("div", {});
  #partitionCount = element("span", {});
  #counts = element("div", {});
  #lag = new Chart({ title: "Lag", unit: "offsets", unknown: "no end of its partitions is known", kind: "lag" });
  #rate = new Chart({ title: "Rate", unit: "events/s", unknown: "not known", kind: "rate" });

  constructor(name) {
    this.#name = name;
    this.series = new Series(name);
    const id = `pipeline-${name}`;
    this.root = element("article", { class: "card", "aria-labelledby": id, "data-pipeline": name },
      element("div", { class: "card-head" }, element("h2", { id }, name), this.#state, this.#action),
      this.#notes, this.#facts,
      element("div", { class: "charts" }, this.#lag.root, this.#rate.root),
      element("details", {}, element("summary", {}, this.#partitionCount), this.#partitions),
      element("details", {}, element("summary", {}, "Counts and modules"), this.#counts));
  }

  show(pipeline) {
    const { lag, paused, partitions, reason, seconds_behind: behind, waiting } = pipeline;
    if (isNew(this.#state, pipeline.state)) {
      replace(this.#state, state(pipeline.state));
    }
    if (isNew(this.#action, [paused, pipeline.state])) {
      replace(this.#action, this.#button(paused, pipeline.state));
    }
    if (isNew(this.#notes, [reason, waiting])) {
      replace(this.#notes,
        reason ? element("p", { class: "note bad" }, element("strong", {}, "It has stopped: "), reason) : null,
        waiting.map(({ store, cause }) =>
          element("p", { class: "note warn" }, element("strong", {}, `It waits for ${store}: `), cause)));
    }
    const facts = [
      ["lag", lag === null ? "not known" : `${count(lag)} offsets`],
      ["behind", behind === null ? "not known" : duration(behind)],
      ["events", count(sum(pipeline.events))],
      ["commands", count(sum(pipeline.commands))],
      ["dead letters", count(sum(pipeline.dead_letters))],
    ];
    if (this.#facts.childElementCount === 0) {
      replace(this.#facts, facts.map(([name]) =>
        element("div", {}, element("dt", {}, name), element("dd", { "data-fact": name }))));
    }
    facts.forEach(([, text], place) => setText(this.#facts.children[place].lastChild, text));
    this.#facts.lastChild.classList.toggle("bad", sum(pipeline.dead_letters) > 0);
    setText(this.#partitionCount, `${partitions.length} ${partitions.length === 1 ? "partition" : "partitions"}`);
    if (isNew(this.#partitions, partitions)) {
      replace(this.#partitions, partitionTable(partitions));
    }
    const { commands, dead_letters: letters, events, transforms } = pipeline;
    if (isNew(this.#counts, [commands, letters, events, transforms])) {
      replace(this.#counts, element("div", { class: "columns" },
        countTable("Events", events), countTable("Commands", commands), countTable("Dead letters", letters),
        table("Modules", [["Transform"], ["Module that serves"]], transforms.map((transform) =>
          element("tr", {}, element("td", {}, transform.name), element("td", {}, digest(transform.digest)))))));
    }
  }

  draw(span) {
    const now = Date.now();
    const gap = this.series.every * 3;
    const lag = this.series.lag();
    // The clock of the host counts, which may be another machine's.
    const to = lag.at(-1)?.time ?? now;
    // What began a while ago is not squeezed into a corner.
    const from = Math.max(to - span, Math.min(lag[0]?.time ?? now, to - MINUTE));
    this.#lag.draw(lag, from, to, gap);
    this.#rate.draw(this.series.rate(), from, to, gap);
  }

  #button(paused, doing) {
    if (doing === "stopped" || doing === "ended") {
      return null;
    }
    const path = `v1/pipelines/${encodeURIComponent(this.#name)}/${paused ? "resume" : "pause"}`;
    return paused
      ? changing("Resume…", {
        path, title: `Resume ${this.#name}?`, label: "Resume", done: `${this.#name} goes on.`,
        text: "It goes on where it stood.",
      })
      : changing("Pause…", {
        path, title: `Pause ${this.#name}?`, label: "Pause", done: `${this.#name} is paused.`,
        text: "It takes in nothing more until it is resumed or the program ends. What is in flight is finished, and its "
          + "partitions stay its own.",
      });
  }
}

function partitionTable(partitions) {
  if (partitions.length === 0) {
    return element("p", { class: "muted" }, "None is its own now.");
  }
  const told = (value, written = count) => (value === null ? "–" : written(value));
  const rows = partitions.map((one) => element("tr", {},
    element("td", {}, one.topic), element("td", { class: "number" }, String(one.partition)),
    element("td", { class: "number" }, count(one.next_offset)),
    element("td", { class: "number" }, told(one.end_offset)),
    element("td", { class: "number" }, told(one.lag)),
    element("td", { class: "number" }, told(one.seconds_behind, duration))));
  const number = (label) => [label, "number"];
  const columns = [["Topic"], number("Partition"), number("Next offset"), number("End"), number("Lag"), number("Behind")];
  return table("Partitions", columns, rows);
}

function countTable(title, counts) {
  const rows = Object.entries(counts).map(([name, number]) =>
    element("tr", {}, element("td", {}, name), element("td", { class: "number" }, count(number))));
  if (rows.length === 0) {
    rows.push(element("tr", {}, element("td", { class: "muted", colspan: "2" }, "none")));
  }
  return table(title, [[title], ["", "number"]], rows);
}

function sum(counts) {
  return Object.values(counts).reduce((all, one) => all + one, 0);
}
