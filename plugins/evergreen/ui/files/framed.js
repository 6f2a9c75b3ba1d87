// Airflow shows these pages in a sandboxed frame, from which a link could not leave. Alone in a window, nothing happens.
"use strict";
(() => {
  const pages = new URL("..", document.currentScript.src).pathname;
  if (window.parent === window) return;
  let outside;
  try {
    outside = window.parent.document; // the same origin, else an error
  } catch {
    return;
  }
  document.documentElement.dataset.theme = outside.documentElement.classList.contains("dark") ? "dark" : "light";
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const to = new URL(link.href);
    if (to.origin === window.location.origin && to.pathname.startsWith(pages)) return;
    event.preventDefault();
    const out = outside.createElement("a");
    out.href = link.href;
    if (to.origin !== window.location.origin) Object.assign(out, { target: "_blank", rel: "noreferrer" });
    outside.body.append(out);
    out.click();
    out.remove();
  });
})();
