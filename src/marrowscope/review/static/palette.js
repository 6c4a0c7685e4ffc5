// The codes with their keys, to be clicked, and the one that a cell has.
import { data, make, t } from "./page_data.js";

export const NOT_A_CELL = ""; // what stands beside the codes for what is none

export class Palette {
  constructor(element, codes, hotkeys, decide) {
    Object.assign(this, { element, codes, hotkeys });
    element.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) decide(button.dataset.code);
    });
    this.draw();
  }

  draw() {
    const groups = new Map();
    for (const code of this.codes.values()) groups.set(code.lineage, [...(groups.get(code.lineage) ?? []), code]);
    this.element.replaceChildren(...[...groups.values()].flat().map((code) => {
      const button = make("button", { class: "code", "data-code": code.code, title: `${code.code} · ${code.names[data.language]}` },
        make("b", {}, code.code), make("kbd", {}, this.hotkeys.of(code.code)), make("span", {}, code.names[data.language]));
      button.style.setProperty("--code", data.colors[code.category] ?? "#6b7178");
      return button;
    }), make("button", { class: "code", "data-code": NOT_A_CELL, title: t("review.removed.not_a_cell") },
      make("b", {}, "×"), make("kbd", {}, "x"), make("span", {}, t("review.removed.not_a_cell"))));
  }

  /** Dim the codes that the keys typed so far cannot become. */
  typing() {
    const open = new Set(this.hotkeys.open());
    this.element.classList.toggle("typing", open.size > 0);
    for (const button of this.element.children) button.classList.toggle("open", open.has(button.dataset.code));
  }

  /** Mark the code that a cell has; null where it has none. */
  mark(code) {
    for (const button of this.element.children) {
      const is = code !== null && button.dataset.code === code;
      button.classList.toggle("is", is);
      button.setAttribute("aria-pressed", String(is));
    }
  }
}
