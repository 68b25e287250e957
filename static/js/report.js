// The report's print button.
(() => {
  "use strict";
  addEventListener("click", ({ target }) => { if (target.closest("[data-print]")) print(); });
})();
