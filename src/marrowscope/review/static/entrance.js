// What the head of every page with accounts has: leave, and change one's own password.
import { open } from "./dialogs.js";
import { make, t } from "./page_data.js";
import { send } from "./station.js";

document.querySelector("#leave")?.addEventListener("click", async () => {
  await send("/api/leave", {}).catch(() => null); // an ended session is left already
  location.href = "/login";
});

document.querySelector("#password")?.addEventListener("click", () => {
  const field = (key, autocomplete) => {
    const input = make("input", { type: "password", autocomplete, required: true, autofocus: autocomplete === "current-password" });
    return [input, make("label", {}, t(key), input)];
  };
  const [old, oldRow] = field("review.password.present", "current-password");
  const [fresh, freshRow] = field("review.password.new", "new-password");
  const [again, againRow] = field("review.password.again", "new-password");
  const said = make("p", { class: "problem", role: "alert" });
  const change = async (event) => {
    event.preventDefault();
    if (fresh.value !== again.value) {
      said.textContent = t("review.password.differ");
      return;
    }
    try {
      await send("/api/password", { old: old.value, new: fresh.value });
      location.href = "/login";
    } catch (error) {
      said.textContent = error.message;
    }
  };
  open(t("review.password.own"), "account", make("form", { onsubmit: change }, make("p", { class: "soft" }, t("review.password.why")), oldRow, freshRow, againRow, said,
    make("footer", {}, make("button", { class: "primary" }, t("review.save")))));
});
