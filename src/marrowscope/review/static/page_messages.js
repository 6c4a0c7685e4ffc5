// What a page of cells tells: news that goes away, trouble that stays, and whether decisions are saved.
import { make, t } from "./page_data.js";

const TOLD_MS = 6000, TOLD_WITH_LINK_MS = 60_000;
const $ = (selector) => document.querySelector(selector);

/** Say what stays until it is over; `act` is what a button beside does, called `label`. */
export function problem(sentence, label = "", act = null) {
  $("#problem").replaceChildren(sentence, ...(act ? [" ", make("button", { onclick: act }, label)] : []));
  $("#problem").hidden = !sentence;
}

/** Tell news; `link`, where it leads, has href and text. */
export function tell(sentence, link = null) {
  $("#typed").replaceChildren(sentence, ...(link ? [" ", make("a", { href: link.href }, link.text)] : []));
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => { $("#typed").textContent = ""; }, link ? TOLD_WITH_LINK_MS : TOLD_MS);
}

/** Show what an outbox says of the decisions that wait in it. */
export function drawSaved(outbox) {
  const { state, length, why, isKept, isDown } = outbox;
  const offline = !isKept ? "not_kept" : isDown ? "down_why" : "offline_why";
  const saved = $("#saved");
  saved.dataset.state = state;
  saved.textContent = t(`review.saved.${state}`, { n: length });
  saved.title = why ?? "";
  document.body.classList.toggle("offline", ["offline", "left", "stopped"].includes(state));
  if (state === "stopped") {
    problem(t(`review.saved.stopped${isKept ? "_why" : "_not_kept"}`, { n: length, why }), t("review.saved.try_again"), () => outbox.again());
    return;
  }
  problem(state === "left" ? t("review.saved.left_why", { n: length }) : state === "offline" ? t(`review.saved.${offline}`, { n: length }) : "");
}
