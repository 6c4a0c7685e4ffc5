// A random audit in the gallery: its cells alone, in their order, without any call; none is skipped.
import { t } from "./page_data.js";
import { read, send } from "./station.js";

export class AuditMode {
  constructor(desk, { show, leave, tell }) {
    Object.assign(this, { desk, show, leave, tell, isOn: false });
  }

  /** Begin, or go on; draws the audit where none was drawn. */
  async begin() {
    try {
      await this.#settled();
      let audit = await read(`${this.desk.address}/audit`);
      if (!audit.drawn) {
        await send(`${this.desk.address}/audit`, {});
        await this.desk.reload(); // the calls of its cells are hidden from now on
        audit = await read(`${this.desk.address}/audit`);
      }
      this.audit = audit;
      this.isOn = true;
      this.answered = new Set(audit.cells.filter((cell) => cell.answered).map((cell) => cell.cell_id));
      this.next = audit.next;
      this.show(audit.cells.map((cell) => this.desk.cells.index.get(cell.cell_id)), audit.next);
      this.tell("review.audit.how");
    } catch (error) {
      this.tell("review.refused", { why: error.message });
    }
  }

  async #settled() {
    for (let k = 0; this.desk.outbox.length && k < 100; k++) await new Promise((resolve) => { setTimeout(resolve, 50); });
  }

  async end() {
    this.isOn = false;
    await this.#settled();
    await this.desk.reload().catch(() => null); // the calls of the cells that are named now
    this.leave();
  }

  /** Name a cell of the audit: the next one, or again one that was named. */
  async answer(i, code) {
    const id = this.desk.cells.columns.cell_id[i];
    if (id !== this.next && !this.answered.has(id)) {
      this.show(null, this.next);
      this.tell("review.audit.in_order");
      return;
    }
    if (!this.desk.decide([{ kind: "audit_answer", cell_id: id, new: code }], code)) return;
    const isNew = !this.answered.has(id);
    this.answered.add(id);
    const order = this.audit.cells.map((cell) => cell.cell_id);
    this.next = order.find((name) => !this.answered.has(name)) ?? null;
    if (this.next !== null) this.show(null, isNew ? this.next : order[order.indexOf(id) + 1] ?? this.next);
    else {
      await this.#settled();
      this.tell("review.audit.look_done", { n: this.answered.size });
      this.end();
    }
  }
}
