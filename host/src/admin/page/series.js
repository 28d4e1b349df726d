// The samples that the host keeps of a pipeline, and what is drawn of them.

import { ask } from "./api.js";

export class Series {
  #path;
  #samples = [];
  /** Milliseconds between two samples. */
  every = 2_000;

  constructor(pipeline) {
    this.#path = `v1/pipelines/${encodeURIComponent(pipeline)}/samples`;
  }

  /** Fetches what has come since. */
  async refresh() {
    const last = this.#samples.at(-1);
    const answer = await ask(last ? `${this.#path}?since=${last.time}` : this.#path);
    this.every = answer.every_seconds * 1_000;
    this.#samples = [...this.#samples, ...answer.samples].slice(-answer.kept);
  }

  /** The lag as `{ time, value, state }`, with a value of null where it is not known. */
  lag() {
    return this.#samples.map(({ time, lag, state }) => ({ time, value: lag, state }));
  }

  /** Events a second, between each sample and the one before. */
  rate() {
    return this.#samples.map(({ time, events, state }, place) => {
      const before = this.#samples[place - 1];
      // Counts begin anew with each start of the program.
      const follows = before && events >= before.events && time - before.time < this.every * 3;
      const value = follows ? ((events - before.events) * 1_000) / (time - before.time) : null;
      return { time, value, state };
    });
  }
}
