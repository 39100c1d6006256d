"use strict";
// Reads the curves back from the drawn paths: shows what is under the pointer in every chart of a run, and zooms them.
document.documentElement.classList.add("scripted");
const HEIGHT = 1000, EDGE = 0.012;
const make = (parent, tag, name) => {
  const made = document.createElement(tag);
  made.className = name;
  parent.append(made);
  return made;
};
const shown = (value, format) => {
  const size = Math.abs(value);
  if (format === "percent") return `${value < 0 ? "" : "+"}${(100 * value).toFixed(1)} %`;
  if (format === "short") return size >= 1000 && size < 1e6 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
  const text = size < 1e6 ? value.toFixed(3) : value.toExponential(2);
  return format === "signed" && value >= 0 ? `+${text}` : text;
};
const tick = (value, format) => {
  const digits = (number) => (Math.abs(number) >= 1000 ? shown(number, "short") : String(Number(number.toPrecision(4))));
  if (format === "percent") return `${value > 0 ? "+" : ""}${digits(100 * value)} %`;
  return format === "signed" && value > 0 ? `+${digits(value)}` : digits(value);
};
const rounds = (low, high, count) => {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high; at++) found.push(at * step);
  return found;
};
// A curve's points as [steps after the first, units from the top].
const pointsOf = (path) => [...(path.getAttribute("d") || "").matchAll(/[ML](-?[\d.e+-]+) (-?[\d.e+-]+)/g)].map((of) => [Number(of[1]), Number(of[2])]);
const nearest = (points, x) => {
  let low = 0, high = points.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle; else high = middle;
  }
  return Math.abs(points[low][0] - x) <= Math.abs(points[high][0] - x) ? low : high;
};

for (const run of document.querySelectorAll("[data-linked]")) {
  const plots = [...run.querySelectorAll(".plot")].map((plot) => {
    const svg = plot.querySelector("svg"), data = plot.dataset;
    const curves = [...svg.querySelectorAll(".curve")].map((path) => ({
      path, points: pointsOf(path), errors: (path.dataset.errors || "").split(","), name: path.dataset.name,
    })).filter((curve) => curve.points.length);
    const low = Number(data.low), high = Number(data.high);
    const valueOf = (y) => {
      const value = high - (y / HEIGHT) * (high - low);
      return data.log === undefined ? value : 10 ** value;
    };
    const heightOf = (value) => HEIGHT * (high - (data.log === undefined ? value : Math.log10(value))) / (high - low);
    const cursor = make(plot, "div", "cursor"), tip = make(plot, "output", "tip"), chosen = make(plot, "div", "chosen");
    cursor.hidden = tip.hidden = chosen.hidden = true;
    return {plot, svg, data, curves, valueOf, heightOf, cursor, tip, chosen, y: [0, HEIGHT]};
  });
  if (!plots.length) continue;
  const start = Number(plots[0].data.start), width = Number(plots[0].data.width);
  const whole = [-EDGE * width, (1 + EDGE) * width];
  let view = whole, from = null;
  const stepAt = (one, event) => {
    const box = one.svg.getBoundingClientRect();
    return view[0] + Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * (view[1] - view[0]);
  };
  const share = (x) => (x - view[0]) / (view[1] - view[0]);

  const labels = (one) => {
    const steps = one.plot.querySelector(".x");
    steps.replaceChildren();
    for (const at of rounds(start + view[0], start + view[1], 6)) {
      if (at < 0 || at % 1) continue;
      const span = make(steps, "span", "");
      span.textContent = at.toLocaleString("en");
      span.style.left = `${100 * share(at - start)}%`;
    }
    for (const side of one.plot.querySelectorAll(".y")) {
      side.replaceChildren();
      const top = one.valueOf(one.y[0]), bottom = one.valueOf(one.y[1]);
      for (const value of rounds(bottom, top, 5)) {
        const span = make(side, "span", ""), right = side.classList.contains("right");
        span.textContent = right ? shown(Math.exp(Math.min(value, 700)), "short") : tick(value, one.data.format);
        span.style.top = `${100 * (one.heightOf(value) - one.y[0]) / (one.y[1] - one.y[0])}%`;
      }
    }
  };
  const draw = () => {
    for (const one of plots) {
      const seen = one.curves.flatMap((curve) => curve.points.filter((at) => at[0] >= view[0] && at[0] <= view[1])).map((at) => at[1]);
      one.y = [0, HEIGHT];
      if (view !== whole && seen.length) {
        const top = seen.reduce((a, b) => Math.min(a, b)), bottom = seen.reduce((a, b) => Math.max(a, b));
        const room = Math.max(0.08 * (bottom - top), 1);
        one.y = [top - room, bottom + room];
      }
      one.svg.setAttribute("viewBox", `${view[0]} ${one.y[0]} ${view[1] - view[0]} ${one.y[1] - one.y[0]}`);
      labels(one);
    }
  };
  const hide = () => { for (const one of plots) one.cursor.hidden = one.tip.hidden = true; };
  const point = (x) => {
    for (const one of plots) {
      one.cursor.hidden = false;
      one.cursor.style.left = `${100 * share(x)}%`;
      one.tip.replaceChildren();
      one.tip.hidden = !one.curves.length;
      const found = one.curves.map((curve) => [curve, nearest(curve.points, x)]);
      if (!found.length) continue;
      const closest = found.map(([curve, at]) => curve.points[at][0]).reduce((a, b) => (Math.abs(b - x) < Math.abs(a - x) ? b : a));
      make(one.tip, "b", "").textContent = (start + closest).toLocaleString("en");
      for (const [curve, at] of found) {
        const [step, y] = curve.points[at], value = one.valueOf(y), error = curve.errors[at];
        let text = `${curve.name}: ${shown(value, one.data.format)}`;
        if (error) text += ` ± ${shown(Number(error), "loss")}`;
        if (one.data.perplexity !== undefined) text += ` (PPL ${shown(Math.exp(Math.min(value, 700)), "short")})`;
        if (step !== closest) text += ` @ ${(start + step).toLocaleString("en")}`;
        make(one.tip, "div", [...curve.path.classList].find((name) => /^c\d$/.test(name))).textContent = text;
      }
      const right = share(x) > 0.5;
      one.tip.style.left = right ? "auto" : `calc(${100 * share(x)}% + .6rem)`;
      one.tip.style.right = right ? `calc(${100 - 100 * share(x)}% + .6rem)` : "auto";
    }
  };
  for (const one of plots) {
    one.svg.addEventListener("pointermove", (event) => {
      const x = stepAt(one, event);
      point(x);
      if (from === null) return;
      for (const other of plots) {
        other.chosen.hidden = false;
        other.chosen.style.left = `${100 * share(Math.min(from, x))}%`;
        other.chosen.style.width = `${100 * Math.abs(share(x) - share(from))}%`;
      }
    });
    one.svg.addEventListener("pointerdown", (event) => { if (event.pointerType === "mouse" && event.button === 0) { from = stepAt(one, event); event.preventDefault(); } });
    one.svg.addEventListener("pointerleave", hide);
    one.svg.addEventListener("dblclick", () => { view = whole; draw(); });
    window.addEventListener("pointerup", (event) => {
      if (from === null) return;
      const x = stepAt(one, event), ends = [Math.min(from, x), Math.max(from, x)];
      from = null;
      for (const other of plots) other.chosen.hidden = true;
      if (share(ends[1]) - share(ends[0]) > 0.02) { view = ends; draw(); }
    });
  }
}
