// What is shown and in what order: categories with their counts, ranges, fields.
import { data, make, mark, selectOf, t } from "./page_data.js";
import { BLINDED_ORDERS, EVERYTHING, KINDS, ORDERS } from "./order.js";

export class Side extends EventTarget {
  constructor(element, desk, fields) {
    super();
    Object.assign(this, { element, desk, fields, cells: desk.cells });
    const isBlinded = desk.state.blinded;
    const orders = isBlinded ? BLINDED_ORDERS : ORDERS;
    this.first = orders[0];
    this.view = { ...structuredClone(EVERYTHING), order: this.first };
    this.order = make("select", { id: "order" }, ...orders.map((name) => make("option", { value: name }, t(`review.order.${name}`))));
    this.field = selectOf({ id: "field" }, fields.list.map((field) => ({ value: field.field_id, text: field.name })), { value: "", text: t("review.every_field") });
    this.kinds = make("div", { class: "kinds", role: "group", "aria-label": t("review.show") }, ...KINDS.map((name) => make("button", { "data-kind": name, "aria-pressed": String(name === "all") }, t(`review.kind.${name}`), make("span", { class: "n" }))));
    this.categories = make("div", { class: "categories", role: "group", "aria-label": t("review.categories") });
    this.rows = new Map();
    for (const name of this.cells.categories) {
      const row = make("button", { "data-category": name, "aria-pressed": "false", title: t("review.category_hint") },
        make("i"), make("b", {}, name), make("span", { class: "name" }, data.words[`category.${name}`] ?? name, mark(name)), make("span", { class: "n" }));
      row.style.setProperty("--code", data.colors[name] ?? "#6b7178");
      this.categories.append(row);
      this.rows.set(name, row);
    }
    const range = (name, unit, scale) => {
      const input = (end) => make("input", { type: "number", min: 0, max: scale === 100 ? 100 : null, step: "any", "aria-label": t(`review.range.${name}.${end ? "to" : "from"}`), oninput: (event) => {
        const value = event.target.value.trim();
        this.view[name][end] = value === "" ? null : Number(value) / scale;
        this.#changed();
      } });
      return make("div", { class: "range" }, make("span", {}, t(`review.range.${name}`)), input(0), make("span", { "aria-hidden": "true" }, "–"), input(1), make("span", { class: "unit" }, unit));
    };
    this.like = make("p", { class: "soft like", hidden: true });
    this.reset = make("button", { class: "quiet", onclick: () => this.clear() }, t("review.show_all"));
    element.append(
      make("label", { for: "order" }, t("review.order")), this.order, this.like,
      make("h2", {}, t("review.show")), this.kinds,
      make("h2", {}, t("review.categories")), this.categories, ...(data.patient.learned ? [make("p", { class: "soft learned" }, data.patient.learned)] : []),
      make("h2", {}, t("review.ranges")), ...(isBlinded ? [] : [range("certainty", "%", 100), range("cblc", "%", 100)]), range("area", "µm²", 1),
      make("label", { for: "field" }, t("review.field")), this.field, this.reset,
    );
    this.order.addEventListener("change", () => this.choose(this.order.value));
    this.field.addEventListener("change", () => { this.view.field = this.field.value; this.#changed(); });
    this.kinds.addEventListener("click", (event) => { const name = event.target.closest("button")?.dataset.kind; if (name) this.show(name); });
    this.categories.addEventListener("click", (event) => {
      const name = event.target.closest("button")?.dataset.category;
      if (!name) return;
      const chosen = this.view.categories;
      const adds = event.ctrlKey || event.metaKey || event.shiftKey;
      if (adds) this.view.categories = chosen.includes(name) ? chosen.filter((other) => other !== name) : [...chosen, name];
      else this.view.categories = chosen.length === 1 && chosen[0] === name ? [] : [name];
      this.#changed();
    });
  }

  choose(order) {
    this.order.value = this.view.order = order;
    this.#changed();
  }

  show(kind) {
    this.view.show = kind;
    this.#changed();
  }

  clear() {
    this.view = structuredClone({ ...EVERYTHING, order: this.view.order });
    this.field.set("");
    for (const input of this.element.querySelectorAll("input")) input.value = "";
    this.#changed();
  }

  #changed() {
    for (const button of this.kinds.children) button.setAttribute("aria-pressed", String(button.dataset.kind === this.view.show));
    for (const [name, row] of this.rows) row.setAttribute("aria-pressed", String(this.view.categories.includes(name)));
    this.dispatchEvent(new Event("view"));
  }

  /** Count again: of each category how many are reviewed, of how many. */
  count() {
    const total = new Map(), reviewed = new Map();
    const kinds = Object.fromEntries(KINDS.map((name) => [name, 0]));
    for (let i = 0; i < this.cells.length; i++) {
      const isRemoved = this.cells.isRemoved(i), isReviewed = this.cells.isReviewed(i), isDrawn = this.cells.columns.origin[i] !== "model";
      if (isRemoved) kinds.removed += 1;
      if (this.cells.isChanged(i) && !(isRemoved && isDrawn)) kinds.changed += 1;
      if (isRemoved) continue;
      kinds.all += 1;
      if (isReviewed) kinds.reviewed += 1;
      else kinds.open += 1;
      if (isDrawn) kinds.drawn += 1;
      const name = this.cells.category(i);
      total.set(name, (total.get(name) ?? 0) + 1);
      if (isReviewed) reviewed.set(name, (reviewed.get(name) ?? 0) + 1);
    }
    for (const button of this.kinds.children) button.lastChild.textContent = kinds[button.dataset.kind];
    for (const [name, row] of this.rows) {
      const n = total.get(name) ?? 0;
      row.hidden = n === 0 && !this.view.categories.includes(name);
      row.lastChild.textContent = `${reviewed.get(name) ?? 0} / ${n}`;
    }
  }
}
