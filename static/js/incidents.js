// How many incidents are ticked; the button for them waits until one is.
(() => {
  "use strict";
  const boxes = () => [...document.querySelectorAll("#incidents input[name=incident]:enabled")];

  function show() {
    const all = boxes();
    const ticked = all.filter((box) => box.checked).length;
    const button = document.getElementById("ticked");
    button.disabled = !ticked;
    button.textContent = ticked ? `Acknowledge ${ticked} ticked` : "Acknowledge what is ticked";
    const every = document.getElementById("tick-all");
    if (!every) return;
    every.disabled = !all.length;
    every.checked = ticked > 0 && ticked === all.length;
    every.indeterminate = ticked > 0 && ticked < all.length;
  }

  addEventListener("change", ({ target }) => {
    if (target.id === "tick-all") boxes().forEach((box) => { box.checked = target.checked; });
    if (target.closest("#incidents")) show();
  });
  for (const name of ["htmx:afterSettle", "htmx:wsAfterMessage"]) document.addEventListener(name, show);
  // The reason has gone along; the next one is another
  document.addEventListener("htmx:afterRequest", ({ detail }) => {
    if (detail.elt.id === "tend" && detail.successful) detail.elt.elements.reason.value = "";
    show();
  });
  show();
})();
