// The cells of a slide: outlines fetched region by region where one looks, drawn over the picture once a cell is large
// enough there, and chosen by a click or the arrow keys. Coordinates are pixels of the slide.
import { contains } from "./outlines.js";
import { data, make, t } from "./page_data.js";
import { addressOf, fieldPath, read } from "./station.js";

const LEAST_PX = 12, CELL_UM = 12, UNSCALED_CELL_PX = 48; // on the screen; of a nucleated cell
const LABEL_PX = 26, HALO_PX = 20; // of a nucleated cell on the screen, from which cells have them
const AT_ONCE = 2, AGAIN_MS = 5000, MOST_REGIONS = 80;
const NO_CATEGORY = "#6b7178", MARK = "#74195a";

export class SlideCells {
  /** `redraw` is called when there is more to draw. */
  constructor(slide, vocabulary, { redraw }) {
    Object.assign(this, { slide, redraw });
    this.codes = new Map(vocabulary.codes.map((code) => [code.code, code]));
    this.cellPx = slide.um_per_px ? CELL_UM / slide.um_per_px : UNSCALED_CELL_PX;
    this.known = new Map(); // region -> its cells; the one looked at last comes last
    this.asked = new Set();
    this.failed = new Map(); // region -> when
    this.current = this.pointed = null;
    this.isOn = true;
    this.canvas = make("canvas", { class: "outlines", "aria-hidden": "true" });
  }

  /** Whether cells are large enough on the screen to be outlined. */
  isNear(scale) { return this.isOn && this.cellPx * scale >= LEAST_PX; }

  /** Take what others decided meanwhile: what is shown stays until it comes. */
  forget() { for (const cells of this.known.values()) cells.isStale = true; }

  /** Draw what lies in view: `left`, `top` are the slide's pixels at the corner, `scale` those of the screen to one. */
  draw({ left, top, width, height, scale }) {
    const ratio = devicePixelRatio, { canvas } = this;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    const pen = canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    canvas.dataset.drawn = "0";
    if (!this.isNear(scale)) return;
    const view = { left, top, right: left + width / scale, bottom: top + height / scale };
    this.#fetch(view);
    const seen = [...this.known].flatMap(([, cells]) => cells).filter((cell) => overlaps(cell.box, view));
    canvas.dataset.drawn = String(seen.length);
    canvas.dataset.current = this.current?.cell_id ?? "";
    pen.setTransform(scale * ratio, 0, 0, scale * ratio, -left * scale * ratio, -top * scale * ratio);
    const px = 1 / scale;
    const isLarge = this.cellPx * scale >= HALO_PX, isLabeled = this.cellPx * scale >= LABEL_PX;
    for (const cell of seen) this.#outline(pen, cell, isLarge, px);
    pen.font = `600 ${12 * px}px ui-sans-serif, system-ui, sans-serif`;
    pen.textBaseline = "middle";
    for (const cell of seen) if (this.#isMarked(cell) || (isLabeled && (cell.code ?? cell.category) !== null)) this.#label(pen, cell, px, top);
    const current = this.#now(this.current);
    if (current) corners(pen, current.box, px);
  }

  /** The smallest outline under a point; null where there is none. */
  at(x, y) {
    const hit = this.#all().filter(({ box, contour }) => x >= box.left && x <= box.right && y >= box.top && y <= box.bottom && contains(contour, x, y));
    return hit.sort((a, b) => a.side - b.side)[0] ?? null;
  }

  /** Choose the nearest cell in a direction; the one nearest to the middle of the view where none is chosen. */
  toward(dx, dy, { left, top, width, height, scale }) {
    const from = this.#now(this.current)?.middle;
    const [x, y] = from ?? [left + width / scale / 2, top + height / scale / 2];
    let best = null, least = Infinity;
    for (const cell of this.#all()) {
      const [ox, oy] = cell.middle;
      const along = from ? (ox - x) * dx + (oy - y) * dy : Math.hypot(ox - x, oy - y);
      const aside = from ? Math.abs((ox - x) * dy) + Math.abs((oy - y) * dx) : 0;
      if (cell.cell_id === this.current?.cell_id || (from && along <= 0) || along + 2 * aside >= least) continue;
      [best, least] = [cell, along + 2 * aside];
    }
    if (best) this.current = best;
    return best;
  }

  /** What a screen reader says of a cell. */
  say({ code, category }) {
    if (code !== null) return `${code}, ${this.codes.get(code)?.names[data.language] ?? code}`;
    return category === null ? t("review.say.unnamed") : `${category}? ${data.words[`category.${category}`] ?? category}`;
  }

  #all() { return [...this.known.values()].flat(); }

  #now(cell) { return cell && (this.#all().find((other) => other.cell_id === cell.cell_id) ?? cell); } // as it stands now

  #isMarked(cell) { return cell.cell_id === this.current?.cell_id || cell.cell_id === this.pointed?.cell_id; }

  /** Ask for the regions in view that are not known, a few at a time, those in the middle first. */
  #fetch(view) {
    const [x, y] = [(view.left + view.right) / 2, (view.top + view.bottom) / 2];
    const away = ({ box_xyxy: [x0, y0, x1, y1] }) => Math.hypot((x0 + x1) / 2 - x, (y0 + y1) / 2 - y);
    const margin = this.cellPx; // a cell belongs to the region of its middle, and may reach out of it
    const inView = this.slide.regions.filter(({ box_xyxy: [left, top, right, bottom] }) => overlaps({ left: left - margin, top: top - margin, right: right + margin, bottom: bottom + margin }, view));
    for (const region of inView) {
      const cells = this.known.get(region);
      if (!cells) continue;
      this.known.delete(region); // and back at the end, since it is looked at
      this.known.set(region, cells);
    }
    const isWanted = (region) => !this.known.has(region) || this.known.get(region).isStale;
    const wanted = inView.filter((region) => region.n_cells > 0 && isWanted(region) && !this.asked.has(region) && !(this.failed.get(region) > Date.now() - AGAIN_MS));
    for (const region of wanted.sort((a, b) => away(a) - away(b)).slice(0, Math.max(0, AT_ONCE - this.asked.size))) this.#ask(region);
  }

