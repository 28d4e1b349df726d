// Shows what may be of any size: its beginning, and more of it on demand.

import { element } from "./dom.js";
import { count } from "./format.js";

/** Of a text within a line or a paragraph, so many characters are shown before it is folded. */
const SHORT = 1_000;
/** Rows of a table that are shown at a time. */
const ROWS = 200;

/** Pieces of a text, the first of them in sight. `size` is how long the whole text is. */
export function pagedText(pieces, size) {
  const shown = element("pre", { tabindex: "0" });
  const told = element("p", { class: "muted" });
  const more = element("button", { type: "button", click: () => show() }, "Show more");
  const root = element("div", { class: "paged" }, shown);
  let next = pieces.next();
  const show = () => {
    if (!next.done) {
      shown.append(next.value);
      next = pieces.next();
    }
    if (next.done) {
      told.remove();
    } else {
      told.replaceChildren(`This is its beginning; all of it is ${count(size)} characters. `, more);
      root.append(told);
    }
  };
  show();
  return root;
}

/** Rows made from items, the first of them in sight; `toTable` makes the table of rows. */
export function pagedRows(items, toRow, toTable) {
  const root = element("div", { class: "paged" });
  let shown = 0;
  let body = null;
  const more = element("button", { type: "button", click: () => show() }, "Show more");
  const told = element("p", { class: "muted" });
  const show = () => {
    const rows = items.slice(shown, shown + ROWS).map(toRow);
    shown += rows.length;
    if (body === null) {
      root.append(toTable(rows));
      body = root.querySelector("tbody");
    } else {
      body.append(...rows);
    }
    if (shown < items.length) {
      told.replaceChildren(`${count(shown)} of ${count(items.length)} are shown. `, more);
      root.append(told);
    } else {
      told.remove();
    }
  };
  show();
  return root;
}

/** A text in a paragraph: where it is long, its beginning, and the rest behind a fold that is filled when it is opened. */
export function folded(text) {
  if (text.length <= SHORT) {
    return text;
  }
  const rest = element("pre", { tabindex: "0" });
  const details = element("details", { toggle: () => { rest.textContent = details.open ? text : ""; } },
    element("summary", {}, `all of it, ${count(text.length)} characters`), rest);
  return [beginning(text, SHORT), details];
}

/** The beginning of a text, cut between signs. */
export function beginning(text, length) {
  if (text.length <= length) {
    return text;
  }
  const end = /[\uD800-\uDBFF]/.test(text[length - 1]) ? length - 1 : length;
  return `${text.slice(0, end)}…`;
}
