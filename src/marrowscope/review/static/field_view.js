// A field with its outlines: zoom and pan, and the tools that add, redraw, split, merge and remove cells.
import { area, contains, cut, overlap, thin, tidy } from "./outlines.js";
import { data, make, selectOf, t } from "./page_data.js";
import { spoken } from "./gallery.js";
import { send } from "./station.js";

const CLOSE_UP = 5.5, LARGEST = 20, OVERLAPS = 0.1;
const DRAG_PX = 4, LEAST_POINTS = 3, LEAST_AREA_UM2 = 5, LEAST_AREA_PX = 60;
const RULES_UM = [1, 2, 5, 10, 20, 50, 100, 200, 500];
const TOOLS = { i: "add", d: "redraw", k: "split" };

export class FieldView extends EventTarget {
  constructor(element, desk, fields, { tell, choose }) {
    super();
    Object.assign(this, { element, desk, fields, tell, choose, cells: desk.cells });
    this.pinned = new Set();
    this.current = null;
    this.tool = null;
    this.line = [];
    this.withOutlines = true;
    this.here = [];
    this.overlaps = [];
    const button = (name, key, act) => make("button", { class: "quiet tool", "data-tool": name, "aria-pressed": ["add", "redraw", "split"].includes(name) ? "false" : null, onclick: () => { act(); this.canvas.focus({ preventScroll: true }); } }, t(`review.tool.${name}`), " ", make("kbd", {}, key));
    this.tools = ["i", "d", "k"].map((key) => button(TOOLS[key], key, () => this.take(TOOLS[key])));
    this.select = selectOf({ "aria-label": t("review.field"), onchange: () => this.#show(this.select.value) }, fields.list.map((field) => ({ value: field.field_id, text: field.name })));
    this.checked = make("button", { class: "quiet", onclick: () => this.check() });
    this.hint = make("button", { class: "hint", hidden: true, onclick: () => this.nextOverlap() });
    this.canvas = make("canvas", { class: "field-canvas", tabindex: 0, role: "application", "aria-label": t("review.field_picture") });
    this.said = make("p", { class: "visually-hidden", "aria-live": "polite" });
    this.absent = make("p", { class: "absent", hidden: true }, t("review.field_absent"));
    element.append(
      make("div", { class: "bar" },
        make("button", { class: "quiet", "aria-label": t("review.help.previous_field"), onclick: () => this.turn(-1) }, "‹"), this.select,
        make("button", { class: "quiet", "aria-label": t("review.help.next_field"), onclick: () => this.turn(1) }, "›"),
        this.checked, make("span", { class: "grow" }), ...this.tools, button("merge", "t", () => this.merge()), button("whole", "w", () => this.whole())),
      make("div", { class: "canvas-box" }, this.canvas, this.hint, this.absent), this.said);
    this.canvas.addEventListener("pointerdown", (event) => this.#down(event));
    this.canvas.addEventListener("pointermove", (event) => this.#hover(event));
    this.canvas.addEventListener("dblclick", () => { if (this.line.length > 2) this.#finish(); });
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), this.#point(event));
    }, { passive: false });
    new ResizeObserver(() => this.#resized()).observe(this.canvas.parentElement);
  }

  get selection() {
    const names = new Set(this.pinned);
    if (this.current !== null) names.add(this.cells.columns.cell_id[this.current]);
    return this.here.filter((i) => names.has(this.cells.columns.cell_id[i]));
  }

  get size() { return { width: this.field.width_px, height: this.field.height_px }; }

  async open(i) {
    const fieldId = i === null ? this.fields.list[0]?.field_id : this.cells.columns.field_id[i];
    if (fieldId === undefined) return;
    this.pinned.clear();
    this.current = i;
    await this.#show(fieldId, i);
  }

  async openField(fieldId) {
    this.pinned.clear();
    await this.#show(fieldId);
  }

  async #show(fieldId, i = null) {
    const isOther = this.fieldId !== fieldId;
    this.fieldId = fieldId;
    this.field = this.fields.byId.get(fieldId);
    this.select.set(fieldId);
    this.escape();
    if (isOther) this.picture = null;
    this.#chrome(); // the buttons have their words before the contours come
    this.#resized();
    if (i === null) {
      this.whole();
      this.current = null;
    }
    const token = (this.token = Symbol("field"));
    try {
      this.shapes = await this.fields.contours(fieldId, true);
      if (this.token !== token) return;
      this.#gather();
      if (i === null) this.current = this.here[0] ?? null;
      else this.#closeUp(i);
      this.draw();
      this.#moved();
      this.absent.hidden = true;
      const picture = await this.fields.picture(fieldId);
      if (this.token !== token) return;
      this.picture = picture;
    } catch (error) {
      this.absent.hidden = false;
    }
    this.draw();
  }

  turn(by) {
    const at = this.fields.list.findIndex((field) => field.field_id === this.fieldId);
    const next = this.fields.list[(at + by + this.fields.list.length) % this.fields.list.length];
    if (next) this.#show(next.field_id);
  }

  #gather() {
    const c = this.cells.columns;
    this.here = [];
    for (let i = 0; i < this.cells.length; i++) if (c.field_id[i] === this.fieldId && !this.cells.isRemoved(i)) this.here.push(i);
    this.here.sort((a, b) => Math.round(c.y[a] / 60) - Math.round(c.y[b] / 60) || c.x[a] - c.x[b]);
    const key = this.here.map((i) => `${c.cell_id[i]}${c.x[i]}${c.w[i]}`).join();
    if (key === this.hereKey) return;
    this.hereKey = key;
    this.overlaps = [];
    const boxes = this.here.map((i) => ({ x: c.x[i], y: c.y[i], w: c.w[i], h: c.h[i] }));
    this.here.forEach((i, a) => this.here.slice(a + 1).forEach((j, b) => {
      const [one, other] = [this.cells.contours.get(c.cell_id[i]), this.cells.contours.get(c.cell_id[j])];
      if (one && other && overlap(one, other, boxes[a], boxes[a + 1 + b]) > OVERLAPS) this.overlaps.push([i, j]);
    }));
  }

  // --- view

  #resized() {
    const box = this.canvas.parentElement;
    const ratio = devicePixelRatio;
    [this.width, this.height] = [box.clientWidth, box.clientHeight];
    if (!this.width || !this.field) return;
    [this.canvas.width, this.canvas.height] = [this.width * ratio, this.height * ratio];
    this.least = Math.min(this.width / this.size.width, this.height / this.size.height);
    if (!this.scale || this.scale < this.least) this.whole();
    this.draw();
  }

  whole() {
    if (!this.field || !this.width) return;
    this.scale = this.least;
    this.left = (this.size.width - this.width / this.scale) / 2;
    this.top = (this.size.height - this.height / this.scale) / 2;
    this.draw();
  }

  zoom(by, at = { x: this.left + this.width / this.scale / 2, y: this.top + this.height / this.scale / 2 }) {
    const scale = Math.min(LARGEST, Math.max(this.least, this.scale * by));
    this.left = at.x - (at.x - this.left) * this.scale / scale;
    this.top = at.y - (at.y - this.top) * this.scale / scale;
    this.scale = scale;
    this.#hold();
    this.draw();
  }

  pan(dx, dy) {
    this.left += dx * this.width / this.scale;
    this.top += dy * this.height / this.scale;
    this.#hold();
    this.draw();
  }

  #hold() {
    const hold = (value, seen, whole) => (seen >= whole ? (whole - seen) / 2 : Math.min(whole - seen, Math.max(0, value)));
    this.left = hold(this.left, this.width / this.scale, this.size.width);
    this.top = hold(this.top, this.height / this.scale, this.size.height);
  }

