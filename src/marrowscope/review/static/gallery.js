// The gallery: a grid in which only what is near the window exists. Its order stays while cells are decided, so that
// nothing jumps away under the reader's hands; sorting again is a key.
import { data, make, percent, t } from "./page_data.js";

const SIZES = [64, 88, 112, 144, 184];
const GAP = 6, LABEL = 22, OVERSCAN_ROWS = 2;
const REST_MS = 60, FAST_ROWS = 3;
const MOST_LOADING = 4; // pictures at once: a browser has six connections, and decisions must not wait for pictures

export class Gallery extends EventTarget {
  constructor(element, desk) {
    super();
    Object.assign(this, { element, desk, cells: desk.cells });
    this.order = [];
    this.at = 0; // position of the cursor in the order
    this.anchor = 0;
    this.chosen = new Set(); // ids of the chosen cells
    this.size = 2;
    this.nLoading = 0;
    this.space = make("div", { class: "space", role: "presentation" });
    this.element.append(this.space);
    this.tiles = new Map(); // position -> tile
    this.pool = [];
    this.element.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.element.addEventListener("pointerdown", (event) => this.#pressed(event));
    this.element.addEventListener("dblclick", (event) => { if (this.#under(event) !== null) this.dispatchEvent(new Event("open")); });
    new ResizeObserver(() => this.layout()).observe(this.element);
  }

  get current() { return this.order[this.at] ?? null; }

  get currentId() { return this.current === null ? null : this.cells.columns.cell_id[this.current]; }

  /** Positions of the chosen cells among all cells, in the order shown; cells that are not shown are not among them. */
  get selection() { return this.order.filter((i) => this.chosen.has(this.cells.columns.cell_id[i])); }

  show(order, { keep = true } = {}) {
    const id = keep ? this.currentId : null;
    this.order = order;
    this.place = new Map(order.map((i, at) => [i, at]));
    const at = id === null ? -1 : order.indexOf(this.cells.index.get(id));
    this.at = Math.max(0, at);
    this.anchor = this.at;
    if (at < 0) {
      this.chosen = new Set(this.currentId ? [this.currentId] : []);
      this.element.scrollTop = 0;
    }
    this.layout();
    if (at >= 0) this.#reveal();
    this.#moved();
  }

  resize(by) {
    this.size = Math.min(SIZES.length - 1, Math.max(0, this.size + by));
    this.layout();
    this.#reveal();
  }

  layout() {
    const picture = SIZES[this.size];
    const width = this.element.clientWidth - 2 * GAP;
    this.columns = Math.max(1, Math.floor((width + GAP) / (picture + GAP)));
    this.picture = picture;
    this.step = { x: (width + GAP) / this.columns, y: picture + LABEL + GAP };
    this.rows = Math.ceil(this.order.length / this.columns);
    this.element.style.setProperty("--picture", `${picture}px`);
    this.space.style.height = `${this.rows * this.step.y + GAP}px`;
    for (const [at, tile] of this.tiles) this.#release(at, tile);
    this.draw();
  }

  /** Make the tiles near the window, and give those that have left it to others. */
  draw(isFast = false) {
    const { scrollTop, clientHeight } = this.element;
    const first = Math.max(0, Math.floor(scrollTop / this.step.y) - OVERSCAN_ROWS) * this.columns;
    const last = Math.min(this.order.length, (Math.ceil((scrollTop + clientHeight) / this.step.y) + OVERSCAN_ROWS) * this.columns);
    for (const [at, tile] of this.tiles) if (at < first || at >= last) this.#release(at, tile);
    const waiting = this.desk.waiting;
    for (let at = first; at < last; at++) {
      let tile = this.tiles.get(at);
      if (!tile) {
        tile = this.pool.pop() ?? this.#tile();
        this.tiles.set(at, tile);
        const [column, row] = [at % this.columns, Math.floor(at / this.columns)];
        tile.option.style.transform = `translate(${GAP + column * this.step.x}px, ${GAP + row * this.step.y}px)`;
        tile.option.hidden = false;
      }
      this.#fill(tile, at, waiting, isFast);
    }
    if (!isFast) this.#loadSoon();
    this.element.setAttribute("aria-activedescendant", this.tiles.get(this.at)?.option.id ?? "");
    if (!this.tiles.has(this.at)) this.element.removeAttribute("aria-activedescendant");
  }

  #tile() {
    const picture = make("img", { alt: "", decoding: "async", draggable: "false" });
    const label = make("span", { class: "label" });
    const option = make("div", { role: "option", class: "tile", id: `tile-${this.n = (this.n ?? 0) + 1}` }, picture, label);
    const tile = { option, picture, label, isLoading: false };
    const arrived = (name) => {
      this.#loaded(tile);
      picture.classList.remove("coming");
      picture.classList.toggle("absent", name === "error");
      this.#loadSoon();
    };
    picture.addEventListener("load", () => arrived("load"));
    picture.addEventListener("error", () => arrived("error"));
    this.space.append(option);
    return tile;
  }

  #loaded(tile) {
    if (!tile.isLoading) return;
    tile.isLoading = false;
    this.nLoading -= 1;
  }

  /** Not within a frame: to begin a picture takes longer than to place a tile. */
  #loadSoon() {
    this.loading ??= setTimeout(() => {
      this.loading = null;
      this.#load();
    });
  }

  /** Draw in the next frame, once, however often it is asked for. */
  soon() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this.draw();
    });
  }

  /** Ask for pictures of the tiles that lack theirs, those in the window first. */
  #load() {
    if (this.nLoading >= MOST_LOADING) return;
    const top = this.element.scrollTop, bottom = top + this.element.clientHeight;
    const far = (at) => { const y = Math.floor(at / this.columns) * this.step.y; return y + this.step.y < top || y > bottom ? 1 : 0; };
    const lacking = [...this.tiles].filter(([, tile]) => tile.wanted && tile.wanted !== tile.src);
    lacking.sort(([a], [b]) => far(a) - far(b) || a - b);
    for (const [, tile] of lacking.slice(0, MOST_LOADING - this.nLoading)) {
      tile.src = tile.wanted;
      tile.isLoading = true;
      this.nLoading += 1;
      tile.picture.src = tile.src;
    }
  }

  #release(at, tile) {
    this.tiles.delete(at);
    this.pool.push(tile);
    tile.option.hidden = true;
    tile.option.className = "tile";
    tile.option.removeAttribute("aria-selected");
    this.#loaded(tile);
    tile.key = tile.src = tile.wanted = null;
    tile.picture.removeAttribute("src");
  }

  #fill(tile, at, waiting, isFast) {
    const i = this.order[at];
    const c = this.cells.columns;
    const id = c.cell_id[i];
    const src = pictureOf(this.desk, i);
    if (tile.wanted !== src && (tile.wanted || !isFast)) {
      tile.wanted = src;
      this.#loaded(tile);
      tile.picture.classList.add("coming");
      tile.picture.classList.remove("absent");
    }
    const isReviewed = this.cells.isReviewed(i);
    const state = [
      this.chosen.has(id) && "chosen", at === this.at && "cursor", isReviewed && "reviewed", this.cells.isRemoved(i) && "removed",
      this.cells.isChanged(i) && "changed", waiting.has(id) && "waiting",
    ].filter(Boolean).join(" ");
    const key = `${id} ${state} ${c.code[i]} ${c.removed[i]}`;
    if (tile.key === key) return;
    tile.key = key;
    const category = this.cells.category(i);
    tile.option.className = `tile ${state}`;
    tile.option.style.setProperty("--code", data.colors[category] ?? "#6b7178");
    tile.label.textContent = this.cells.isRemoved(i) ? `× ${c.code[i] ?? category ?? ""}` : c.code[i] ?? (category ? `${category}?` : "?");
    tile.label.dataset.certainty = isReviewed || c.certainty[i] === null ? "" : percent(c.certainty[i]);
    tile.option.setAttribute("aria-selected", String(this.chosen.has(id)));
    tile.option.setAttribute("aria-posinset", at + 1);
    tile.option.setAttribute("aria-setsize", this.order.length);
    tile.option.setAttribute("aria-label", spoken(this.cells, i));
    tile.option.dataset.cell = id;
  }

  #scrolled() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      const now = this.element.scrollTop;
      const isFast = Math.abs(now - (this.lastTop ?? now)) > FAST_ROWS * this.step.y;
      this.lastTop = now;
      this.draw(isFast);
      clearTimeout(this.rest);
      this.rest = setTimeout(() => this.draw(), REST_MS); // pictures of what was flown over are not asked for
    });
  }

  #under(event) {
    const tile = event.target.closest(".tile");
    if (!tile) return null;
    const i = this.cells.index.get(tile.dataset.cell);
    return this.place.get(i) ?? null;
  }

  #pressed(event) {
    if (event.button !== 0) return;
    const at = this.#under(event);
    if (at === null) return;
    event.preventDefault();
    this.element.focus({ preventScroll: true });
    if (event.shiftKey) this.move(at, "range");
    else if (event.ctrlKey || event.metaKey) { this.move(at, "only"); this.toggle(); }
    else this.move(at);
  }

  /** Move the cursor; how: alone (and chosen), "range" from the anchor, or "only" the cursor. */
  move(to, how = "alone") {
    if (!this.order.length) return;
    this.at = Math.min(this.order.length - 1, Math.max(0, to));
    if (how !== "range") this.anchor = this.at;
    if (how === "alone") this.chosen = new Set([this.currentId]);
    if (how === "range") {
      const [from, until] = [Math.min(this.anchor, this.at), Math.max(this.anchor, this.at)];
      this.chosen = new Set(this.order.slice(from, until + 1).map((i) => this.cells.columns.cell_id[i]));
    }
    this.#reveal();
    this.draw();
    this.#moved();
  }

  toggle() {
    const id = this.currentId;
    if (id === null) return;
    if (!this.chosen.delete(id)) this.chosen.add(id);
    this.draw();
    this.#moved();
  }

  all() {
    this.chosen = new Set(this.order.map((i) => this.cells.columns.cell_id[i]));
    this.draw();
    this.#moved();
  }

  one() { this.move(this.at); }

  go(i) {
    const at = this.place.get(i);
    if (at === undefined) return false;
    this.move(at);
    return true;
  }

  /** Answer a key of movement; false for any other. */
  key(key, event) {
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.step.y) - 1) * this.columns;
    const by = {
      ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns, PageDown: page, PageUp: -page,
      Home: -this.order.length, End: this.order.length,
    }[key];
    if (by === undefined) return false;
    const to = this.at + by;
    const stays = ["ArrowDown", "ArrowUp"].includes(key) && (to < 0 || (to >= this.order.length && Math.floor(this.at / this.columns) === this.rows - 1));
    if (!stays) this.move(to, event.shiftKey ? "range" : event.ctrlKey || event.metaKey ? "only" : "alone");
    return true;
  }

  #reveal() {
    if (!this.step) return;
    const top = Math.floor(this.at / this.columns) * this.step.y;
    const { scrollTop, clientHeight } = this.element;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + this.step.y + GAP > scrollTop + clientHeight) this.element.scrollTop = top + this.step.y + GAP - clientHeight;
  }

  #moved() { this.dispatchEvent(new Event("moved")); }
}

export function pictureOf(desk, i) {
  const id = desk.cells.columns.cell_id[i];
  const version = desk.cells.version.get(id);
  if (id.startsWith("new-")) return "";
  return `/crops/${encodeURIComponent(desk.patientId)}/${encodeURIComponent(id)}.webp${version ? `?v=${version}.${desk.base}` : ""}`;
}

/** What a screen reader says of a cell. */
export function spoken(cells, i) {
  const c = cells.columns;
  const category = cells.category(i);
  if (cells.isRemoved(i)) return t(`review.removed.${c.removed[i]}`);
  if (c.code[i] !== null) return t("review.say.code", { code: c.code[i], name: nameOf(cells, c.code[i]), reader: c.decided_by[i] });
  if (category === null) return t("review.say.unnamed");
  return t("review.say.machine", { category, name: data.words[`category.${category}`] ?? category, p: percent(c.certainty[i] ?? 0) });
}

export const nameOf = (cells, code) => cells.codes.get(code)?.names[data.language] ?? code;
