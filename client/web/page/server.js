// Asks the server: one reading at a time, always of the newest drawing; and whether the model server is there.

const ASK_AGAIN_MS = 1500; // while it is away
const ASK_NOW_AND_THEN_MS = 15000; // while all is well
const GIVE_UP_MS = 15000;
const GIVE_UP_READING_MS = 180000; // a large picture waits for its turn, and takes its time

export class Server {
  /** `state({available, slow, server, model, version, reason})` is called when it changes, and at first. */
  constructor({ state }) {
    this.state = state;
    this.available = null;
    this.timer = 0;
    document.addEventListener("visibilitychange", () => document.hidden || this.check());
    addEventListener("online", () => this.check());
  }

  /** The reading of an image file; throws an Error, with `away` where no server is there, `busy` if it is to be asked again. */
  async read(blob) {
    const response = await this.#fetch("read", GIVE_UP_READING_MS, { method: "POST", body: blob });
    const answer = await response.json().catch(() => ({ error: `the page's server answered ${response.status}` }));
    if (response.ok) {
      if (this.available === false) this.check();
      return answer;
    }
    const busy = response.status === 429 || response.status === 504; // full, or slow
    if (answer.away) this.#tell({ ...this.last, available: false, slow: false, reason: answer.error });
    throw Object.assign(new Error(answer.error), { away: Boolean(answer.away), busy });
  }

  async check() {
    clearTimeout(this.timer);
    const response = await this.#fetch("status", GIVE_UP_MS).catch(() => null);
    if (response?.ok) return this.#tell(await response.json());
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.check(), ASK_AGAIN_MS);
  }

  async #fetch(path, patience, options = {}) {
    try {
      return await fetch(path, { ...options, cache: "no-store", signal: AbortSignal.timeout(patience) });
    } catch (error) {
      if (error.name === "TimeoutError") throw Object.assign(new Error("the page's server is slow"), { busy: true });
      this.#tell({ ...this.last, available: false, slow: false, reason: "the page's own server does not answer" });
      throw Object.assign(new Error("the page's own server does not answer"), { away: true });
    }
  }

  #tell(state) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.check(), state.available ? ASK_NOW_AND_THEN_MS : ASK_AGAIN_MS);
    const before = this.last;
    this.last = state;
    this.available = state.available;
    if (before?.available !== state.available || before?.slow !== state.slow || before?.version !== state.version) this.state(state, before);
  }
}
