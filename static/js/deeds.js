// Repairs: what somebody may not do is denied, a preview opens where it was asked for, and its command can be copied.
(() => {
  "use strict";
  const may = new Set((document.body.dataset.may ?? "").split(" "));

  // A pushed fragment is everybody's, so it is here that its buttons learn who looks. The server refuses anyway.
  function deny(root) {
    for (const button of root.querySelectorAll("[data-needs]")) {
      if (may.has(button.dataset.needs)) continue;
      const why = "Your role may not do that; ask an operator or an admin";
      button.title = why;
      if ("disabled" in button) button.disabled = true;
      else { button.removeAttribute("hx-post"); button.textContent = "Open"; }
    }
  }
  window.relay.deny = deny;
  deny(document.body);
  document.addEventListener("htmx:load", ({ target }) => deny(target));

  // On the fleet page a preview stands in a dialog
  const dialog = document.getElementById("deed");
  document.addEventListener("htmx:afterSwap", ({ detail }) => {
    if (detail.target.id === "preview" && dialog && !dialog.open) dialog.showModal();
    if (detail.target.id === "preview") detail.target.querySelector("section")?.scrollIntoView({ block: "nearest" });
  });

  // What is selected goes along with the form for many
  document.addEventListener("htmx:configRequest", ({ detail }) => {
    if (detail.elt.id !== "many") return;
    const { keys, all, query } = window.relay.selection();
    if (all) Object.assign(detail.parameters, { all, query });
    else detail.parameters.run = keys;
  });

  addEventListener("click", async ({ target }) => {
    const button = target.closest("[data-copy]");
    if (!button) return;
    await window.relay.copy(button.dataset.copy);
    const label = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  });
})();
