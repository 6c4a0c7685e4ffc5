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
      await this.desk.settled();
      let audit = await read(`${this.desk.address}/audit`);
      if (!audit.drawn) {
        await send(`${this.desk.address}/audit`, {});
        await this.desk.reload(); // the calls of its cells are hidden from now on
        audit = await read(`${this.desk.address}/audit`);
      }
      this.#take(audit);
      this.tell("review.audit.how");
    } catch (error) {
      this.tell("review.refused", { why: error.message });
    }
  }

  #take(audit) {
    this.audit = audit;
    this.isOn = true;
    this.answered = new Set(audit.cells.filter((cell) => cell.answered).map((cell) => cell.cell_id));
    this.next = audit.next;
    this.show(audit.cells.map((cell) => this.desk.cells.index.get(cell.cell_id)), audit.next);
  }

  /** Go on where the station stands: it refused an answer, and the next cell is that one again. */
  async again() {
    const audit = await read(`${this.desk.address}/audit`).catch(() => null);
    if (audit?.drawn) this.#take(audit);
  }

  async end() {
    this.isOn = false;
    await this.desk.settled();
    await this.desk.reload().catch(() => null); // the calls of the cells that are named now
    this.leave();
  }

  /** Name the next cell of the audit; null is not a cell. The first answer counts: a later name is the cell's alone. */
  async answer(i, code) {
    const id = this.desk.cells.columns.cell_id[i];
    const again = this.answered.has(id);
    if (!again && id !== this.next) {
      this.show(null, this.next);
      this.tell("review.audit.in_order");
      return;
    }
    const event = again ? { kind: code === null ? "not_a_cell" : "relabel", cell_id: id, new: code } : { kind: "audit_answer", cell_id: id, new: code };
    if (again && code === null && this.desk.cells.isRemoved(i)) return;
    if (!this.desk.decide([event], code ?? "not_a_cell")) return;
    if (again) {
      this.tell("review.audit.first_counts");
      return;
    }
    this.answered.add(id);
    const order = this.audit.cells.map((cell) => cell.cell_id);
    this.next = order.find((name) => !this.answered.has(name)) ?? null;
    if (this.next !== null) this.show(null, this.next);
    else {
      await this.desk.settled();
      this.tell("review.audit.look_done", { n: this.answered.size });
      this.end();
    }
  }
}
