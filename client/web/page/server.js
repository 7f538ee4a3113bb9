// Asks the server: one reading at a time, always of the newest drawing; and whether the model server is there.

const ASK_AGAIN_MS = 1500; // while it is away
const ASK_NOW_AND_THEN_MS = 15000; // while all is well
const GIVE_UP_MS = 15000;

export class Server {
  /** `state({available, server, model, version, reason})` is called when it changes, and at first. */
  constructor({ state }) {
    this.state = state;
    this.available = null;
    this.timer = 0;
    document.addEventListener("visibilitychange", () => document.hidden || this.check());
    addEventListener("online", () => this.check());
  }

  /** The reading of an image file; throws an Error, with `away` where no server answered, `busy` if not just now. */
  async read(blob) {
    const response = await this.#fetch("read", { method: "POST", body: blob });
    const answer = await response.json().catch(() => ({ error: `the page's server answered ${response.status}` }));
    if (response.ok) {
      if (this.available === false) this.check();
      return answer;
    }
    if (answer.away) this.#tell({ ...this.last, available: false, reason: answer.error });
    throw Object.assign(new Error(answer.error), { away: Boolean(answer.away), busy: response.status === 429 });
  }

  async check() {
    clearTimeout(this.timer);
    const response = await this.#fetch("status").catch(() => null);
    if (response?.ok) this.#tell(await response.json());
  }

  async #fetch(path, options = {}) {
    try {
      return await fetch(path, { ...options, cache: "no-store", signal: AbortSignal.timeout(GIVE_UP_MS) });
    } catch {
      this.#tell({ ...this.last, available: false, reason: "the page's own server does not answer" });
      throw Object.assign(new Error("the page's own server does not answer"), { away: true });
    }
  }

  #tell(state) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.check(), state.available ? ASK_NOW_AND_THEN_MS : ASK_AGAIN_MS);
    const before = this.last;
    this.last = state;
    this.available = state.available;
    if (before?.available !== state.available || before?.version !== state.version) this.state(state, before);
  }
}
