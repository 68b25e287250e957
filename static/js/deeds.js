// Repairs: what somebody may not do is denied, a preview opens where it was asked for, and its command can be copied.
(() => {
  "use strict";
  const may = new Set((document.body.dataset.may ?? "").split(" "));

  // A pushed fragment is everybody's, so it is here that its buttons learn who looks. The server refuses anyway.
  function deny(root) {
    for (const button of root.querySelectorAll("[data-needs]")) denyOne(button);
  }

  function denyOne(button) {
    if (may.has(button.dataset.needs) || button.disabled) return;
    const why = "Your role may not do that; ask an operator or an admin";
    button.title = why;
    if ("disabled" in button) {
      button.disabled = true;
      button.querySelectorAll("small").forEach((hint) => { hint.textContent = why; });
    } else {
      button.removeAttribute("hx-post");
      button.textContent = "Open";
    }
  }
  window.relay.deny = deny;
  deny(document.body);
  document.addEventListener("htmx:load", ({ target }) => deny(target));
  // What htmx fetched asks htmx for something too: it is denied before htmx hangs that on it
  document.addEventListener("htmx:beforeProcessNode", ({ target }) => { if ("needs" in target.dataset) denyOne(target); });

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

  // The button that was pressed says that it is done
  window.relay.copy = async (button, text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // not on https, or not allowed; what lies outside an open dialog cannot be selected
      const area = document.createElement("textarea");
      area.className = "visually-hidden";
      area.value = text;
      button.after(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    const label = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  };

  addEventListener("click", ({ target }) => {
    const button = target.closest("[data-copy], [data-copy-from], [data-copy-next]");
    if (!button) return;
    const { copy, copyFrom } = button.dataset;
    const place = copyFrom ? document.querySelector(copyFrom) : button.closest(".record")?.querySelector("pre");
    window.relay.copy(button, copy ?? place.textContent);
  });
})();
