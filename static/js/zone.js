// Offers the days and hours of the reader's own time zone. Without it a page counts in UTC, or as its address says.
(() => {
  "use strict";
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone;

  function offer(root) {
    const place = root.querySelector("[data-own-zone]");
    const zone = document.querySelector("[data-zone]")?.dataset.zone;
    if (!place || !own || own === zone || own === "UTC") return;
    const address = new URL(location.href);
    address.searchParams.set("zone", own);
    // what was written in the old zone means another moment in the new one
    if (address.searchParams.get("range") === "own") {
      for (const end of ["since", "until"]) {
        const moment = place.dataset[end];
        if (moment) address.searchParams.set(end, moment);
      }
    }
    const link = place.querySelector("a");
    link.href = address.search;
    link.querySelector("span").textContent = own;
    place.hidden = false;
  }

  offer(document);
  document.addEventListener("htmx:afterSettle", () => offer(document));
})();
