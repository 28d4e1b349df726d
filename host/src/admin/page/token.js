// Asks for the token where the host wants one. It is kept for as long as the tab is open.

import { Refused, ask, hasToken, setToken } from "./api.js";
import { element } from "./dom.js";

/** The form; `entered` is called once the host has taken a token. */
export function tokenForm(entered) {
  const wrong = element("p", { class: "refusal", role: "alert" },
    hasToken() ? "The host does not take the token that was entered before." : "");
  const input = element("input", {
    type: "password", name: "token", required: true, autocomplete: "off", spellcheck: "false",
  });
  const go = element("button", { type: "submit", class: "primary" }, "Go on");
  const submit = async (event) => {
    event.preventDefault();
    go.disabled = true;
    wrong.textContent = "";
    setToken(input.value.trim());
    try {
      await ask("v1/pipelines");
      entered();
    } catch (error) {
      const is = error instanceof Refused && error.status === 401;
      wrong.textContent = is ? "This is not the token." : error.message;
      input.select();
    } finally {
      go.disabled = false;
    }
  };
  const form = element("form", { class: "card token", submit },
    element("h1", { id: "title" }, "This host asks for its token"),
    element("p", {}, "It is the ", element("code", {}, "token"), " of ", element("code", {}, "[admin]"),
      " in the configuration. This tab keeps it until it is closed."),
    element("label", {}, element("span", {}, "Token"), input), wrong, element("div", { class: "buttons" }, go));
  return { root: form, focus: () => input.focus() };
}
