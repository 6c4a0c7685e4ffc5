// Decisions on their way to the station. They are kept in this browser until the station has said that they are on
// disk; a lost connection keeps them, and what a page left that was closed is sent by another one of the same patient.
// Each page keeps its own under a key of its own, and holds a lock of that name while it is open.
import { kept } from "./page_data.js";
import { LostError } from "./station.js";

const FIRST_WAIT_MS = 500, LONGEST_WAIT_MS = 15_000;
const LONGEST_WAIT_FAILED_MS = 120_000, MOST_FAILED = 10; // a station that answers with a failure: six minutes in all

const A_PAGE = /^[0-9a-f-]{36}$/;
const locks = navigator.locks ?? { request: async (_name, ...rest) => rest.at(-1)({}) };
const isLost = (error) => error instanceof LostError || error.status === 401;

export class Outbox extends EventTarget {
  /**
   * post(base, events) sends; isThere(events) asks the station whether they were recorded after all, and gives its
   * answer, or null. accepted(item, answer) takes what an answer names, and drops the item.
   * refused(item, error) and met(item, error) are told of what the station did not take; both give a promise.
   * adopted() is told when what a closed page left came in, after `open`.
   */
  constructor({ key, post, isThere, refused, met, accepted, adopted }) {
    super();
    Object.assign(this, { post, isThere, refused, met, accepted, adopted });
    this.prefix = `${key}#`;
    this.key = this.prefix + crypto.randomUUID();
    this.items = [];
    this.ids = new Map(kept.read(`ids.${key}`, [], sessionStorage)); // drawn here -> named by the station
    this.state = "saved";
    this.isKept = true;
    this.wait = FIRST_WAIT_MS;
    this.nFailed = 0; // answers of 5xx in a row
    this.asked = new Set([this.key]);
    locks.request(this.key, () => new Promise(() => {})); // until this page is closed
    addEventListener("storage", (event) => this.#inherit(kept.name(event.key)));
    addEventListener("online", () => this.now());
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.now(); });
  }

  /** Take in what closed pages left; what open ones keep comes in when they are closed. */
  async open() {
    for (const key of kept.names()) await this.#inherit(key);
    this.isOpen = true;
  }

  async #inherit(key) {
    if (!key.startsWith(this.prefix) || !A_PAGE.test(key.slice(this.prefix.length)) || this.asked.has(key)) return;
    this.asked.add(key);
    const wasFree = await locks.request(key, { ifAvailable: true }, (lock) => lock !== null && this.#take(key));
    if (!wasFree) locks.request(key, () => this.#take(key));
  }

  #take(key) {
    const { items = [], ids = [] } = kept.read(key, {});
    for (const [drawn, real] of ids) this.ids.set(drawn, real);
    if (items.length) items[0].unsure = true; // it may have been recorded before its page was closed
    this.items.push(...items);
    this.#keep();
    if (this.isKept) kept.remove(key);
    if (items.length && this.state === "saved") this.state = "saving";
    if (items.length && this.isOpen) this.adopted();
    return true;
  }

  get length() { return this.items.length; }

  real = (id) => this.ids.get(id) ?? id;

  /** Send events; `takesBack` is the id of the item whose events they take back, which may still be on its way. */
  push(base, events, takesBack = null) {
    const item = { id: crypto.randomUUID(), base, events, takesBack };
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

  /** Begin anew after the station failed again and again. */
  again() {
    this.#answered();
    this.now();
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
      const known = item.unsure ? await this.isThere(item.events.map(this.#named)) : null;
      item.unsure = false;
      this.#say("saving");
      const answer = known ?? (await this.post(item.base, item.events.map(this.#named)));
      this.#answered();
      await this.accepted(item, answer);
      return true;
    } catch (error) {
      if (isLost(error)) return this.#later(error, item);
      if (error.status === undefined) throw error;
      this.#answered();
      this.#say("asking", error.message);
      try {
        if (error.body.conflicts?.length) await this.met(item, error.body.conflicts);
        else await this.refused(item, error);
      } catch (lost) {
        if (!isLost(lost)) throw lost;
        return this.#later(lost, item);
      }
      return true;
    }
  }

  #answered() {
    this.wait = FIRST_WAIT_MS;
    this.nFailed = 0;
  }

  /**
   * Try again after a while: nothing was refused. A lost connection is tried for as long as it takes; a station that
   * keeps failing is left alone after MOST_FAILED answers, until somebody asks for another try or decides again.
   */
  #later(error, item) {
    item.unsure ||= error instanceof LostError;
    this.isDown = error.status === 503;
    this.nFailed = error.status >= 500 ? this.nFailed + 1 : 0;
    if (this.nFailed > MOST_FAILED) {
      this.#say("stopped", error.message);
      return false;
    }
    this.#say(error.status === 401 ? "left" : "offline", error.message);
    this.timer = setTimeout(() => { this.timer = null; this.run(); }, this.wait);
    this.wait = Math.min(this.wait * 2, this.nFailed ? LONGEST_WAIT_FAILED_MS : LONGEST_WAIT_MS);
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
    const ids = [...this.ids];
    if (this.items.length || ids.length) this.isKept = kept.write(this.key, { items: this.items, ids });
    else kept.remove(this.key);
    kept.write(`ids.${this.prefix.slice(0, -1)}`, ids, sessionStorage); // what this page undoes after a reload
  }

  #say(state, why = "") {
    this.state = state;
    this.why = why;
    this.dispatchEvent(new Event("state"));
  }
}
