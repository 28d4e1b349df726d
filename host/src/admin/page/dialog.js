// Asks before something is changed, and shows why it was refused.

import { tell } from "./api.js";
import { element, replace, say } from "./dom.js";
import { refusal } from "./format.js";

/** Told to the document when something was changed, so that it is looked at anew. */
export const CHANGED = "tidegate-changed";

/**
 * Asks whether to do something and does it. The dialog stays with the cause and the remedy where it is refused.
 *
 * `text` says what will happen, `content` is put below it, `label` names the button, `run` does it, and `done` is said
 * when it is done.
 */
export function change({ title, text, content, label, run, done }) {
  const failed = element("p", { class: "refusal", role: "alert", hidden: true });
  const close = () => dialog.close();
  const cancel = element("button", { type: "button", click: close }, "Cancel");
  const go = element("button", { type: "submit", class: "primary" }, label);
  const form = element("form", {
    submit: async (event) => {
      event.preventDefault();
      go.disabled = true;
      failed.hidden = true;
      try {
        const answer = await run();
        close();
        say(typeof done === "function" ? done(answer) : done);
      } catch (error) {
        failed.hidden = false;
        replace(failed, refusal(error));
      } finally {
        go.disabled = false;
        document.dispatchEvent(new Event(CHANGED));
      }
    },
  }, element("h2", { id: "dialog-title" }, title), element("p", {}, text), content, failed,
  element("div", { class: "buttons" }, cancel, go));
  const dialog = element("dialog", { "aria-labelledby": "dialog-title", close: () => dialog.remove() }, form);
  document.body.append(dialog);
  dialog.showModal();
  // What is asked is read before it is agreed to.
  (content?.querySelector?.("input") ?? cancel).focus();
}

/** A button that changes something after a question: as `change`, with the path to tell. */
export function changing(button, { path, ...question }) {
  return element("button", {
    type: "button", "data-focus": path,
    click: () => change({ ...question, run: () => tell(path) }),
  }, button);
}
