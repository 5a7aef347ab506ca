// How the run went: loss, held-out perplexity, scores, speed and learning rate, against tokens, seconds or pairs.

const AXES = { tokens: "tokens", seconds: "seconds of training", pairs: "pairs" };

function showProgress(id, title) {
  const named = (name) => ({ "train/loss": "Training loss, a pair", "heldout/perplexity": "Held-out perplexity", "heldout/loss": "Held-out loss, a pair" })[name] ?? name.replace("evaluation/", "");
  const names = [...new Set(data.metrics.flatMap(Object.keys))];
  const judged = names.filter((name) => name === "heldout/perplexity" || name.startsWith("evaluation/"));
  const scored = judged.filter((name) => data.metrics.filter((line) => name in line).length > 1);
  let axis = "tokens";
  const charts = [];
  const curve = (name, title, colour, zero) => {
    const lines = data.metrics.filter((line) => Number.isFinite(line[name]));
    const figure = chart((width) => plot(width, {
      height: 230,
      x: { label: AXES[axis], tickFormat: short, ticks: Math.max(3, width / 90), domain: [0, d3.max(data.metrics, (line) => line[axis])] },
      y: { label: null, grid: true, tickFormat: short, nice: true, zero },
      marks: [
        Plot.lineY(lines, { x: axis, y: name, stroke: colour, strokeWidth: lines.length > 60 ? 1 : 1.8, strokeOpacity: lines.length > 60 ? 0.45 : 1 }),
        lines.length > 60 ? Plot.lineY(lines, Plot.windowY({ k: 15, anchor: "middle" }, { x: axis, y: name, stroke: colour, strokeWidth: 2 })) : null,
        lines.length <= 60 ? Plot.dot(lines, { x: axis, y: name, fill: colour, r: 2.6 }) : null,
        Plot.ruleX(lines, Plot.pointerX({ x: axis, stroke: "var(--faint)" })),
        Plot.tip(lines, Plot.pointerX({ x: axis, y: name, title: (line) => `${d3.format(".4~r")(line[name])}\n${count(line.tokens)} tokens\n${d3.format(",.2f")(line.seconds)} s` })),
      ],
    }), `${title} over the run`);
    figure.prepend(el("h3", {}, title));
    charts.push(figure);
    return figure;
  };
  const found = [curve("train/loss", named("train/loss"), palette[0], false)];
  scored.forEach((name) => found.push(curve(name, named(name), palette[name.startsWith("evaluation/") ? 4 : 5], false)));
  found.push(curve("words_per_second", "Words a second", palette[8], true), curve("lr", "Learning rate", palette[9], true));
  const axes = Object.keys(AXES).filter((name) => names.includes(name));
  section(id, title,
    el("div", { class: "controls" }, choice("Against", axes, axis, (value) => { axis = value; charts.forEach((figure) => figure.redraw()); })),
    el("div", { class: "grid" }, found),
    judged.length && !scored.length ? el("p", { class: "note" }, "Scores were measured at the end only: evaluation.every=TOKENS draws their curves.") : null);
}
