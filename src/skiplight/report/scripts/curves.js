// Curves of several runs over each other, a chart for each metric.

const CURVE_AXES = { tokens: "tokens", seconds: "seconds of training", pairs: "pairs" };

/** A section of charts of `runs`, each {name, curves, colour(), width}; returns a function that draws them again. */
function showCurves(id, title, lead, runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.curves)))].filter((name) => runs.some((run) => run.curves[name]?.[0].length > 1));
  if (!names.length) return () => {};
  const titles = { "train/loss": "Training loss, a pair", "heldout/perplexity": "Held-out perplexity", "heldout/loss": "Held-out loss, a pair" };
  let axis = "tokens";
  const points = (run, name) => {
    const [tokens, seconds, pairs, values] = run.curves[name];
    const across = { tokens, seconds, pairs }[axis];
    return values.map((y, i) => ({ run, x: across[i], y, tokens: tokens[i], seconds: seconds[i] })).filter((point) => Number.isFinite(point.x) && Number.isFinite(point.y));
  };
  const charts = names.map((name) => {
    const own = runs.filter((run) => run.curves[name]);
    const figure = chart((width) => {
      const lines = own.map((run) => points(run, name)), all = lines.flat();
      const log = name.endsWith("perplexity");
      return plot(width, {
        height: 250,
        x: { label: CURVE_AXES[axis], tickFormat: short, ticks: Math.max(3, width / 90), zero: true },
        y: { label: null, grid: true, tickFormat: short, nice: !log, type: log ? "log" : "linear", ticks: log ? 4 : 6 },
        marks: [
          lines.map((line) => Plot.line(line, { x: "x", y: "y", stroke: line[0]?.run.colour(), strokeWidth: line[0]?.run.width ?? 1.4, strokeOpacity: 0.85, marker: line.length < 12 ? "dot" : null })),
          Plot.tip(all, Plot.pointer({ x: "x", y: "y", title: (point) => `${point.run.name}\n${d3.format(",.4~r")(point.y)}\n${count(point.tokens)} tokens, ${d3.format(",.2f")(point.seconds)} s` })),
        ],
      });
    }, `${titles[name] ?? name} of each run`);
    figure.prepend(el("h3", {}, titles[name] ?? briefly(name)));
    return figure;
  });
  const redraw = () => charts.forEach((figure) => figure.redraw());
  section(id, title, lead,
    el("div", { class: "controls" }, choice("Against", Object.keys(CURVE_AXES), axis, (value) => { axis = value; redraw(); })),
    el("div", { class: "grid" }, charts));
  return redraw;
}
