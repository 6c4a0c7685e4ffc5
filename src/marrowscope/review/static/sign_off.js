// Sign-off: what must be done before, the signature, an amendment, and the documents of every signed version.
import { open } from "./dialogs.js";
import { data, make, t } from "./page_data.js";
import { read, send } from "./station.js";

export async function signOff(desk, { changed }) {
  if (!(await desk.settled())) throw new Error(t("review.sign.waiting", { n: desk.outbox.length }));
  await desk.reload();
  const { base, nOthers } = desk; // what is signed is what the page shows now, not what the station may know by then
  const { items, signed } = await read(`${desk.address}/checklist?lang=${data.language}`);
  const problem = make("p", { class: "problem", role: "alert" }, nOthers ? t("review.sign.others", { n: nOthers }) : "");
  const attempt = async (work) => {
    try {
      await work();
      dialog.close();
      changed();
    } catch (error) {
      problem.textContent = error.message;
    }
  };
  const list = make("ul", { class: "checklist" }, ...items.map((item) => make("li", { class: item.done ? "done" : "open" },
    make("b", {}, `${item.done ? "✓" : "○"} ${t(`review.checklist.${item.key}`)}`), make("small", {}, item.sentence))));
  const named = { html: "HTML", pdf: "PDF", json: "FHIR", hl7: "HL7" };
  const links = (of) => Object.entries(named).flatMap(([kind, name]) => [" ", make("a", { href: `${desk.address}/${of}.${kind}?lang=${data.language}`, target: "_blank", rel: "noopener" }, name)]);
  const documents = desk.state.signatures.map((signature) => {
    const time = new Date(signature.time_utc).toLocaleString(data.language);
    return make("p", { class: "version" }, t("review.sign.version", { n: signature.version, reader: signature.reader, time }), ...links(`signed/${signature.version}`));
  });
  if (!signed) documents.push(make("p", { class: "version" }, t("review.sign.preliminary"), ...links("preliminary")));
  const reason = make("input", { maxlength: 400, "aria-label": t("review.sign.reason"), placeholder: t("review.sign.reason") });
  const act = !data.may_sign ? make("p", { class: "soft" }, t("review.sign.may_not"))
    : signed ? make("footer", {}, reason, make("button", { class: "primary", onclick: () => attempt(() => send(`${desk.address}/amend`, { reason: reason.value })) }, t("review.sign.amend")))
      : make("footer", {}, make("button", { class: "primary", disabled: nOthers > 0 || items.some((item) => !item.done), onclick: () => attempt(() => send(`${desk.address}/sign`, { base })) }, t("review.sign.sign")));
  const dialog = open(t("review.sign.title"), "sign-off", list, ...documents, problem, act);
}
