// Asks for this page again when the run has gone on, and puts its main part in place of the old one.
"use strict";
(() => {
  const main = document.querySelector("main[data-live]");
  if (!main || !window.EventSource) return;
  const note = document.getElementById("live");
  const events = new EventSource("/live");
  let shown = main.dataset.live;
  const open = (element) => Array.from(element.querySelectorAll("details"), (part) => part.open);
  events.onmessage = async (event) => {
    note.textContent = "live";
    if (shown === event.data) return;
    const answer = await fetch(location.href);
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("main");
    const focus = document.activeElement && document.activeElement.getAttribute("href");
    const opened = open(main);
    fresh.querySelectorAll("details").forEach((part, place) => { part.open = Boolean(opened[place]); });
    main.replaceChildren(...fresh.childNodes);
    const again = focus && Array.from(main.querySelectorAll("a[href]")).find((link) => link.getAttribute("href") === focus);
    if (again) again.focus({ preventScroll: true });
    shown = fresh.dataset.live;
  };
  events.onerror = () => { note.textContent = "not connected"; };
})();
