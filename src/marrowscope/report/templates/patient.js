"use strict";
// Zooms the fields, and jumps from a gallery cell to its contour and back. Without scripts, plain links do the jumps.
(() => {
  const CLOSE_UP = 5; // how much larger a cell is shown when it is opened from a gallery
  const LARGEST = 16;
  const viewers = new Map();

  class Viewer {
    constructor(figure) {
      this.figure = figure;
      this.svg = figure.querySelector("svg");
      const { width, height } = this.svg.viewBox.baseVal;
      this.size = { width, height };
      this.unit = parseFloat(this.svg.style.getPropertyValue("--u"));
      this.view = { x: 0, y: 0, width };
      this.marks = [...this.svg.querySelectorAll(".mark")];
      this.readout = figure.querySelector(".readout");
      this.back = figure.querySelector("[data-do=back]");
      this.svg.tabIndex = 0;
      this.svg.addEventListener("keydown", (event) => this.key(event));
      this.svg.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
      this.svg.addEventListener("pointerdown", (event) => this.drag(event));
      this.svg.addEventListener("focusin", (event) => this.tell(event.target));
      this.svg.addEventListener("mouseover", (event) => this.tell(event.target));
      const tools = figure.querySelector(".tools");
      tools.addEventListener("click", (event) => {
        const action = event.target.closest("button")?.dataset.do;
        if (action === "in") this.zoom(1.5);
        if (action === "out") this.zoom(1 / 1.5);
        if (action === "whole") this.whole();
        if (action === "back") this.leave();
      });
    }

    get factor() { return this.size.width / this.view.width; }

    show(x, y, width) {
      const least = this.size.width / LARGEST;
      const w = Math.min(this.size.width, Math.max(least, width));
      const h = w * this.size.height / this.size.width;
      const inside = (value, room) => Math.min(Math.max(value, 0), room);
      this.view = { x: inside(x, this.size.width - w), y: inside(y, this.size.height - h), width: w };
      this.svg.setAttribute("viewBox", `${this.view.x} ${this.view.y} ${w} ${h}`);
      // Lines and codes keep their size on the screen down to a third, so that a cell is not hidden by its outline.
      this.svg.style.setProperty("--u", `${this.unit * Math.max(w / this.size.width, 0.08)}px`);
      this.svg.classList.toggle("zoomed", this.factor > 1.01);
    }

    zoom(by, point) {
      const { x, y, width } = this.view;
      const at = point ?? { x: x + width / 2, y: y + width * this.size.height / this.size.width / 2 };
      const w = Math.min(this.size.width, Math.max(this.size.width / LARGEST, width / by));
      this.show(at.x - (at.x - x) * w / width, at.y - (at.y - y) * w / width, w);
    }

    whole() { this.show(0, 0, this.size.width); }

    move(dx, dy) { this.show(this.view.x + dx * this.view.width, this.view.y + dy * this.view.width, this.view.width); }

    point(event) {
      const box = this.svg.getBoundingClientRect();
      const scale = this.view.width / box.width;
      return { x: this.view.x + (event.clientX - box.left) * scale, y: this.view.y + (event.clientY - box.top) * scale };
    }

    open(mark) {
      const box = mark.getBBox();
      const width = this.size.width / CLOSE_UP;
      const height = width * this.size.height / this.size.width;
      this.show(box.x + box.width / 2 - width / 2, box.y + box.height / 2 - height / 2, width);
      this.select(mark);
      this.figure.scrollIntoView({ block: "center", behavior: "instant" });
    }

    select(mark) {
      mark.focus({ preventScroll: true });
      this.back.hidden = !mark.hasAttribute("href");
      this.last = mark;
    }

    step(by) {
      if (!this.marks.length) return;
      const now = this.marks.indexOf(document.activeElement);
      const next = now < 0 ? (by > 0 ? 0 : this.marks.length - 1) : (now + by + this.marks.length) % this.marks.length;
      const mark = this.marks[next];
      if (this.factor > 1.01) {
        const box = mark.getBBox();
        const height = this.view.width * this.size.height / this.size.width;
        this.show(box.x + box.width / 2 - this.view.width / 2, box.y + box.height / 2 - height / 2, this.view.width);
      }
      this.select(mark);
    }

    leave() {
      const mark = this.last;
      this.whole();
      this.back.hidden = true;
      if (mark?.hasAttribute("href")) location.hash = mark.getAttribute("href");
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const zoomed = this.factor > 1.01;
      const actions = {
        "+": () => this.zoom(1.5), "=": () => this.zoom(1.5), "-": () => this.zoom(1 / 1.5), 0: () => this.whole(),
        n: () => this.step(1), p: () => this.step(-1),
      };
      if (zoomed) {
        Object.assign(actions, {
          ArrowLeft: () => this.move(-0.15, 0), ArrowRight: () => this.move(0.15, 0),
          ArrowUp: () => this.move(0, -0.15), ArrowDown: () => this.move(0, 0.15),
        });
      }
      if (this.last?.hasAttribute("href") || zoomed) actions.Escape = () => this.leave();
      const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!action) return;
      event.preventDefault();
      action();
    }

    wheel(event) {
      if (!event.ctrlKey && !this.svg.contains(document.activeElement)) return; // the page scrolls
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), this.point(event));
    }

    drag(event) {
      if (event.button !== 0 || this.factor <= 1.01) return;
      const start = { x: event.clientX, y: event.clientY, view: { ...this.view } };
      const scale = this.view.width / this.svg.getBoundingClientRect().width;
      let moved = false;
      const move = (now) => {
        const [dx, dy] = [now.clientX - start.x, now.clientY - start.y];
        moved ||= Math.hypot(dx, dy) > 4;
        if (!moved) return;
        this.svg.classList.add("moving");
        this.show(start.view.x - dx * scale, start.view.y - dy * scale, start.view.width);
      };
      const stop = () => {
        this.svg.classList.remove("moving");
        window.removeEventListener("pointermove", move);
        window.removeEventListener("pointerup", stop);
        window.removeEventListener("pointercancel", stop);
        if (moved) this.svg.addEventListener("click", (click) => click.preventDefault(), { once: true, capture: true });
      };
      window.addEventListener("pointermove", move);
      window.addEventListener("pointerup", stop);
      window.addEventListener("pointercancel", stop);
    }

    tell(target) {
      const shape = target.closest?.(".mark, .rejected path");
      if (shape) this.readout.textContent = shape.querySelector("title").textContent;
    }
  }

  for (const figure of document.querySelectorAll(".field")) viewers.set(figure, new Viewer(figure));
  for (const part of document.querySelectorAll(".needs-script")) part.hidden = false;

  const follow = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    const figure = target.closest(".field");
    if (target.matches(".mark") && figure) viewers.get(figure).open(target);
    else if (target.closest(".cells, .between")) {
      target.closest("details")?.setAttribute("open", "");
      target.focus();
    }
  };
  window.addEventListener("hashchange", follow);
  // A second click on a cell that is already open does not change the address; open it anyway.
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#']");
    if (link && !event.defaultPrevented && link.getAttribute("href") === location.hash) follow();
  });
  follow();
})();
