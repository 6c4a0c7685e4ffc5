// The strip of figures: the machine's count, what is confirmed by eye, progress, and the estimates of the station.
// Only what the station gives as an estimate is shown as one; counts of reviewed cells are counts.
import { data, make, percent, t } from "./page_data.js";
import { RefusedError, read } from "./station.js";

const WANTED = 500, WAIT_MS = 1200;

export class Strip {
  constructor(element, desk, { fullReview }) {
    Object.assign(this, { element, desk, cells: desk.cells, fullReview });
    this.estimate = {};
    this.hasEndpoint = true;
    this.parts = Object.fromEntries(["machine", "reviewed", "confirmed", "differential", "audit", "full"].map((name) => {
      const value = make("b"), remark = make("small");
      const box = make("div", { class: `figure ${name}` }, make("span", { class: "title" }, t(`review.figure.${name}`)), value, remark);
      element.append(box);
      return [name, { box, value, remark }];
    }));
    this.bar = make("progress", { max: 1, value: 0, "aria-label": t("review.figure.reviewed") });
    this.parts.reviewed.box.append(this.bar);
    this.button = make("button", { class: "quiet", onclick: () => this.fullReview() });
    this.parts.full.box.append(this.button);
  }

  /** Ask for the estimates again, a moment after the last change. */
  later() {
    if (!this.hasEndpoint) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      try {
        this.estimate = await read(`${this.desk.address}/estimate`);
      } catch (error) {
        if (error instanceof RefusedError && error.status === 404) this.hasEndpoint = false;
      }
      this.draw();
    }, WAIT_MS);
  }

  draw() {
    const c = this.cells.columns;
    let [n, reviewed, named, cblc, countable, ndc] = [0, 0, 0, 0, 0, 0];
    for (let i = 0; i < this.cells.length; i++) {
      if (this.cells.isRemoved(i)) continue;
      n += 1;
      if (this.cells.isReviewed(i)) reviewed += 1;
      const facts = c.code[i] === null ? null : this.cells.codes.get(c.code[i]);
      if (!facts) continue;
      named += 1;
      if (facts.ndc) ndc += 1;
      if (facts.countable) { countable += 1; if (facts.cblc) cblc += 1; }
    }
    const machine = this.estimate.machine ?? data.patient.machine;
    this.#set("machine", machine && count(machine.x, machine.n), machine?.n ? percent(machine.x / machine.n, 1) : "");
    this.#set("reviewed", t("review.n_of_n", { x: reviewed, n }), "");
    this.bar.value = n ? reviewed / n : 0;
    this.#set("confirmed", named ? count(cblc, countable) : null, t("review.figure.confirmed_why"));
    const progress = this.estimate.progress;
    const [x, wanted] = [progress?.n ?? progress?.n_nucleated ?? ndc, progress?.wanted ?? progress?.of ?? WANTED];
    this.#set("differential", t("review.n_of_n", { x, n: wanted }), t("review.figure.differential_why"));
    this.#set("audit", interval(this.estimate.audit), this.estimate.audit?.n_sampled ? t("review.figure.audit_why", { n: this.estimate.audit.n_sampled }) : "");
    const by = this.desk.state.full_review_by;
    const full = by ? interval(this.estimate.full) ?? count(cblc, countable) : null;
    const isComplete = n > 0 && named === n;
    this.parts.full.box.hidden = !by && !isComplete;
    this.#set("full", full ?? (isComplete ? count(cblc, countable) : null), by ? t("review.confirmed_by", { reader: by }) : "");
    this.button.textContent = t(by ? "review.full_review_back" : "review.full_review");
    this.button.hidden = this.desk.isLocked || !isComplete && !by;
  }

  #set(name, value, remark) {
    const part = this.parts[name];
    part.box.hidden = value === null || value === undefined;
    part.value.textContent = value ?? "";
    part.remark.textContent = remark ?? "";
  }
}

const count = (x, n) => t("review.x_cblc_of_n", { x, n });

/** Print an estimate of the station: x of n where it has them, and its interval. */
function interval(figure) {
  if (!figure) return null;
  const middle = figure.ratio ?? figure.estimate ?? figure.median ?? (figure.n ? figure.x / figure.n : null);
  if (middle === null || middle === undefined) return null;
  const limits = figure.lower === undefined || figure.lower === null ? "" : ` (${percent(figure.lower, 1)}–${percent(figure.upper, 1)})`;
  return `${figure.n ? `${t("review.n_of_n", { x: figure.x, n: figure.n })} · ` : ""}${percent(middle, 1)}${limits}`;
}
