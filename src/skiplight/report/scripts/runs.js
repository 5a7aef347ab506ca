// The page of several runs: their curves over each other, the options in which they differ, and their scores.

function show() {
  const { runs, options } = data;
  const coloured = d3.scaleOrdinal(runs.map((run) => run.name), palette);
  main.append(el("h1", {}, runs.map((run) => run.name).join(", ")));
  const named = legend(runs.map((run) => [run.name, coloured(run.name)]));
  showCurves("curves", "Curves", named, runs.map((run) => ({ ...run, colour: () => coloured(run.name), width: 1.8 })));
  const metrics = [...new Set(runs.flatMap((run) => Object.keys(run.metrics)))].filter((name) => !name.startsWith("seconds/") || name === "seconds/train");
  const number = (value) => (value === undefined ? "–" : Math.abs(value) >= 1000 ? d3.format(",.4~r")(value) : d3.format(".4~r")(value));
  const columns = (title, cell) => [{ title, cell: (name) => briefly(name) }, ...runs.map((run) => ({
    title: run.name, kind: cell ? "value" : null, number: !cell, cell: (name) => (cell ? run.options[name] ?? "–" : number(run.metrics[name])),
  }))];
  if (metrics.length) section("scores", "Scores", table(columns("metric", false), metrics, { caption: "Scores" }));
  section("options", "Options", options.length
    ? [el("p", { class: "lead" }, "The options in which the runs differ."), table(columns("option", true), options, { caption: "Options" })]
    : el("p", { class: "lead" }, "The runs have the same options."));
  main.append(el("p", { class: "note" }, "Pages or folders of the runs: ", runs.flatMap((run, i) => [i ? ", " : "", el("a", { href: run.link }, run.name)])));
}
