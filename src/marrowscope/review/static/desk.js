// A patient on the desk: cells as they stand, decisions on their way, and what takes them back. A decision is shown
// at once, sent, and marked until the station has it on disk.
import { Cells, box } from "./cells.js";
import { Outbox } from "./outbox.js";
import { data, kept, t } from "./page_data.js";
import { addressOf, read, send } from "./station.js";

const LOOK_AGAIN_MS = 20_000, LOOK_AGAIN_LARGE_MS = 60_000, LARGE = 3000;
const MOST_KEPT = 500, MOST_ASKED = 100;
const DRAWN = { add: "added", merge: "merged" }; // decisions that draw one cell, and the origin it has then

export class Desk extends EventTarget {
  constructor(patientId, vocabulary, { ask, tell, history = "history" }) {
    super();
    this.patientId = patientId;
    this.address = addressOf(patientId);
    this.cells = new Cells(vocabulary);
    this.ask = ask; // (conflicts, events) -> true to record mine over theirs
    this.tell = tell; // a sentence to the reader
    this.history = history; // a page takes back what was decided on it
    this.place = [data.station.slice(0, 16), patientId, data.reader].map(encodeURIComponent).join("/");
    this.done = [];
    this.undone = [];
    this.n = 0; // of changes, so that a slow answer does not overwrite a later decision
    this.outbox = new Outbox({
      key: `outbox.${this.place}`,
      post: (base, events) => send(`${this.address}/events`, { base, events }),
      isThere: (events) => this.#isThere(events),
      refused: (item, error) => this.#refused(item, error),
      met: (item, conflicts) => this.#met(item, conflicts),
      accepted: (item, answer) => this.#accepted(item, answer),
      adopted: () => this.#adopted(),
    });
    this.outbox.addEventListener("state", () => this.#changed("saved"));
  }

  async open() {
    const history = kept.read(`${this.history}.${this.place}`, null, sessionStorage); // before the first state is kept
    if (history) [this.done, this.undone] = [history.done, history.undone];
    await this.outbox.open();
    await this.reload();
    this.outbox.run();
    this.#lookAgain();
  }

  /** Read the state from the station and show what is still on its way on top of it. */
  async reload() {
    const state = await read(`${this.address}/cells`);
    this.#take(state);
    return state;
  }

  /** Wait until every decision is on disk; false where some still wait after a few seconds. */
  async settled() {
    for (let k = 0; this.outbox.length && k < 100; k++) await new Promise((resolve) => { setTimeout(resolve, 50); });
    return this.outbox.length === 0;
  }

  #take(state) {
    this.nOthers = 0; // of cells that others decided about since the page last showed them
    const before = this.state && this.cells.length ? this.cells.columns : null;
    this.state = state;
    this.base = state.sequence;
    this.cells.load(state);
    for (const item of this.outbox.items) this.cells.apply(item.events, data.reader, this.outbox.real);
    this.#changed("cells");
    if (before) this.#tellOthers(before);
  }

