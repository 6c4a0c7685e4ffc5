// Decisions on their way to the station. They are kept in this browser until the station has said that they are on
// disk; a lost connection keeps them, and a page that was closed sends them when it is opened again.
import { kept } from "./page_data.js";
import { LostError } from "./station.js";

const FIRST_WAIT_MS = 500, LONGEST_WAIT_MS = 15_000;

const isLost = (error) => error instanceof LostError || error.status === 401;

export class Outbox extends EventTarget {
  /**
   * post(base, events) sends; isThere(events) asks the station whether they were recorded after all.
   * refused(item, error) and met(item, error) are told of what the station did not take; both give a promise.
   */
  constructor({ key, post, isThere, refused, met, accepted }) {
    super();
    Object.assign(this, { key, post, isThere, refused, met, accepted });
    const stored = kept.read(key, {});
    this.items = stored.items ?? [];
    this.ids = new Map(stored.ids ?? []); // drawn here -> named by the station
    this.state = this.items.length ? "saving" : "saved";
    this.isKept = true;
    this.wait = FIRST_WAIT_MS;
    this.unsure = this.items.length > 0; // the first item may have been recorded before the page was closed
    addEventListener("online", () => this.now());
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.now(); });
  }

  get length() { return this.items.length; }

  real = (id) => this.ids.get(id) ?? id;

  push(base, events) {
    const item = { id: crypto.randomUUID(), base, events };
    this.items.push(item);
    this.#keep();
    if (this.state === "saved") this.#say("saving");
    else this.#say(this.state);
    this.run();
    return item;
  }

  drop(item) {
    this.items = this.items.filter((other) => other !== item);
    this.#keep();
  }

  now() {
    if (!this.items.length || this.state === "saved") return;
    clearTimeout(this.timer);
    this.timer = null;
    this.run();
  }

  async run() {
    if (this.running || this.timer) return;
    this.running = true;
    try {
      while (this.items.length) {
        if (!(await this.#first())) return;
      }
      this.#say("saved");
    } finally {
      this.running = false;
    }
  }

  /** Send the first item; whether to go on. */
  async #first() {
    const item = this.items[0];
    try {
      if (this.unsure && (await this.isThere(item.events.map(this.#named)))) {
        this.unsure = false;
        this.drop(item);
        return true;
      }
      this.unsure = false;
      this.#say("saving");
      const answer = await this.post(item.base, item.events.map(this.#named));
      this.drop(item);
      this.wait = FIRST_WAIT_MS;
      await this.accepted(item, answer);
      return true;
    } catch (error) {
      if (isLost(error)) return this.#later(error);
      if (error.status === undefined) throw error;
      this.#say("asking", error.message);
      try {
        if (error.body.conflicts?.length) await this.met(item, error.body.conflicts);
        else await this.refused(item, error);
      } catch (lost) {
        if (!isLost(lost)) throw lost;
        return this.#later(lost);
      }
      return true;
    }
  }

  /** Try again after a while: nothing was refused. */
  #later(error) {
    this.unsure ||= error instanceof LostError;
    this.isDown = error.status === 503;
    this.#say(error.status === 401 ? "left" : "offline", error.message);
    this.timer = setTimeout(() => { this.timer = null; this.run(); }, this.wait);
    this.wait = Math.min(this.wait * 2, LONGEST_WAIT_MS);
    return false;
  }

  #named = (event) => {
    const named = { kind: event.kind, cell_id: event.cell_id === null ? null : this.real(event.cell_id), new: event.new };
    if (event.kind === "add") named.cell_id = null;
    if (event.kind === "merge") {
      named.cell_id = null;
      named.new = { ...event.new, cells: event.new.cells.map(this.real) };
    }
    if (event.kind === "split") named.new = { parts: event.new.parts.map(({ cell_id: _, ...part }) => part) };
    return named;
  };

  name(drawn, real) {
    this.ids.set(drawn, real);
    this.#keep();
  }

  #keep() {
    this.isKept = kept.write(this.key, { items: this.items, ids: [...this.ids] });
  }

  #say(state, why = "") {
    this.state = state;
    this.why = why;
    this.dispatchEvent(new Event("state"));
  }
}