  #closeUp(i) {
    const c = this.cells.columns;
    this.scale = Math.max(this.least, Math.min(LARGEST, this.width / (CLOSE_UP * Math.max(c.w[i], c.h[i]))));
    this.left = c.x[i] + c.w[i] / 2 - this.width / this.scale / 2;
    this.top = c.y[i] + c.h[i] / 2 - this.height / this.scale / 2;
    this.#hold();
  }

  #point(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: this.left + (event.clientX - box.left) / this.scale, y: this.top + (event.clientY - box.top) / this.scale };
  }

  draw() {
    if (this.element.hidden || !this.field || this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      this.#paint();
    });
  }

  #paint() {
    if (!this.width || !this.scale) return;
    this.#gather();
    if (this.current !== null && !this.here.includes(this.current)) this.current = null;
    const pen = this.canvas.getContext("2d");
    const ratio = devicePixelRatio;
    const set = () => pen.setTransform(this.scale * ratio, 0, 0, this.scale * ratio, -this.left * this.scale * ratio, -this.top * this.scale * ratio);
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.fillStyle = "#dfdbd1";
    pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
    set();
    pen.imageSmoothingQuality = "high";
    if (this.picture) pen.drawImage(this.picture, 0, 0, this.size.width, this.size.height);
    const px = 1 / this.scale;
    const c = this.cells.columns;
    const chosen = new Set(this.selection);
    if (this.tool === "add") {
      pen.setLineDash([4 * px, 3 * px]);
      for (const refused of this.shapes?.refused ?? []) this.#stroke(pen, refused.contour_xy, 1.5 * px, "#4b5259");
      pen.setLineDash([]);
    }
    if (this.withOutlines || this.tool) {
      for (const i of this.here) {
        const contour = this.cells.contours.get(c.cell_id[i]);
        if (!contour) continue;
        const color = data.colors[this.cells.category(i)] ?? "#6b7178";
        this.#stroke(pen, contour, (chosen.has(i) ? 5.5 : 3.5) * px, "rgba(255,255,255,.75)");
        if (!this.cells.isReviewed(i)) pen.setLineDash([7 * px, 3 * px]);
        this.#stroke(pen, contour, (chosen.has(i) ? 3.5 : 2) * px, color);
        pen.setLineDash([]);
      }
    }
    for (const i of chosen) this.#corners(pen, i, px);
    this.#labels(pen, px, chosen);
    if (this.line.length) {
      const line = this.cursor ? [...this.line, this.cursor.x, this.cursor.y] : this.line;
      pen.beginPath();
      for (let k = 0; k < line.length; k += 2) pen.lineTo(line[k], line[k + 1]);
      pen.lineWidth = 2.5 * px;
      pen.strokeStyle = "#74195a";
      pen.stroke();
      pen.fillStyle = "#74195a";
      if (this.line.length < 80) for (let k = 0; k < this.line.length; k += 2) pen.fillRect(this.line[k] - 2.5 * px, this.line[k + 1] - 2.5 * px, 5 * px, 5 * px);
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.#rule(pen);
    this.#chrome();
  }

  #stroke(pen, contour, width, color) {
    pen.beginPath();
    for (let k = 0; k < contour.length; k += 2) pen.lineTo(contour[k], contour[k + 1]);
    pen.closePath();
    pen.lineWidth = width;
    pen.strokeStyle = color;
    pen.stroke();
  }

  #corners(pen, i, px) {
    const c = this.cells.columns;
    const gap = 5 * px, arm = 9 * px;
    const [l, r, u, b] = [c.x[i] - gap, c.x[i] + c.w[i] + gap, c.y[i] - gap, c.y[i] + c.h[i] + gap];
    pen.beginPath();
    for (const [x, y, dx, dy] of [[l, u, 1, 1], [r, u, -1, 1], [l, b, 1, -1], [r, b, -1, -1]]) {
      pen.moveTo(x + dx * arm, y);
      pen.lineTo(x, y);
      pen.lineTo(x, y + dy * arm);
    }
    pen.lineWidth = (i === this.current ? 3 : 2) * px;
    pen.strokeStyle = "#74195a";
    pen.stroke();
  }

  #labels(pen, px, chosen) {
    if (!this.withOutlines) return;
    const c = this.cells.columns;
    pen.font = `600 ${12 * px}px ui-sans-serif, system-ui, sans-serif`;
    pen.textBaseline = "middle";
    for (const i of this.here) {
      if ((c.w[i] * this.scale < 26 && !chosen.has(i)) || !this.#isSeen(i)) continue;
      const category = this.cells.category(i);
      const text = c.code[i] ?? `${category ?? ""}?`;
      const width = pen.measureText(text).width + 8 * px;
      const [x, y] = [c.x[i] + c.w[i] / 2 - width / 2, Math.max(this.top, c.y[i] - 17 * px)];
      pen.fillStyle = c.code[i] === null ? "rgba(255,255,255,.88)" : data.colors[category] ?? "#6b7178";
      pen.fillRect(x, y, width, 15 * px);
      pen.fillStyle = c.code[i] === null ? "#1d2429" : "#fff";
      pen.fillText(text, x + 4 * px, y + 8 * px);
    }
  }

  #isSeen(i) { // a label at the edge would be taken for that of another cell
    const c = this.cells.columns;
    const [right, bottom] = [this.left + this.width / this.scale, this.top + this.height / this.scale];
    return c.x[i] < right && c.x[i] + c.w[i] > this.left && c.y[i] < bottom && c.y[i] + c.h[i] > this.top;
  }

  #rule(pen) {
    const um = this.field.um_per_px;
    if (!um) return;
    const length = RULES_UM.filter((value) => value / um * this.scale <= 160).at(-1) ?? RULES_UM[0];
    const width = length / um * this.scale;
    const [x, y] = [16, this.height - 18];
    pen.fillStyle = "rgba(255,255,255,.88)";
    pen.fillRect(x - 8, y - 22, width + 16, 32);
    pen.fillStyle = "#1d2429";
    pen.fillRect(x, y, width, 3);
    pen.font = "12px ui-sans-serif, system-ui, sans-serif";
    pen.textBaseline = "alphabetic";
    pen.fillText(`${length} µm`, x, y - 6);
  }

  #chrome() {
    const by = this.desk.state.fields_checked[this.fieldId];
    this.checked.replaceChildren(by ? t("review.field_checked_by", { reader: by }) : t("review.check_field"), " ", ...(by ? [] : [make("kbd", {}, "⇧⏎")]));
    this.checked.disabled = Boolean(by) || this.desk.isLocked;
    this.hint.hidden = !this.overlaps.length;
    this.hint.replaceChildren(t("review.overlaps", { n: this.overlaps.length }), " ", make("kbd", {}, "o"));
    for (const button of this.tools) button.setAttribute("aria-pressed", String(button.dataset.tool === this.tool));
    this.canvas.dataset.tool = this.tool ?? "";
  }

  // --- choose

  go(i) {
    if (this.cells.columns.field_id[i] !== this.fieldId) return this.open(i);
    this.current = i;
    this.#see(i);
    this.draw();
    this.#moved();
  }

  #see(i) {
    const c = this.cells.columns;
    const [right, bottom] = [this.left + this.width / this.scale, this.top + this.height / this.scale];
    if (c.x[i] >= this.left && c.x[i] + c.w[i] <= right && c.y[i] >= this.top && c.y[i] + c.h[i] <= bottom) return;
    this.left = c.x[i] + c.w[i] / 2 - this.width / this.scale / 2;
    this.top = c.y[i] + c.h[i] / 2 - this.height / this.scale / 2;
    this.#hold();
  }

  step(by, wanted = () => true) {
    const from = this.here.indexOf(this.current);
    for (let k = 1; k <= this.here.length; k++) {
      const i = this.here[(from + by * k + this.here.length * 2) % this.here.length];
      if (wanted(i)) return this.go(i);
    }
  }

  /** Go to the nearest cell in a direction. */
  toward(dx, dy) {
    const c = this.cells.columns;
    if (this.current === null) return this.here.length && this.go(this.here[0]);
    const middle = (i) => [c.x[i] + c.w[i] / 2, c.y[i] + c.h[i] / 2];
    const [x, y] = middle(this.current);
    let best = null, least = Infinity;
    for (const i of this.here) {
      const [ox, oy] = middle(i);
      const along = (ox - x) * dx + (oy - y) * dy, aside = Math.abs((ox - x) * dy) + Math.abs((oy - y) * dx);
      if (i === this.current || along <= 0) continue;
      const cost = along + 2 * aside;
      if (cost < least) [best, least] = [i, cost];
    }
    if (best !== null) this.go(best);
  }

  nextOverlap() {
    if (!this.overlaps.length) return this.tell("review.no_overlaps");
    const at = this.overlapAt = ((this.overlapAt ?? -1) + 1) % this.overlaps.length;
    const [i, j] = this.overlaps[at];
    this.pinned = new Set([this.cells.columns.cell_id[j]]);
    this.current = i;
    this.#closeUp(i);
    this.draw();
    this.#moved();
  }

  outlines() {
    this.withOutlines = !this.withOutlines;
    this.draw();
  }

  #at(point) { // the smallest outline under a point, so that a cell inside another can be reached
    const hit = this.here.filter((i) => { const contour = this.cells.contours.get(this.cells.columns.cell_id[i]); return contour && contains(contour, point.x, point.y); });
    const c = this.cells.columns;
    return hit.sort((a, b) => c.w[a] * c.h[a] - c.w[b] * c.h[b])[0] ?? null;
  }

  #moved() {
    this.said.textContent = this.current === null ? "" : spoken(this.cells, this.current);
    this.dispatchEvent(new Event("moved"));
  }

  // --- tools

  take(tool) {
    if (this.desk.isLocked) return this.tell("review.locked");
    if (this.tool === tool) return this.escape();
    if (tool !== "add" && this.current === null) return this.tell("review.choose_first");
    this.escape();
    this.tool = tool;
    this.tell(`review.how.${tool}`);
    this.draw();
  }

  escape() {
    if (!this.tool && !this.line.length) this.pinned.clear();
    this.tool = null;
    this.line = [];
    this.cursor = null;
    this.current ??= this.cells.index.get(this.former) ?? null;
    this.former = null;
    this.draw();
    if (this.field) this.dispatchEvent(new Event("moved"));
  }

  /** Keep a key that comes before the answer to a click: it is about the cell that the answer brings. */
  #holds(key, { shiftKey }) {
    if (!this.held) return false;
    if (key === "Escape") this.held = null;
    else this.held.push({ key, shiftKey, bubbles: true, cancelable: true });
    return key !== "Escape";
  }

  key(key, event) {
    if (this.#holds(key, event)) return true;
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    if (arrow) {
      if (event.shiftKey) this.pan(0.15 * arrow[0], 0.15 * arrow[1]);
      else this.toward(...arrow);
      return true;
    }
    if (key === "Enter" && event.shiftKey) { this.check(); return true; }
    if (key === "Enter" && this.line.length) { this.#finish(); return true; }
    if (key === "Backspace" && this.line.length) { this.line.splice(-2); this.draw(); return true; }
    const acts = {
      "+": () => this.zoom(1.4), "=": () => this.zoom(1.4), "-": () => this.zoom(1 / 1.4), w: () => this.whole(), t: () => this.merge(),
      o: () => this.nextOverlap(), "[": () => this.turn(-1), "]": () => this.turn(1), i: () => this.take("add"), d: () => this.take("redraw"), k: () => this.take("split"),
      " ": () => { const id = this.cells.columns.cell_id[this.current]; if (id && !this.pinned.delete(id)) this.pinned.add(id); this.draw(); this.#moved(); },
    };
    if (!acts[key]) return false;
    acts[key]();
    return true;
  }

  #down(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    const start = { x: event.clientX, y: event.clientY, left: this.left, top: this.top };
    let dragged = false;
    const drawn = [this.#point(event).x, this.#point(event).y];
    const move = (now) => {
      dragged ||= Math.hypot(now.clientX - start.x, now.clientY - start.y) > DRAG_PX;
      if (!dragged) return;
      if (this.tool) {
        const { x, y } = this.#point(now);
        drawn.push(x, y);
        this.line = this.line.length > 2 && !this.free ? this.line : drawn;
        this.held = null;
        this.free = true;
        this.cursor = null;
      } else {
        this.left = start.left - (now.clientX - start.x) / this.scale;
        this.top = start.top - (now.clientY - start.y) / this.scale;
        this.#hold();
      }
      this.draw();
    };
    const up = (now) => {
      this.canvas.removeEventListener("pointermove", move);
      this.canvas.removeEventListener("pointerup", up);
      this.canvas.removeEventListener("pointercancel", up);
      const point = this.#point(now);
      if (this.tool && dragged) {
        this.free = false;
        this.#finish();
      } else if (!dragged) this.#click(point, now);
    };
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerup", up);
    this.canvas.addEventListener("pointercancel", up);
  }

  #hover(event) {
    if (!this.tool || !this.line.length || this.free) return;
    this.cursor = this.#point(event);
    this.draw();
  }

  #click(point, event) {
    if (!this.tool) {
      const i = this.#at(point);
      const id = i === null ? null : this.cells.columns.cell_id[i];
      if (event.shiftKey || event.ctrlKey || event.metaKey) {
        if (id && this.current !== null) this.pinned.add(this.cells.columns.cell_id[this.current]);
        if (id && !this.pinned.delete(id)) this.pinned.add(id);
      } else this.pinned.clear();
      if (i !== null) this.current = i;
      this.draw();
      this.#moved();
      return;
    }
    const [x, y] = this.line.slice(-2);
    if (Math.hypot(x - point.x, y - point.y) * this.scale < DRAG_PX) return; // the second one of a double click
    if (this.tool === "add" && !this.line.length) this.#ask(point);
    else this.held = null; // the outline goes on, and its keys are its own
    const closes = this.line.length >= 2 * LEAST_POINTS && Math.hypot(this.line[0] - point.x, this.line[1] - point.y) * this.scale < 9;
    if (closes) return this.#finish();
    this.line.push(point.x, point.y);
    if (this.tool === "split" && this.line.length >= 4 && this.#cut()) return;
    this.draw();
  }

  /**
   * Ask the segmenter what lies under a click. The click also begins an outline: one that goes on wants no answer. No cell
   * is chosen meanwhile, and keys wait: a name is given to the cell that the answer brings, and to no other one.
   */
  async #ask(point) {
    const [fieldId, line, held] = [this.fieldId, this.line, []];
    if (this.current !== null) this.former = this.cells.columns.cell_id[this.current];
    this.current = null;
    this.pinned.clear();
    this.#moved();
    const isAwaited = () => this.tool === "add" && this.fieldId === fieldId && this.line === line && line.length === 2;
    this.tell("review.outline.asked");
    this.held = held;
    let answer = { found: "no_answer" };
    try {
      answer = await send(`${this.desk.address}/outline`, { field_id: fieldId, x: point.x, y: point.y });
    } catch (error) { // with no status, or one of 5xx, the station does not answer
      if (error.status < 500) answer = { found: "refused", why: error.message };
    }
    const isAdded = isAwaited() && this.#answered(point, answer);
    if (this.held !== held) return;
    this.held = null;
    if (isAdded && !this.element.hidden) for (const key of held) this.canvas.dispatchEvent(new KeyboardEvent("keydown", key));
  }

  /** Take what the segmenter found; whether it is a cell now. */
  #answered(point, { found, why, contour_xy: contour }) {
    if (found === "refused") {
      this.tell("review.refused", { why });
      return false;
    }
    if (found === "cell") return this.#add(contour, "segmenter");
    const refused = (this.shapes?.refused ?? []).filter((shape) => contains(shape.contour_xy, point.x, point.y)).sort((a, b) => area(a.contour_xy) - area(b.contour_xy))[0];
    if (refused) return this.#add(refused.contour_xy, "segmenter", ["no_model", "no_picture"].includes(found) ? `review.added_${found}` : "review.added");
    this.tell(`review.outline.${found}`);
    return false;
  }

  #inside(line) {
    const { width, height } = this.size;
    return line.map((value, k) => Math.min(k % 2 ? height : width, Math.max(0, value)));
  }

  #finish() {
    if (!this.tool || !this.line.length) return;
    if (this.tool === "split") {
      if (!this.#cut()) this.#again("review.split_missed");
      return;
    }
    const line = tidy(this.#inside(thin(this.line, 1.5 / this.scale)));
    const um = this.field.um_per_px;
    const isSmall = um ? area(line) * um ** 2 < LEAST_AREA_UM2 : area(line) < LEAST_AREA_PX;
    if (line.length < 2 * LEAST_POINTS || isSmall) return this.#again("review.outline_small");
    if (crosses(line)) return this.#again("review.outline_crosses");
    if (this.tool === "add") this.#add(line);
    else this.#redraw(line);
  }

  #again(sentence) {
    this.line = [];
    this.cursor = null;
    this.tell(sentence);
    this.draw();
  }

  #add(contour, outlinedBy = null, sentence = "review.added") {
    const name = `new-${crypto.randomUUID()}`;
    const value = { field_id: this.fieldId, contour_xy: contour, ...(outlinedBy ? { outlined_by: outlinedBy } : {}) };
    if (!this.desk.decide([{ kind: "add", cell_id: name, new: value }], "add")) return false;
    this.#made(name, sentence);
    return true;
  }

  #redraw(contour) {
    const id = this.cells.columns.cell_id[this.current];
    if (this.desk.decide([{ kind: "redraw", cell_id: id, new: { contour_xy: contour } }], "redraw")) this.#made(id, "review.redrawn");
  }

  #cut() {
    const id = this.cells.columns.cell_id[this.current];
    const parts = cut(this.cells.contours.get(id) ?? [], this.line);
    if (!parts) return false;
    const code = this.cells.columns.code[this.current];
    const named = parts.map((contour) => ({ cell_id: `new-${crypto.randomUUID()}`, contour_xy: contour, ...(code === null ? {} : { code }) }));
    if (this.desk.decide([{ kind: "split", cell_id: id, new: { parts: named } }], "split")) this.#made(named[0].cell_id, "review.was_split");
    return true;
  }

  merge() {
    const chosen = this.selection;
    if (chosen.length < 2) return this.tell("review.choose_two");
    const c = this.cells.columns;
    const contour = around(chosen.map((i) => this.cells.contours.get(c.cell_id[i])));
    const codes = new Set(chosen.map((i) => c.code[i]));
    const code = codes.size === 1 ? [...codes][0] : null;
    const name = `new-${crypto.randomUUID()}`;
    const value = { cells: chosen.map((i) => c.cell_id[i]), contour_xy: contour, ...(code === null ? {} : { code }) };
    if (this.desk.decide([{ kind: "merge", cell_id: name, new: value }], "merge")) this.#made(name, "review.was_merged");
  }

  #made(name, sentence) {
    this.tool = null;
    this.former = null;
    this.line = [];
    this.cursor = null;
    this.pinned.clear();
    this.current = this.cells.index.get(this.desk.outbox.real(name)) ?? null;
    this.#gather();
    this.tell(sentence);
    this.draw();
    this.#moved();
  }

  check() {
    if (this.desk.state.fields_checked[this.fieldId] || !this.desk.decide([{ kind: "field_checked", cell_id: null, new: { field_id: this.fieldId } }], "field_checked")) return;
    this.desk.state.fields_checked[this.fieldId] = data.reader;
    this.tell("review.told.field_checked");
    this.draw();
  }
}

function crosses(line) {
  const n = line.length / 2;
  const turn = (a, b, p) => (line[2 * b] - line[2 * a]) * (line[2 * p + 1] - line[2 * a + 1]) - (line[2 * b + 1] - line[2 * a + 1]) * (line[2 * p] - line[2 * a]);
  for (let a = 0; a < n; a++) for (let c = a + 2; c < n; c++) {
    const [b, d] = [a + 1, (c + 1) % n];
    if (d === a) continue;
    if (turn(a, b, c) * turn(a, b, d) < 0 && turn(c, d, a) * turn(c, d, b) < 0) return true;
  }
  return false;
}

/** The convex outline around several outlines: what a merged cell begins with; it can be redrawn. */
function around(contours) {
  const points = contours.flatMap((contour) => Array.from({ length: contour.length / 2 }, (_, k) => [contour[2 * k], contour[2 * k + 1]]));
  points.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const half = (list) => list.reduce((hull, p) => {
    while (hull.length > 1) {
      const [a, b] = [hull.at(-2), hull.at(-1)];
      if ((b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]) > 0) break;
      hull.pop();
    }
    return [...hull, p];
  }, []);
  return [...half(points).slice(0, -1), ...half([...points].reverse()).slice(0, -1)].flat();
}