  #tellOthers(before) {
    const c = this.cells.columns;
    const readers = new Set();
    let n = 0;
    for (let i = 0; i < before.cell_id.length; i++) {
      if (c.decided_by[i] === null || c.decided_by[i] === data.reader || c.cell_id[i] !== before.cell_id[i]) continue;
      if (c.code[i] === before.code[i] && c.removed[i] === before.removed[i] && c.decided_by[i] === before.decided_by[i]) continue;
      n += 1;
      readers.add(c.decided_by[i]);
    }
    this.nOthers = n;
    if (n) this.tell("review.others_decided", { n, readers: [...readers].join(", ") });
  }

  get isLocked() { return this.state.is_locked || !data.may_decide; }

  /** Decide: events as the station takes them; a cell that is drawn has a name of its own here until it has one there. */
  decide(events, label) {
    if (!events.length) return false;
    if (this.isLocked) {
      this.tell(data.may_decide ? "review.locked" : "review.may_not_decide");
      return false;
    }
    const inverse = this.cells.apply(events, data.reader, this.outbox.real);
    const item = this.outbox.push(this.base, events);
    if (inverse.length) {
      this.done.push({ forward: events, inverse, label, item: item.id, base: item.base });
      this.undone = [];
    }
    this.#changed("cells");
    return true;
  }

  undo() { return this.#step(this.done, this.undone, "inverse"); }

  redo() { return this.#step(this.undone, this.done, "forward"); }

  #step(from, to, which) {
    if (this.isLocked) {
      this.tell("review.locked");
      return null;
    }
    const action = from.pop();
    if (!action) return null;
    this.cells.apply(action[which], data.reader, this.outbox.real);
    // From what it takes back: what others decided after that is met, also where this page shows it already.
    action.item = this.outbox.push(action.base ?? this.base, action[which], action.item).id;
    to.push(action);
    this.#changed("cells");
    return action;
  }

  /** Ids of cells with a decision that the station has not confirmed. */
  get waiting() {
    const names = new Set();
    for (const item of this.outbox.items) {
      for (const event of item.events) {
        if (event.cell_id) names.add(this.outbox.real(event.cell_id));
        for (const part of event.new?.parts ?? []) names.add(this.outbox.real(part.cell_id));
      }
    }
    return names;
  }

  /** Take the station's names for what was drawn, before the decisions behind are sent: they may be about it. */
  async #accepted(item, answer) {
    const draws = item.events.some((event) => ["add", "merge", "split"].includes(event.kind));
    const state = draws ? await read(`${this.address}/cells`) : null;
    item.events.forEach((event, at) => {
      if (["add", "merge"].includes(event.kind)) this.#rename(event.cell_id, answer.cell_ids[at]);
      if (event.kind === "split") for (const part of event.new.parts) this.#rename(part.cell_id, found(state, part.contour_xy, "split"));
    });
    this.outbox.drop(item);
    for (const later of this.outbox.items) if (later.takesBack === item.id) later.base = answer.sequence;
    for (const action of [...this.done, ...this.undone]) if (action.item === item.id) action.base = answer.sequence;
    this.#keepHistory();
    if (state) this.#take(state);
    this.dispatchEvent(new CustomEvent("recorded", { detail: { item, answer } }));
  }

  /** Another page of this patient was closed with decisions on their way: show them, then send them. */
  async #adopted() {
    try {
      await this.reload();
    } catch {
      // no connection: they are shown when there is one
    }
    this.outbox.run();
  }

  #rename(drawn, real) {
    if (!real) return;
    this.cells.rename(this.outbox.real(drawn), real);
    this.outbox.name(drawn, real);
  }

  async #refused(item, error) {
    this.outbox.drop(item);
    this.#forget(item);
    const asked = item.events.flatMap((event) => event.new?.cells ?? event.cell_id ?? []).slice(0, MOST_ASKED).map((name) => ["cell", this.outbox.real(name)]);
    const href = `/patients/${encodeURIComponent(this.patientId)}/adjudicate?${new URLSearchParams(asked)}`;
    const link = error.body.adjudicate && data.may_adjudicate ? { href, text: t("review.adjudicate") } : null;
    try {
      await this.reload();
    } finally { // last: what stands again is nobody's news
      this.tell("review.refused", { why: error.message }, link);
    }
    this.dispatchEvent(new Event("refused"));
  }

  async #met(item, conflicts) {
    const mine = await this.ask(conflicts, item.events);
    const state = await read(`${this.address}/cells`);
    if (mine) {
      item.base = state.sequence;
    } else {
      const theirs = new Set(conflicts.flatMap((event) => [event.cell_id, ...(event.kind === "merge" ? event.new.cells : [])]));
      const keep = (event) => !theirs.has(this.outbox.real(event.cell_id)) && !event.new?.cells?.some((name) => theirs.has(this.outbox.real(name)));
      item.events = item.events.filter(keep);
      item.base = state.sequence;
      for (const action of [...this.done, ...this.undone]) { // theirs stands: nothing of mine about it is left to take back
        action.forward = action.forward.filter(keep);
        action.inverse = action.inverse.filter(keep);
      }
      this.done = this.done.filter((action) => action.inverse.length);
      this.undone = this.undone.filter((action) => action.forward.length);
      if (!item.events.length) this.outbox.drop(item);
    }
    this.#take(state);
  }

  #forget(item) {
    this.done = this.done.filter((action) => action.item !== item.id);
    this.undone = this.undone.filter((action) => action.item !== item.id);
  }

  /**
   * After a connection was lost: the answer of the station where it recorded these events although it never came, with
   * the names of what they drew; null where it did not.
   */
  async #isThere(events) {
    const state = await read(`${this.address}/cells`);
    if (!this.#wereRecorded(events, state)) return null;
    return { sequence: state.sequence, cell_ids: events.map((event) => (DRAWN[event.kind] ? found(state, event.new.contour_xy, DRAWN[event.kind]) : event.cell_id)) };
  }

  #wereRecorded(events, state) {
    const at = new Map(state.cell_id.map((name, i) => [name, i]));
    const last = new Map();
    events.forEach((event, k) => last.set(`${event.cell_id ?? k} ${event.kind === "relabel" ? "code" : "shape"}`, event));
    return [...last.values()].every(({ kind, cell_id, new: value }) => {
      const i = at.get(cell_id);
      if (kind === "relabel") return state.code[i] === value && state.decided_by[i] === (value === null ? null : data.reader);
      if (["audit_answer", "adjudicate"].includes(kind)) return state.code[i] === value && (value !== null || state.removed[i] !== null) && state.decided_by[i] === data.reader;
      if (kind === "withdraw") return i === undefined || state.decided_by[i] === null;
      if (["not_a_cell", "delete", "split"].includes(kind)) return state.removed[i] === kind;
      if (kind === "restore") return i !== undefined && state.removed[i] === null;
      if (kind === "redraw") return i !== undefined && isBox(state, i, box(value.contour_xy));
      if (kind === "add") return Boolean(found(state, value.contour_xy, DRAWN.add));
      if (kind === "merge") return Boolean(found(state, value.contour_xy, DRAWN.merge)) && value.cells.every((name) => state.removed[at.get(name)] === "merge");
      if (kind === "field_checked") return state.fields_checked[value.field_id] === data.reader;
      if (kind === "full_review") return state.full_review_by === (value === false ? null : data.reader);
      if (kind === "smears_stated") return state.n_smears === value.n;
      if (kind === "flag_answered") return state.flags_answered[value.flag] === value.answer;
      if (kind === "comment") return state.comments.some((comment) => comment.text === value.text && comment.reader === data.reader);
      return false;
    });
  }

  async #lookAgain() {
    const wait = this.cells.length > LARGE ? LOOK_AGAIN_LARGE_MS : LOOK_AGAIN_MS;
    setTimeout(async () => {
      try {
        const n = this.n;
        if (!document.hidden && !this.outbox.length) {
          const state = await read(`${this.address}/cells`);
          if (n === this.n && !this.outbox.length && state.sequence !== this.base) this.#take(state);
        }
      } catch {
        // the outbox says when a connection is lost; a look that failed is made again
      }
      this.#lookAgain();
    }, wait);
  }

  #changed(what) {
    if (what === "cells") {
      this.n += 1;
      this.#keepHistory();
    }
    this.dispatchEvent(new Event(what));
  }

  #keepHistory() {
    kept.write(`${this.history}.${this.place}`, { done: this.done.slice(-MOST_KEPT), undone: this.undone.slice(-MOST_KEPT) }, sessionStorage);
  }
}

function found(state, contour, origin) {
  const wanted = box(contour);
  const i = state.cell_id.findIndex((_, at) => state.origin[at] === origin && state.removed[at] === null && isBox(state, at, wanted));
  return i < 0 ? null : state.cell_id[i];
}

const isBox = (state, i, { x, y, w, h }) =>
  Math.abs(state.x[i] - x) < 0.11 && Math.abs(state.y[i] - y) < 0.11 && Math.abs(state.w[i] - w) < 0.11 && Math.abs(state.h[i] - h) < 0.11;
