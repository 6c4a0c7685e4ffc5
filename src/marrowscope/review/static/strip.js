// The strip of figures: the machine's count, what is confirmed by eye, progress, and the estimates of the station.
// Only what the station gives as an estimate is shown as one; counts of reviewed cells are counts.
import { choose } from "./dialogs.js";
import { data, make, percent, t } from "./page_data.js";
import { RefusedError, read } from "./station.js";

const WANTED = 500, FEWEST_DRAWN = 50, WAIT_MS = 1200;

export class Strip {
  constructor(element, desk, { fullReview, audit, behind }) {
    Object.assign(this, { element, desk, cells: desk.cells, fullReview });
    this.estimate = {};
    this.hasEndpoint = true;
    this.parts = Object.fromEntries(["machine", "reviewed", "confirmed", "differential", "audit", "full", "behind"].map((name) => {
      const value = make("b"), remark = make("small");
      const box = make("div", { class: `figure ${name}` }, make("span", { class: "title" }, t(`review.figure.${name}`)), value, remark);
      element.append(box);
      return [name, { box, value, remark }];
    }));
    this.bar = make("progress", { max: 1, value: 0, "aria-label": t("review.figure.reviewed") });
    this.parts.reviewed.box.append(this.bar);
    this.button = make("button", { class: "quiet", hidden: true, onclick: () => this.fullReview() });
    this.parts.full.box.append(this.button);
    this.smears = make("button", { class: "quiet", "aria-haspopup": "dialog", onclick: () => this.#stateSmears() }, t("review.smears.state"));
    this.parts.differential.box.append(this.smears);
    this.auditButton = make("button", { class: "quiet", hidden: true, onclick: () => audit() });
    this.parts.audit.box.append(this.auditButton);
    this.parts.behind.box.append(make("button", { class: "quiet", "aria-haspopup": "dialog", onclick: () => behind() }, t("review.behind.show")));
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
    let [n, reviewed, named, cblc, countable, ndc, unnamed] = [0, 0, 0, 0, 0, 0, 0];
    for (let i = 0; i < this.cells.length; i++) {
      if (this.cells.isRemoved(i)) continue;
      n += 1;
      if (c.code[i] === null && c.origin[i] !== "added") unnamed += 1;
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
    const [x, wanted] = [progress?.n ?? ndc, progress?.wanted ?? WANTED];
    this.#set("differential", t("review.n_of_n", { x, n: wanted }), [t("review.figure.differential_why"), progress && smears(progress)].filter(Boolean).join("; "));
    this.smears.hidden = this.desk.isLocked || !progress;
    this.parts.differential.box.title = (progress?.categories ?? []).map(({ category, x: cells, share }) =>
      t("review.figure.category", { category: data.words[`category.${category}`] ?? category, x: cells, limits: limits(share) })).join("\n");
    this.#audit(this.estimate.audit, unnamed);
    const by = this.desk.state.full_review_by, withdrawn = this.desk.state.full_review_withdrawn, full = this.estimate.full?.ratio ?? null;
    const isComplete = n > 0 && named === n;
    this.#set("full", by ? (full ? `${count(full.x, full.n)} · ${limits(full.fields)}` : count(cblc, countable)) : withdrawn ? t("review.full_review_withdrawn") : isComplete ? count(cblc, countable) : null,
      by ? [t("review.confirmed_by", { reader: by }), found(full)].filter(Boolean).join("; ") : withdrawn ? t("review.full_review_withdrawn_why", { reader: withdrawn[0], other: withdrawn[1] }) : "");
    this.parts.full.box.title = full ? t("review.figure.smear", { limits: limits(full.smear) }) : "";
    this.button.textContent = t(by ? "review.full_review_back" : "review.full_review");
    this.button.hidden = this.desk.isLocked || !isComplete && !by;
    const { not_carried: decisions, left_behind: left, misplaced } = this.desk.state;
    const nLeft = decisions.length + left.length;
    const said = [nLeft && t("review.behind.n", { n: nLeft }), misplaced.length && t("review.behind.n_misplaced", { n: misplaced.length })];
    this.#set("behind", said.some(Boolean) ? said.filter(Boolean).join("; ") : null, "");
  }

  /** The audit: hidden where the station knows none; an estimate only once a look is complete. `unnamed` cells may be drawn. */
  #audit(audit, unnamed) {
    const isFew = audit ? audit.sizes[0] < FEWEST_DRAWN : unnamed < FEWEST_DRAWN;
    const ratio = audit?.ratio;
    const size = audit?.sizes.find((wanted) => wanted > audit.n_answered) ?? audit?.sizes.at(-1);
    const value = this.estimate.audit === undefined ? null : ratio ? `${ratio.x !== null && ratio.x !== undefined ? count(ratio.x, ratio.n) : ratio.fields.estimate === null ? "–" : percent(ratio.fields.estimate, 1)} · ${limits(ratio.fields)}` : isFew ? (unnamed ? t("review.audit.few", { fewest: FEWEST_DRAWN }) : t("review.audit.none_left")) : audit ? t("review.n_of_n", { x: audit.n_answered, n: size }) : t("review.audit.none");
    const remark = ratio ? [t("review.figure.audit_why", { n: ratio.n_named, of: ratio.n_cells }), found(ratio), following(audit.next)].filter(Boolean).join("; ") : "";
    this.#set("audit", value, remark);
    this.parts.audit.box.title = [audit?.advice && t(`review.advice.${audit.advice}`), ratio && t("review.figure.smear", { limits: limits(ratio.smear) })].filter(Boolean).join("\n");
    this.auditButton.hidden = this.desk.isLocked || (!audit && isFew) || (audit && audit.n_answered >= audit.sizes.at(-1));
    this.auditButton.textContent = t(audit ? "review.audit.go_on" : "review.audit.draw");
  }

  /** A reader says of how many smears the fields are: a photograph does not state it. */
  async #stateSmears() {
    const n = await choose(t("review.smears.title"), [1, 2, 3, 4].map((number) => [number, String(number)]).concat([["unknown", t("review.smears.unknown")]]));
    if (n === null || !this.desk.decide([{ kind: "smears_stated", cell_id: null, new: { n: n === "unknown" ? null : n } }], "smears_stated")) return;
    this.later();
  }

  #set(name, value, remark) {
    const part = this.parts[name];
    part.box.hidden = value === null || value === undefined;
    part.value.textContent = value ?? "";
    part.remark.textContent = remark ?? "";
  }
}

const count = (x, n) => t("review.x_cblc_of_n", { x, n });

const smears = ({ n_smears: n, wanted_smears: wanted, disputed_smears: said }) => (said.length ? t("review.smears.disputed", { said: said.join(", ") }) : n === null ? t("review.smears.none") : t("review.smears.n", { n, wanted }));

const limits = (interval) => `${percent(interval.lower, 1)}–${percent(interval.upper, 1)}`;

const following = (next) => (next ? t("review.figure.next", { n: next.n_more, now: percent(next.width_now, 1), then: percent(next.width_then, 1) }) : "");

const found = (ratio) => (ratio?.found_cells_only ? t("review.figure.found_only") : "");
