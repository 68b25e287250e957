// What only ticks: ages and minutes, computed once a second from the moments that the page carries, and only
// where somebody can see them. Moments without an age are shown in the reader's own time zone.
(() => {
  "use strict";
  const relay = (window.relay = { offset: 0, now: () => Date.now() + relay.offset });

  relay.setClock = (moment) => { relay.offset = Date.parse(moment) - Date.now(); };

  // As the filter of the same name in templatetags/relay.py
  function span(seconds) {
    if (seconds < 60) return `${Math.floor(seconds)} s`;
    if (seconds < 5400) return `${Math.floor(seconds / 60)} min`;
    if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
    return `${Math.floor(seconds / 86400)} d`;
  }

  function age(seconds, suffix) {
    if (seconds < -60) return suffix === " ago" ? `in ${span(-seconds)}` : span(0);
    return span(Math.max(0, seconds)) + suffix;
  }

  relay.clock = (moment) => {
    const when = new Date(moment);
    const today = when.toDateString() === new Date(relay.now()).toDateString();
    const time = when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
    return today ? time : `${when.toLocaleDateString("sv-SE")} ${time}`;
  };

  function write(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  function tick(element) {
    const seconds = (relay.now() - Date.parse(element.dateTime)) / 1000;
    if ("due" in element.dataset) write(element, seconds < 0 ? `in ${span(-seconds)}` : "now");
    else if ("age" in element.dataset) write(element, age(seconds, element.dataset.age));
    else write(element, Math.max(0, Math.floor(seconds / 60)).toLocaleString("en"));
  }

  const seen = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) { seen.add(target); tick(target); } else seen.delete(target);
    }
  });

  relay.watch = (root) => {
    const times = [...root.querySelectorAll("time")];
    if (root.matches("time")) times.push(root);
    for (const element of times) {
      if ("clock" in element.dataset) write(element, relay.clock(element.dateTime));
      else if (["age", "minutes", "due"].some((name) => name in element.dataset)) observer.observe(element);
    }
  };

  const pulse = document.getElementById("pulse");
  if (pulse) relay.setClock(pulse.dataset.now);
  relay.watch(document.body);
  document.addEventListener("htmx:load", ({ target }) => relay.watch(target)); // what has come in since
  setInterval(() => { if (!document.hidden) seen.forEach(tick); }, 1000);
})();
