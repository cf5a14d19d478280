// Questions before something that cannot be taken back, and short messages afterwards.

import { h } from "./dom.js";

// Resolves to the field's value (or true without a field) when it was confirmed, to null otherwise. Esc closes it.
export function ask({ title, text, confirm, danger = false, field = null }) {
  const input = field && h("input", { ...field.attributes, id: "dialog-field", name: "value" });
  const dialog = h(
    "dialog",
    { "aria-labelledby": "dialog-title" },
    h(
      "form",
      { method: "dialog" },
      h("h2", { id: "dialog-title" }, title),
      text && h("p", {}, text),
      field && h("label", { for: "dialog-field" }, field.label),
      input,
      h(
        "div",
        { class: "buttons end" },
        h("button", { value: "cancel", type: "button", autofocus: !field }, "Cancel"),
        h("button", { value: "yes", class: danger ? "danger" : "primary" }, confirm),
      ),
    ),
  );
  document.body.append(dialog);
  const before = document.activeElement;
  dialog.querySelector("button[value=cancel]").addEventListener("click", () => dialog.close("cancel"));
  dialog.showModal();
  input?.select();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const yes = dialog.returnValue === "yes";
      dialog.remove();
      before?.focus();
      resolve(yes ? (input ? input.value : true) : null);
    });
  });
}

let timer = 0;

export function say(text, kind = "info") {
  const place = document.getElementById("messages");
  place.replaceChildren(h("p", { class: ["message", kind] }, text));
  clearTimeout(timer);
  timer = setTimeout(() => place.replaceChildren(), kind === "error" ? 10000 : 5000);
}
