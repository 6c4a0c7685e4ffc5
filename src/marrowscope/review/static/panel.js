// The chosen cell, large: its facts, the codes with their keys, and reference cells of its category.
import { centerOf, drawPart, nominalSide } from "./cell_picture.js";
import { nameOf, pictureOf } from "./gallery.js";
import { data, make, mark, percent, t } from "./page_data.js";
import { NOT_A_CELL, Palette } from "./palette.js";
import { read } from "./station.js";

const REST_MS = 160, N_REFERENCES = 6;
const PLACES = new Intl.NumberFormat(data.language, { maximumFractionDigits: 1 });

export class Panel {
  constructor(element, desk, fields, hotkeys, { decide, goTo }) {
    Object.assign(this, { element, desk, fields, hotkeys, decide, goTo, cells: desk.cells });
    this.withOutline = false;
    this.canvas = make("canvas", { class: "large", width: 640, height: 640, role: "img" });
    this.rule = make("span", { class: "rule-um" });
    this.name = make("h2", { class: "cell-name" });
    this.said = make("p", { class: "said" });
    this.facts = make("dl", { class: "facts" });
    this.palette = make("div", { class: "palette", role: "group", "aria-label": t("review.codes") });
    this.references = make("div", { class: "references" });
    this.referencesHead = make("h3");
    this.next = make("input", { type: "checkbox", id: "go-on", checked: true });
    element.append(
      make("div", { class: "picture" }, this.canvas, this.rule),
      make("div", { class: "about" }, this.name, this.said, this.facts),
      make("div", { class: "palette-head" }, make("h3", {}, t("review.codes")), make("label", { class: "check", for: "go-on" }, this.next, ` ${t("review.go_on")}`)),
      this.palette,
      make("section", { class: "reference" }, this.referencesHead, this.references),
    );
    this.references.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) this.goTo(Number(button.dataset.at));
    });
    this.codes = new Palette(this.palette, this.cells.codes, hotkeys, (code) => this.decide(code));
  }

  drawPalette() { this.codes.draw(); }

  typing() { this.codes.typing(); }

  show(i, nChosen) {
    this.i = i;
    const c = this.cells.columns;
    this.element.classList.toggle("empty", i === null);
    if (i === null) {
      this.name.textContent = t("review.no_cell");
      this.said.textContent = "";
      this.facts.replaceChildren();
      this.references.replaceChildren();
      this.canvas.getContext("2d").clearRect(0, 0, 640, 640);
      return;
    }
    const code = c.code[i], category = this.cells.category(i), machine = c.model_category[i];
    this.element.style.setProperty("--code", data.colors[category] ?? "#6b7178");
    this.name.replaceChildren(...this.#title(i, code, category));
    this.said.textContent = nChosen > 1 ? t("review.n_chosen", { n: nChosen })
      : this.cells.isReviewed(i) ? t("review.decided_by", { reader: c.decided_by[i] }) : t("review.not_reviewed");
    const row = (label, value, kind = "") => (value === null ? [] : [make("dt", {}, label), make("dd", { class: kind }, value)]);
    this.facts.replaceChildren(
      ...row(t("review.fact.machine"), machine === null ? t(c.origin[i] !== "model" ? "review.fact.drawn" : this.desk.state.blinded ? "review.fact.blinded" : "review.fact.hidden") : `${machine}${mark(machine)} ${percent(c.certainty[i])}`),
      ...row("CBLC", c.p_cblc[i] === null ? null : percent(c.p_cblc[i])),
      ...row(t("review.fact.area"), c.area_um2[i] === null ? null : `${PLACES.format(c.area_um2[i])} µm²`),
      ...row(t("review.fact.field"), this.fields.byId.get(c.field_id[i])?.name ?? c.field_id[i]),
    );
    this.codes.mark(this.cells.isRemoved(i) ? NOT_A_CELL : code);
    this.#reference(i, category);
    this.#picture(i);
  }

  #title(i, code, category) {
    const c = this.cells.columns;
    const chip = (text, kind) => make("b", { class: `chip ${kind}` }, text);
    if (this.cells.isRemoved(i)) return [chip("×", "gone"), ` ${t(`review.removed.${c.removed[i]}`)}`];
    if (code !== null) return [chip(code, "given"), ` ${nameOf(this.cells, code)}`];
    if (category === null) return [chip("?", "machine"), ` ${t("review.say.unnamed")}`];
    return [chip(`${category}?`, "machine"), ` ${data.words[`category.${category}`] ?? category}${mark(category)}`];
  }

  async #picture(i) {
    const c = this.cells.columns;
    const token = (this.token = Symbol("picture"));
    const field = this.fields.byId.get(c.field_id[i]);
    this.canvas.setAttribute("aria-label", t("review.picture_of", { cell: this.name.textContent.trim() }));
    const side = nominalSide(field);
    this.rule.hidden = !field?.um_per_px;
    this.rule.textContent = "5 µm";
    const pen = this.canvas.getContext("2d");
    const small = new Image();
    small.onload = () => { if (this.token === token && !this.isSharp) pen.drawImage(small, 0, 0, 640, 640); };
    this.isSharp = false;
    small.src = pictureOf(this.desk, i) || "data:,";
    clearTimeout(this.rest);
    this.rest = setTimeout(async () => { // the field's own pixels, once the reader stays with the cell
      this.#others(i, token);
      try {
        const [picture] = await Promise.all([this.fields.picture(c.field_id[i]), this.fields.contours(c.field_id[i])]);
        if (this.token !== token) return;
        this.isSharp = true;
        const [x, y] = centerOf(this.cells, i);
        drawPart(pen, picture, { x, y, scale: 640 / side }, this.withOutline ? this.cells.contours.get(c.cell_id[i]) : null);
      } catch {
        // the small picture stays, or none where the image is not there
      }
    }, REST_MS);
  }

  outline() {
    this.withOutline = !this.withOutline;
    if (this.i !== null) this.#picture(this.i);
  }

  /** Confirmed cells of the category first; where they do not suffice, those the machine is most certain of. */
  #reference(i, category) {
    const c = this.cells.columns;
    const confirmed = [], certain = [];
    for (let k = 0; k < this.cells.length && category !== null; k++) {
      if (k === i || this.cells.isRemoved(k) || this.cells.category(k) !== category) continue;
      if (c.code[k] !== null) {
        if (confirmed.length < N_REFERENCES) confirmed.push(k);
        continue;
      }
      const p = c.certainty[k] ?? 0;
      let at = certain.length; // the few most certain ones, in order; sorting thousands would slow every key
      while (at > 0 && (c.certainty[certain[at - 1]] ?? 0) < p) at -= 1;
      if (at < N_REFERENCES) certain.splice(at, 0, k);
      certain.length = Math.min(certain.length, N_REFERENCES);
    }
    const shown = [...confirmed, ...certain].slice(0, N_REFERENCES);
    const n = Math.min(N_REFERENCES, confirmed.length);
    const name = data.words[`category.${category}`] ?? category;
    this.referencesHead.textContent = shown.length
      ? t(n === 0 ? "review.reference.machine" : n === shown.length ? "review.reference.confirmed" : "review.reference.both", { category: name, n })
      : t(category === null ? "review.reference.unnamed" : "review.reference.none");
    const key = shown.join();
    if (key === this.referencesKey) return;
    this.referencesKey = key;
    this.references.replaceChildren(...shown.map((k) => {
      const label = t("review.reference.cell", { category: name, field: this.fields.byId.get(c.field_id[k])?.name ?? "" });
      return make("button", { "data-at": k, class: c.code[k] === null ? "machine" : "given", "aria-label": label }, make("img", { src: pictureOf(this.desk, k), alt: "" }));
    }));
  }

  /** What else the machine thought of, and whether its heads contradict each other. */
  async #others(i, token) {
    const c = this.cells.columns;
    if (c.model_category[i] === null) return;
    const said = await read(`${this.desk.address}/cells/${encodeURIComponent(c.cell_id[i])}/measures`).catch(() => null);
    if (!said || this.token !== token) return;
    const others = said.categories.filter((other) => other.category !== c.model_category[i] && other.p >= 0.01).slice(0, 2);
    if (others.length) this.facts.append(make("dt", {}, t("review.fact.else")), make("dd", {}, others.map((other) => `${other.category}${mark(other.category)} ${percent(other.p)}`).join(", ")));
    if (said.contradiction) this.facts.append(make("dd", { class: "warn whole" }, `! ${t("review.fact.contradiction")}`));
  }
}
