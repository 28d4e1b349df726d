// One offer: what its comparison counted, the decision about it, and what it answers differently, side by side.

import { ask } from "./api.js";
import { sideBySide } from "./difference.js";
import { changing } from "./dialog.js";
import { element, isNew, replace, setText } from "./dom.js";
import { count, digest, refusal, state, time } from "./format.js";
import { folded } from "./paged.js";

/** So many differences are open from the start. */
const OPEN = 3;

export class Offer {
  #id;
  #content = element("div", {});
  #title = element("h2", {});
  #list = element("div", { class: "cards" });
  #shown = 0;

  constructor(id) {
    this.#id = id;
    this.root = element("section", { class: "view", "aria-labelledby": "title" },
      element("p", {}, element("a", { href: "#modules" }, "← Modules")),
      element("h1", { id: "title" }, `Offer no. ${id}`), this.#content, this.#title, this.#list);
  }

  async update() {
    let offer;
    try {
      offer = await ask(`v1/offers/${encodeURIComponent(this.#id)}`);
    } catch (error) {
      if (error.status !== 404 && error.status !== 400) {
        throw error;
      }
      if (isNew(this.#content, String(error))) {
        replace(this.#content, element("p", { class: "empty" }, refusal(error)));
      }
      return;
    }
    const { differences, ...rest } = offer;
    if (isNew(this.#content, rest)) {
      replace(this.#content, summary(rest));
    }
    if (offer.comparison) {
      setText(this.#title, title(differences, offer.comparison));
    }
    // More of them come while it is compared; those that are there stay as they are.
    for (const difference of differences.slice(this.#shown)) {
      this.#list.append(element("article", { class: "card" },
        element("details", { class: "difference", open: this.#shown < OPEN },
          element("summary", {}, element("h3", {}, difference.position)), sideBySide(difference))));
      this.#shown += 1;
    }
  }
}

/** The counts of a comparison. */
export function comparison(counts, reason) {
  const { candidate_seconds: candidate, events, failure, serving_seconds: serving } = counts;
  const parts = [
    ["events compared", events, ""], ["same", counts.same, ""], ["different", counts.different, "warn"],
    ["newly rejected", counts.newly_rejected, "bad"], ["no longer rejected", counts.no_longer_rejected, "warn"],
    ["missed", counts.missed, "warn"],
  ].filter(([name, number]) => number > 0 || name === "events compared");
  const times = serving > 0 ? `it took ${(candidate / serving).toFixed(1)} times as long as what serves` : null;
  return [
    element("p", { class: "counts" }, parts.map(([name, number, kind]) =>
      element("span", { class: kind && number > 0 ? `count ${kind}` : "count" },
        element("b", {}, count(number)), ` ${name}`))),
    times ? element("p", { class: "muted" }, times) : null,
    failure && !reason?.includes(failure) ? element("p", {}, `It failed: ${failure}`) : null,
  ];
}

/** What can be decided about an offer now. */
export function decisions({ id, pipeline, state: name, transform }) {
  if (name !== "shadow" && name !== "waits") {
    return [];
  }
  const where = `${pipeline} / ${transform}`;
  return [
    changing("Promote…", {
      path: `v1/offers/${id}/promote`, title: `Promote offer no. ${id}?`, label: "Promote",
      text: `It serves ${where} from the next batch on. A roll-back brings back what serves now.`,
      done: `Offer no. ${id} serves.`,
    }),
    changing("Discard…", {
      path: `v1/offers/${id}/discard`, title: `Discard offer no. ${id}?`, label: "Discard",
      text: `What serves ${where} goes on serving. The module must be offered again if it is to serve after all.`,
      done: `Offer no. ${id} is discarded.`,
    }),
  ];
}

function summary(offer) {
  const fact = (name, ...told) => element("div", {}, element("dt", {}, name), element("dd", {}, told));
  return element("article", { class: "card" },
    element("div", { class: "card-head" }, element("h2", {}, `${offer.pipeline} / ${offer.transform}`),
      state(offer.state), element("span", { class: "buttons" }, decisions(offer))),
    offer.reason ? element("p", { class: "note bad" }, folded(offer.reason)) : null,
    element("dl", { class: "facts" },
      fact("module", digest(offer.digest)), fact("offered", time(offer.time), ` by ${offer.from}`)),
    offer.comparison ? comparison(offer.comparison, offer.reason)
      : element("p", { class: "muted" }, "It was not compared."));
}

function title(differences, { different, newly_rejected: rejected, no_longer_rejected: accepted }) {
  const all = different + rejected + accepted;
  if (all === 0) {
    return "No differences";
  }
  return differences.length < all ? `The first ${differences.length} of ${count(all)} differences` : `Differences`;
}
