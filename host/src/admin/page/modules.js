// The view of the modules: what serves, what a roll-back would bring, and what was offered and came of it.

import { Refused, ask } from "./api.js";
import { changing } from "./dialog.js";
import { element, isNew, replace, table } from "./dom.js";
import { digest, refusal, state, time } from "./format.js";
import { comparison, decisions } from "./offer.js";
import { upload } from "./upload.js";

export class Modules {
  #list = element("div", { class: "cards" });

  constructor() {
    this.root = element("section", { class: "view", "aria-labelledby": "title" },
      element("div", { class: "head" }, element("h1", { id: "title" }, "Modules")), this.#list);
  }

  async update({ modules, modulesRefused }) {
    if (!isNew(this.#list, modulesRefused ? String(modulesRefused) : modules)) {
      return;
    }
    if (modulesRefused) {
      replace(this.#list, element("p", { class: "empty" }, refusal(modulesRefused)));
      return;
    }
    const pipelines = new Map();
    for (const module of modules) {
      pipelines.set(module.pipeline, [...(pipelines.get(module.pipeline) ?? []), module]);
    }
    replace(this.#list, [...pipelines].map(([name, transforms]) => card(name, transforms)));
  }
}

/** What the host tells of its modules; while they are being loaded, why it does not. */
export async function askModules() {
  try {
    return { modules: (await ask("v1/modules")).modules };
  } catch (error) {
    if (error instanceof Refused && error.status === 503) {
      return { modules: [], modulesRefused: error };
    }
    throw error;
  }
}

function card(pipeline, transforms) {
  const id = `modules-${pipeline}`;
  const before = transforms.filter((transform) => transform.before);
  const rollBack = before.length > 0 && changing("Roll back…", {
    path: `v1/pipelines/${encodeURIComponent(pipeline)}/roll-back`,
    title: `Roll ${pipeline} back?`, label: "Roll back", done: `${pipeline} is rolled back.`,
    text: "From the next batch on, the modules before serve again:",
    content: element("ul", {}, before.map(({ transform, before: { digest: to, failure } }) =>
      element("li", {}, `${transform}: `, digest(to), failure ? ` (it was left: ${failure})` : ""))),
  });
  return element("article", { class: "card", "aria-labelledby": id, "data-pipeline": pipeline },
    element("div", { class: "card-head" }, element("h2", { id }, pipeline), element("span", {}, rollBack)),
    transforms.map(section));
}

function section(module) {
  const { before, digest: serving, module: file, offers, pipeline, transform } = module;
  const offerOne = element("button", {
    type: "button", "data-focus": `upload ${pipeline} ${transform}`, click: () => upload(module),
  }, "Upload a module…");
  const fact = (name, ...told) => element("div", {}, element("dt", {}, name), element("dd", {}, told));
  return element("section", { class: "transform", "data-transform": transform },
    element("div", { class: "card-head" }, element("h3", {}, transform), element("span", {}, offerOne)),
    element("dl", { class: "facts" },
      fact("serves", serving ? digest(serving) : "not loaded yet"),
      fact("a roll-back brings", before ? digest(before.digest) : "nothing: no module served before"),
      fact("file", file ?? "–")),
    before?.failure ? element("p", { class: "note warn" },
      element("strong", {}, "The module before was left: "), before.failure) : null,
    offers.length > 0 ? offerTable(transform, offers)
      : element("p", { class: "muted" }, "Nothing was offered since the program began."));
}

function offerTable(transform, offers) {
  const columns = [["Offer"], ["When"], ["Module"], ["State"], ["What came of it"], ["", "actions"]];
  return table(`Offers for ${transform}`, columns, offers.map((offer) => element("tr", { "data-offer": offer.id },
    element("td", {}, element("a", { href: `#offer/${offer.id}`, "data-focus": `offer ${offer.id}` }, `no. ${offer.id}`)),
    element("td", {}, time(offer.time), element("span", { class: "muted" }, ` by ${offer.from}`)),
    element("td", {}, digest(offer.digest)),
    element("td", {}, state(offer.state)),
    element("td", { class: "wide" }, offer.reason ? element("p", {}, offer.reason) : null,
      offer.comparison ? comparison(offer.comparison, offer.reason) : null),
    element("td", { class: "actions" }, decisions(offer)))));
}
