// The page: shows the view that the address names, asks the host for what is new, and says when it does not answer.

import { Away, Refused, ask } from "./api.js";
import { CHANGED } from "./dialog.js";
import { DeadLetters } from "./dead_letters.js";
import { element, isNew, replace, setText } from "./dom.js";
import { clock, count, short } from "./format.js";
import { Modules, askModules } from "./modules.js";
import { Offer } from "./offer.js";
import { Pipelines } from "./pipelines.js";
import { tokenForm } from "./token.js";

const EVERY = 1_500;

const main = document.getElementById("main");
const connection = document.getElementById("connection");
const away = document.getElementById("away");

const views = { pipelines: new Pipelines(), modules: new Modules(), "dead-letters": new DeadLetters() };
let view = null;
let timer;
let polling = false;
let again = false;
let asksForToken = false;
let lastAnswer = null;

/** Shows what the part of the address behind `#` names. */
function route() {
  const [name, detail] = location.hash.slice(1).split("/").map(decoded);
  const known = name === "offer" ? "modules" : Object.hasOwn(views, name) ? name : "pipelines";
  const next = name === "offer" ? new Offer(detail) : views[known];
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === known) {
      link.setAttribute("aria-current", "page");
    } else {
      link.removeAttribute("aria-current");
    }
  }
  if (next !== view) {
    const isFirst = view === null;
    view = next;
    replace(main, view.root);
    if (!isFirst) {
      main.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
  }
  if (view === views["dead-letters"]) {
    view.open(detail ?? null);
  }
  poll();
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Asks for everything that is shown, and again in a while; not where nobody looks. */
async function poll() {
  clearTimeout(timer);
  if (document.hidden || asksForToken) {
    return;
  }
  if (polling) {
    again = true;
    return;
  }
  polling = true;
  try {
    const [{ pipelines }, modules] = await Promise.all([ask("v1/pipelines"), askModules()]);
    const told = { pipelines, ...modules };
    summarize(told);
    await view.update(told);
    answered();
  } catch (error) {
    failed(error);
  } finally {
    polling = false;
    timer = setTimeout(poll, again ? 0 : EVERY);
    again = false;
  }
}

function answered() {
  lastAnswer = Date.now();
  away.hidden = true;
  document.body.classList.remove("stale");
  connection.dataset.state = "live";
  setText(connection, `as of ${clock(lastAnswer)}`);
}

function failed(error) {
  if (error instanceof Refused && error.status === 401) {
    enterToken();
    return;
  }
  if (!(error instanceof Away || error instanceof Refused)) {
    console.error(error);
  }
  const since = lastAnswer === null ? "" : ` What is shown is of ${clock(lastAnswer)}.`;
  const cause = error instanceof Away
    ? `The host does not answer.${since} It is asked again and again.`
    : `The host refuses: ${error.message}; ${error.remedy ?? "report this"}.${since}`;
  document.body.classList.toggle("stale", lastAnswer !== null);
  connection.dataset.state = "away";
  setText(connection, "no answer");
  away.hidden = false;
  setText(away, cause);
}

function enterToken() {
  asksForToken = true;
  const form = tokenForm(() => {
    asksForToken = false;
    replace(main, view.root);
    route();
  });
  replace(main, form.root);
  form.focus();
  connection.dataset.state = "asking";
  setText(connection, "the token is asked for");
}

/** What needs a look, in the navigation and in the title of the tab. */
function summarize({ pipelines, modules }) {
  const inTrouble = pipelines.filter(({ state }) => state === "stopped" || state === "waiting");
  const offers = modules.flatMap((module) => module.offers);
  const waits = offers.filter(({ state }) => state === "waits").length;
  const letters = pipelines.flatMap((pipeline) => Object.values(pipeline.dead_letters));
  const all = letters.reduce((sum, one) => sum + one, 0);
  badge("pipelines", inTrouble.length, inTrouble.length === 1 ? "needs a look" : "need a look");
  badge("modules", waits, "to decide");
  badge("dead-letters", all, "counted");
  document.title = inTrouble.length > 0 ? `(${inTrouble.length}) tidegate` : "tidegate";
}

/** A number beside the name of a view; what it counts is for screen readers and the pointer. */
function badge(name, number, counted) {
  const badge = document.querySelector(`nav a[data-view="${name}"] .badge`);
  badge.hidden = number === 0;
  badge.title = `${count(number)} ${counted}`;
  if (isNew(badge, badge.title)) {
    replace(badge, short(number), element("span", { class: "unseen" }, ` ${counted}`));
  }
}

document.querySelector(".skip").addEventListener("click", (event) => {
  // The part behind `#` names the view.
  event.preventDefault();
  main.focus();
});
document.addEventListener("visibilitychange", poll);
document.addEventListener(CHANGED, poll);
addEventListener("hashchange", route);
route();
