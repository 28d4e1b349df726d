// Builds elements. Whatever the host tells goes in as text: nothing on this page parses markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes (a function is a listener, false leaves one out) and children (a string is text). */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same for a part of a drawing. */
export function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      made.addEventListener(name, value);
    } else if (value !== false && value !== null && value !== undefined) {
      made.setAttribute(name, value === true ? "" : value);
    }
  }
  made.append(...present(children));
  return made;
}

/** Puts other children in. Whatever had the focus gets it back, by its `data-focus`. */
export function replace(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  parent.replaceChildren(...present(children));
  if (focused !== undefined) {
    parent.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }
}

function present(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Sets a text, where it is another one: what has not changed stays selected. */
export function setText(node, text) {
  if (node.textContent !== text) {
    node.textContent = text;
  }
}

const drawnFrom = new WeakMap();

/** Whether an element is to be filled anew: it was not yet filled from equal data. */
export function isNew(node, data) {
  const text = JSON.stringify(data);
  const other = drawnFrom.get(node) !== text;
  drawnFrom.set(node, text);
  return other;
}

/** A table in a frame that scrolls by itself where the screen is narrow. Columns are `[label, class]`. */
export function table(label, columns, rows) {
  const heads = columns.map(([text, kind]) => element("th", { scope: "col", class: kind ?? false }, text));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    element("table", {}, element("thead", {}, element("tr", {}, heads)), element("tbody", {}, rows)));
}

/** What the page has done, told to eyes and to screen readers. */
export function say(text) {
  const said = document.getElementById("said");
  said.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { said.textContent = ""; }, 6_000);
}
