// Alerts in the browser: where somebody allowed it, each new one is a notification, shown by one tab alone.
(() => {
  "use strict";
  const ON = "relay-notify"; // "on" where this browser is to notify
  const SEEN = "relay-notify-seen"; // the moment up to which it has
  const MOST = 3; // one by one; more are summed up
  const offer = document.getElementById("notify");
  const possible = "Notification" in window && "locks" in navigator;

  const wanted = () => possible && Notification.permission === "granted" && localStorage.getItem(ON) === "on";
  const ringing = () => [...document.querySelectorAll("#bell [data-alert]")];
  const newest = (alerts) => alerts.map(({ dataset }) => dataset.told).sort().at(-1) ?? "";

  function show(title, body, tag) {
    const notice = new Notification(title, { body, tag, requireInteraction: false });
    notice.onclick = () => { window.focus(); location.href = document.getElementById("bell").href; };
  }

  // Times are ISO 8601 of one length, so they compare as text. The lock lets one tab look at a time.
  async function notify() {
    if (!wanted() || !ringing().length) return;
    await navigator.locks.request("relay-alerts", () => {
      const seen = localStorage.getItem(SEEN) ?? "";
      const fresh = ringing().filter(({ dataset }) => dataset.told > seen);
      if (!fresh.length) return;
      localStorage.setItem(SEEN, newest(fresh));
      if (fresh.length > MOST) show(`${fresh.length} new alerts`, fresh[0].textContent, "relay-alerts");
      else fresh.forEach((each) => show("Relay Web", each.textContent, `relay-alert-${each.dataset.alert}`));
    });
  }

  function describe() {
    if (!offer) return;
    const button = offer.querySelector("button");
    const words = offer.querySelector("[data-words]");
    const denied = possible && Notification.permission === "denied";
    button.hidden = denied;
    button.textContent = wanted() ? "Stop notifying me" : "Notify me in this browser";
    button.setAttribute("aria-pressed", String(wanted()));
    words.textContent = denied ? "This browser does not allow notifications; its settings for this site decide." : "";
    offer.hidden = !possible;
  }

  offer?.querySelector("button").addEventListener("click", async () => {
    if (wanted()) localStorage.setItem(ON, "off");
    else if ((await Notification.requestPermission()) === "granted") {
      localStorage.setItem(SEEN, newest(ringing()) || new Date(window.relay.now()).toISOString()); // nothing old
      localStorage.setItem(ON, "on");
    }
    describe();
  });

  document.addEventListener("htmx:wsAfterMessage", ({ detail }) => {
    if (detail.message.includes('id="bell"')) notify();
  });
  addEventListener("storage", describe);
  describe();
  notify();
})();
