// What a page of cells tells: news that goes away, trouble that stays, and whether decisions are saved.
import { t } from "./page_data.js";

const TOLD_MS = 6000;
const $ = (selector) => document.querySelector(selector);

export function problem(sentence) {
  $("#problem").textContent = sentence;
  $("#problem").hidden = !sentence;
}

export function tell(sentence) {
  $("#typed").textContent = sentence;
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => { $("#typed").textContent = ""; }, TOLD_MS);
}

/** Show what an outbox says of the decisions that wait in it. */
export function drawSaved({ state, length, why, isKept, isDown }) {
  const offline = !isKept ? "not_kept" : isDown ? "down_why" : "offline_why";
  const saved = $("#saved");
  saved.dataset.state = state;
  saved.textContent = t(`review.saved.${state}`, { n: length });
  saved.title = why ?? "";
  document.body.classList.toggle("offline", ["offline", "left"].includes(state));
  problem(state === "left" ? t("review.saved.left_why", { n: length }) : state === "offline" ? t(`review.saved.${offline}`, { n: length }) : "");
}
