// Points at, drags across and measures a report, and tells the page that holds it.
window.onerror = (message) => { window.failed = (window.failed || []).concat(message); };
addEventListener("securitypolicyviolation", (event) => { window.failed = (window.failed || []).concat("asked for " + event.blockedURI); });
addEventListener("load", () => setTimeout(() => {
  const plots = [...document.querySelectorAll("[data-linked] .chart .plot")], first = plots[0] && plots[0].querySelector("svg");
  const move = (type, share) => {
    const box = first.getBoundingClientRect();
    const at = {clientX: box.left + share * box.width, clientY: box.top + 5, pointerType: "mouse", button: 0, bubbles: true};
    (type === "pointerup" ? window : first).dispatchEvent(type === "dblclick" ? new MouseEvent(type, at) : new PointerEvent(type, at));
  };
  const views = () => plots.map((plot) => plot.querySelector("svg").getAttribute("viewBox").split(" ").map(Number));
  const told = {
    failed: window.failed || [], requests: performance.getEntriesByType("resource").map((one) => one.name),
    wide: document.documentElement.scrollWidth, inner: innerWidth,
    ready: performance.getEntriesByType("navigation")[0].loadEventEnd,
    drawn: [...document.querySelectorAll(".curve")].map((path) => path.getBoundingClientRect().width > 0 || path.getTotalLength() === 0),
    dialogs: window.shouted || 0,
  };
  if (first) {
    told.before = views();
    move("pointermove", 0.5);
    told.tips = plots.map((plot) => plot.querySelector(".tip").innerText);
    told.cursors = plots.map((plot) => plot.querySelector(".cursor").style.left);
    move("pointerdown", 0.25); move("pointermove", 0.75); move("pointerup", 0.75);
    told.zoomed = views();
    told.steps = plots.map((plot) => plot.querySelector(".x").innerText);
    move("dblclick", 0.5);
    told.after = views();
  }
  told.failed = window.failed || [];
  parent.postMessage(JSON.stringify(told), "*");
}, 50));
