// The accounts, for admins: list, add, roles, close and open again, a new password.
import { open } from "./dialogs.js";
import "./entrance.js";
import { data, make, t } from "./page_data.js";
import { read, send } from "./station.js";

const $ = (selector) => document.querySelector(selector);
let accounts = [];

function tell(sentence, isProblem = false) {
  $("#said").textContent = isProblem ? "" : sentence;
  $("#problem").textContent = isProblem ? sentence : "";
  $("#problem").hidden = !isProblem;
}

function roleBoxes(chosen) {
  const boxes = data.roles.map((role) => make("input", { type: "checkbox", value: role, checked: chosen.includes(role) }));
  const rows = boxes.map((box) => make("label", { class: "check role" }, box, make("b", {}, t(`review.role.${box.value}`)), make("span", { class: "soft" }, t(`review.role.${box.value}.may`))));
  return { element: make("fieldset", {}, make("legend", {}, t("review.accounts.roles")), ...rows), chosen: () => boxes.filter((box) => box.checked).map((box) => box.value) };
}

const field = (key, attributes) => {
  const input = make("input", { autocomplete: "off", ...attributes });
  return { input, row: make("label", {}, t(key), input) };
};

/** A dialog with a form: `submit` sends it; what the station refuses is shown in it. */
function ask(title, parts, submit, done, action = "review.save") {
  const said = make("p", { class: "problem", role: "alert" });
  const button = make("button", { class: "primary" }, t(action));
  const send = async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await submit();
      dialog.close();
      tell(done);
      await load();
    } catch (error) {
      said.textContent = error.message;
      button.disabled = false;
    }
  };
  const dialog = open(title, "account", make("form", { onsubmit: send }, ...parts, said, make("footer", {}, button)));
}

const addressOf = (account) => `/api/accounts/${encodeURIComponent(account.name)}`;

function add() {
  const name = field("review.login.name", { required: true, maxlength: 100, autofocus: true });
  const full = field("review.accounts.full_name", { maxlength: 200 });
  const password = field("review.login.password", { type: "password", autocomplete: "new-password" });
  const subject = field("review.accounts.subject", {});
  const roles = roleBoxes(["reader"]);
  ask(t("review.accounts.add"), [name.row, full.row, password.row, make("p", { class: "soft" }, t("review.accounts.password_why")), subject.row, roles.element],
    () => send("/api/accounts", { name: name.input.value, full_name: full.input.value, roles: roles.chosen(), password: password.input.value || null, subject: subject.input.value || null }),
    t("review.accounts.added"), "review.accounts.add");
}

function changeRoles(account) {
  const roles = roleBoxes(account.roles);
  ask(t("review.accounts.roles_of", { name: account.name }), [roles.element, make("p", { class: "soft" }, t("review.accounts.ends"))],
    () => send(addressOf(account), { roles: roles.chosen() }), t("review.accounts.changed", { name: account.name }));
}

function newPassword(account) {
  const password = field("review.password.new", { type: "password", autocomplete: "new-password", required: true, autofocus: true });
  ask(t("review.accounts.password_of", { name: account.name }), [password.row, make("p", { class: "soft" }, t("review.accounts.password_why")), make("p", { class: "soft" }, t("review.accounts.ends"))],
    () => send(addressOf(account), { password: password.input.value }), t("review.accounts.changed", { name: account.name }));
}

function close(account) {
  const key = account.active ? "close" : "reopen";
  ask(t(`review.accounts.${key}_title`, { name: account.name }), [make("p", {}, t(`review.accounts.${key}_why`))],
    () => send(addressOf(account), { active: !account.active }), t("review.accounts.changed", { name: account.name }), `review.accounts.${key}`);
}

function row(account) {
  const ways = [account.has_password ? t("review.login.password") : null, account.subject ? t("review.accounts.single_sign_on") : null].filter(Boolean);
  const button = (key, act) => make("button", { class: "quiet", "aria-label": `${t(`review.accounts.${key}`)}: ${account.name}`, onclick: () => act(account) }, t(`review.accounts.${key}`));
  return make("tr", { "data-account": account.name, class: account.active ? "" : "closed" },
    make("th", { scope: "row" }, account.name, account.name === data.reader ? make("span", { class: "soft" }, ` ${t("review.list.you")}`) : null),
    make("td", {}, account.full_name),
    make("td", {}, ...account.roles.map((role) => make("span", { class: `role-chip ${role}` }, t(`review.role.${role}`)))),
    make("td", { class: "soft" }, ways.join(", ") || t("review.accounts.no_way")),
    make("td", {}, make("span", { class: `status ${account.active ? "signed" : "closed"}` }, t(account.active ? "review.accounts.active" : "review.accounts.closed"))),
    make("td", { class: "acts" }, button("change_roles", changeRoles), button("new_password", newPassword), button(account.active ? "close" : "reopen", close)));
}

async function load() {
  try {
    accounts = await read("/api/accounts");
  } catch (error) {
    tell(error.message, true);
    return;
  }
  $("#accounts").replaceChildren(...accounts.map(row));
  $("#totals").textContent = t("review.accounts.totals", { n: accounts.length, active: accounts.filter((account) => account.active).length });
}

$("#add").onclick = add;
await load();
document.body.dataset.ready = "true";