  async #ask(region) {
    this.asked.add(region);
    try {
      const field = await read(`${addressOf(data.patient_id)}/fields/${fieldPath(region.field_id)}`);
      this.known.delete(region);
      this.known.set(region, field.cells.filter((cell) => cell.removed === null).map((cell) => this.#placed(cell, region)));
      if (this.known.size > MOST_REGIONS) this.known.delete(this.known.keys().next().value);
      this.failed.delete(region);
    } catch {
      this.failed.set(region, Date.now()); // no connection, or no longer this reader's: it is asked again
      setTimeout(this.redraw, AGAIN_MS);
    }
    this.asked.delete(region);
    this.redraw();
  }

  #placed({ cell_id, contour_xy, model_category, code }, { origin_xy }) {
    const contour = contour_xy.map((value, k) => value + origin_xy[k % 2]);
    const path = new Path2D();
    const box = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
    for (let k = 0; k < contour.length; k += 2) {
      const [x, y] = [contour[k], contour[k + 1]];
      path.lineTo(x, y);
      Object.assign(box, { left: Math.min(box.left, x), top: Math.min(box.top, y), right: Math.max(box.right, x), bottom: Math.max(box.bottom, y) });
    }
    path.closePath();
    const category = code === null ? model_category : this.codes.get(code)?.category ?? null;
    const side = Math.max(box.right - box.left, box.bottom - box.top);
    return { cell_id, contour, path, box, side, code, category, middle: [(box.left + box.right) / 2, (box.top + box.bottom) / 2], color: data.colors[category] ?? NO_CATEGORY };
  }

  #outline(pen, cell, isLarge, px) {
    const isMarked = this.#isMarked(cell);
    const width = isMarked ? 3.5 : isLarge ? 2 : 1.5;
    if (isLarge || isMarked) {
      pen.lineWidth = (width + 1.5) * px;
      pen.strokeStyle = "rgba(255,255,255,.75)";
      pen.stroke(cell.path);
    }
    if (cell.code === null) pen.setLineDash((isLarge ? [7, 3] : [3, 2]).map((length) => length * px));
    pen.lineWidth = width * px;
    pen.strokeStyle = cell.color;
    pen.stroke(cell.path);
    pen.setLineDash([]);
  }

  #label(pen, { box, code, category, color }, px, top) {
    const text = code ?? `${category ?? ""}?`;
    const width = pen.measureText(text).width + 8 * px;
    const [x, y] = [(box.left + box.right) / 2 - width / 2, Math.max(top, box.top - 17 * px)];
    pen.fillStyle = code === null ? "rgba(255,255,255,.88)" : color;
    pen.fillRect(x, y, width, 15 * px);
    pen.fillStyle = code === null ? "#1d2429" : "#fff";
    pen.fillText(text, x + 4 * px, y + 8 * px);
  }
}

const overlaps = (a, b) => a.left <= b.right && a.right >= b.left && a.top <= b.bottom && a.bottom >= b.top;

/** The sign of the chosen cell, as in the field view. */
function corners(pen, box, px) {
  const gap = 5 * px, arm = 9 * px;
  const [l, r, u, b] = [box.left - gap, box.right + gap, box.top - gap, box.bottom + gap];
  pen.beginPath();
  for (const [x, y, dx, dy] of [[l, u, 1, 1], [r, u, -1, 1], [l, b, 1, -1], [r, b, -1, -1]]) {
    pen.moveTo(x + dx * arm, y);
    pen.lineTo(x, y);
    pen.lineTo(x, y + dy * arm);
  }
  pen.lineWidth = 3 * px;
  pen.strokeStyle = MARK;
  pen.stroke();
}
