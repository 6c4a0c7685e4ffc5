// The cells of a patient as columns, and what a decision changes in them. `apply` gives the events that take it back.
export class Cells {
  constructor(vocabulary) {
    this.codes = new Map(vocabulary.codes.map((code) => [code.code, code]));
    this.categories = vocabulary.categories;
    this.ofCategory = new Map(this.categories.map((name) => [name, []]));
    for (const code of vocabulary.codes) this.ofCategory.get(code.category)?.push(code);
    this.contours = new Map(); // of the fields that were looked at
    this.columns = {};
    this.index = new Map();
    this.version = new Map(); // of redrawn cells, so that their pictures are fetched anew
  }

  get length() { return this.columns.cell_id?.length ?? 0; }

  /** Take what the server says; positions of known cells stay, new cells come last. */
  load(state) {
    const { cell_id, field_id, model_category, p_cblc, certainty, area_um2, code, removed, decided_by, origin, x, y, w, h } = state;
    this.columns = { cell_id, field_id, model_category, p_cblc, certainty, area_um2, code, removed, decided_by, origin, x, y, w, h };
    this.index = new Map(cell_id.map((name, i) => [name, i]));
  }

  get(i) {
    return Object.fromEntries(Object.entries(this.columns).map(([name, values]) => [name, values[i]]));
  }

  /** The category as it stands: that of the code, else the machine's. */
  category(i) {
    const code = this.columns.code[i];
    return code === null ? this.columns.model_category[i] : this.codes.get(code)?.category ?? null;
  }

  isReviewed(i) { return this.columns.decided_by[i] !== null; }

  isRemoved(i) { return this.columns.removed[i] !== null; }

  isChanged(i) {
    const { code, removed, origin, model_category } = this.columns;
    if (removed[i] !== null || origin[i] !== "model") return true;
    return code[i] !== null && model_category[i] !== null && this.category(i) !== model_category[i];
  }

  /** Apply events as the server will, and return those that take them back, in order. */
  apply(events, reader, real = (id) => id) {
    const inverse = [];
    for (const event of events) inverse.unshift(...this.#one(event, reader, real));
    return inverse;
  }

  #one({ kind, cell_id, new: value }, reader, real) {
    const i = this.index.get(real(cell_id));
    const c = this.columns;
    const was = i === undefined ? null : this.get(i);
    const set = (at, changes) => { for (const [name, to] of Object.entries(changes)) c[name][at] = to; };
    const back = () => { // as nobody had decided about it
      if (was.code !== null || was.decided_by === null) return [{ kind: "relabel", cell_id, new: was.code }];
      return [];
    };
    if (kind === "relabel") {
      if (i === undefined) return [];
      set(i, { code: value, decided_by: value === null ? null : reader });
      if (value !== null) set(i, { removed: null });
      const again = was.removed !== null && value !== null ? [{ kind: "not_a_cell", cell_id, new: null }] : [];
      return [{ kind: "relabel", cell_id, new: was.code }, ...again];
    }
    if (["audit_answer", "adjudicate"].includes(kind)) {
      if (i !== undefined) set(i, { code: value, decided_by: reader, removed: value === null ? "not_a_cell" : null });
      if (i === undefined || kind === "audit_answer") return []; // an answer in the audit stands
      return [was.decided_by === null ? { kind: "withdraw", cell_id, new: null } : { kind, cell_id, new: was.removed === null ? was.code : null }];
    }
    if (kind === "withdraw") { // the cell is disputed again
      if (i === undefined) return [];
      set(i, { code: null, removed: null, decided_by: null });
      return [{ kind: "adjudicate", cell_id, new: was.removed === null ? was.code : null }];
    }
    if (kind === "not_a_cell" || kind === "delete") {
      if (i === undefined) return [];
      set(i, { removed: kind, decided_by: reader });
      return [{ kind: "restore", cell_id, new: null }, ...back()];
    }
    if (kind === "restore") {
      if (i === undefined) return [];
      set(i, { removed: null, decided_by: reader });
      return [{ kind: was.removed === "not_a_cell" ? "not_a_cell" : "delete", cell_id, new: null }];
    }
    if (kind === "redraw") {
      if (i === undefined) return [];
      const old = this.contours.get(real(cell_id));
      this.contours.set(real(cell_id), value.contour_xy);
      set(i, { ...box(value.contour_xy), decided_by: reader });
      this.version.set(real(cell_id), (this.version.get(real(cell_id)) ?? 0) + 1);
      return old ? [{ kind: "redraw", cell_id, new: { contour_xy: old } }, ...(was.decided_by === null ? back() : [])] : [];
    }
    if (kind === "add") {
      this.#push(cell_id, value.field_id, value.contour_xy, value.code ?? null, "added", reader, real);
      return [{ kind: "delete", cell_id, new: null }];
    }
    if (kind === "split") {
      if (i === undefined) return [];
      set(i, { removed: "split", decided_by: reader });
      for (const part of value.parts) this.#push(part.cell_id, was.field_id, part.contour_xy, part.code ?? null, "split", reader, real);
      const parts = value.parts.map((part) => ({ kind: "delete", cell_id: part.cell_id, new: null }));
      return [...parts, { kind: "restore", cell_id, new: null }, ...back()];
    }
    if (kind === "merge") {
      const restored = [];
      let field = null;
      for (const name of value.cells) {
        const at = this.index.get(real(name));
        if (at === undefined) continue;
        field = c.field_id[at];
        const code = c.code[at], decided = c.decided_by[at];
        set(at, { removed: "merge", decided_by: reader });
        restored.push({ kind: "restore", cell_id: name, new: null });
        if (code !== null || decided === null) restored.push({ kind: "relabel", cell_id: name, new: code });
      }
      if (field !== null) this.#push(cell_id, field, value.contour_xy, value.code ?? null, "merged", reader, real);
      return [{ kind: "delete", cell_id, new: null }, ...restored];
    }
    return [];
  }

  #push(name, fieldId, contour, code, origin, reader, real) {
    const known = this.index.get(real(name));
    const at = known ?? this.length;
    const made = {
      cell_id: real(name), field_id: fieldId, model_category: null, p_cblc: null, certainty: null, area_um2: null, code,
      removed: null, decided_by: reader, origin, ...box(contour),
    };
    for (const [key, value] of Object.entries(made)) this.columns[key][at] = value;
    this.index.set(real(name), at);
    this.contours.set(real(name), contour);
  }

  /** Give a cell that was drawn here the name that the server gave it. */
  rename(from, to) {
    const at = this.index.get(from);
    if (at === undefined || from === to) return;
    this.index.delete(from);
    this.index.set(to, at);
    this.columns.cell_id[at] = to;
    this.contours.set(to, this.contours.get(from));
  }
}

export function box(contour) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (let k = 0; k < contour.length; k += 2) {
    left = Math.min(left, contour[k]); right = Math.max(right, contour[k]);
    top = Math.min(top, contour[k + 1]); bottom = Math.max(bottom, contour[k + 1]);
  }
  return { x: left, y: top, w: right - left, h: bottom - top };
}
