// Give patients to blinded readers, or end an assignment: the dialog of the worklist, for signers.
import { open } from "./dialogs.js";
import { make, t } from "./page_data.js";
import { read, send } from "./station.js";

const MOST_NAMED = 6;

/** Ask for readers of these lines of the worklist; `changed` is called once something was recorded. */
export async function assign(patients, changed) {
  const accounts = await read("/api/readers");
  const before = new Set(patients.flatMap((patient) => patient.assigned));
  const names = patients.map((patient) => patient.patient_id);
  const said = make("p", { class: "problem", role: "alert" });
  const boxes = accounts.map((account, at) => {
    const box = make("input", { type: "checkbox", value: account.name, checked: before.has(account.name), autofocus: at === 0, onchange: () => check() });
    return { box, row: make("label", { class: "check" }, box, make("b", {}, account.name), account.full_name === account.name ? null : make("span", { class: "soft" }, account.full_name)) };
  });
  const chosen = () => boxes.filter(({ box }) => box.checked).map(({ box }) => box.value);
  const record = async (readers) => {
    give.disabled = end.disabled = true;
    try {
      await send("/api/assign", { patients: names, readers });
      dialog.close();
      changed();
    } catch (error) {
      said.textContent = error.message;
      end.disabled = false;
      check();
    }
  };
  const give = make("button", { class: "primary", onclick: () => record(chosen()) }, t("review.assign.give"));
  const end = make("button", { class: "quiet", hidden: before.size === 0, onclick: () => record([]) }, t("review.assign.end"));
  const how = make("p", { class: "soft" });
  const check = () => {
    give.disabled = chosen().length === 0;
    how.textContent = t(chosen().length === 1 ? "review.assign.alone" : "review.assign.together");
  };
  const listed = names.slice(0, MOST_NAMED).join(", ") + (names.length > MOST_NAMED ? t("review.assign.more", { n: names.length - MOST_NAMED }) : "");
  const dialog = open(t("review.assign.title"), "assign", make("p", { class: "for" }, listed),
    accounts.length ? make("fieldset", {}, make("legend", {}, t("review.list.readers")), ...boxes.map(({ row }) => row)) : make("p", {}, t("review.assign.nobody")),
    how, said, make("footer", {}, end, give));
  check();
}
