// The page of a run.

function show() {
  const { summary } = data;
  if (!summary) {
    showUnfinished();
    return;
  }
  const option = (name) => data.settings.find((one) => one.name === name)?.value ?? "";
  const objective = option("objective.name").replaceAll("_", " ");
  const drawn = data.frequencies.noise;
  const power = () => ["P", el("sub", {}, "n"), " ∝ count", el("sup", {}, String(drawn.exponent))];
  const noise = drawn ? [`, ${option("noise.negatives")} noise words from `, ...(drawn.exponent === null ? [`noise=${drawn.name}`] : power())] : [];
  const source = option("data.name") || option("data.source");
  main.append(
    el("h1", {}, data.name),
    el("p", { class: "lead" }, `${objective[0].toUpperCase()}${objective.slice(1)}`, noise, `; ${count(summary.vocabulary_size)} words in ${option("model.dim")} dimensions, `,
      `window ${option("sampling.window")}; ${count(summary.tokens)} tokens of ${source} (${short(summary.epochs)} epochs) by the ${summary.engine} engine on ${summary.device}.`),
    tiles([
      ...Object.entries(summary.evaluation).flatMap(([name, result]) => {
        if (result.error) return [[name, "–", "could not be evaluated"]];
        if (name === "heldout") return [["Held-out perplexity", d3.format(",.1f")(result.perplexity), perplexityNote(result)]];
        // Of a plug-in, which returns one number or several.
        if (result.scores) return Object.entries(result.scores).map(([key, value]) => [`${name} ${key}`, d3.format(".4~g")(value), "evaluation"]);
        if (result.oov === undefined) return [[name, d3.format(".4~g")(result.score), "evaluation"]];
        const asked = `${result.few ? "only " : ""}${count(result.pairs ?? result.questions)}`;
        const kind = result.sections ? `${asked} analogies` : result.pairs ? `Spearman, ${asked} pairs` : hitRateNote(result, asked);
        return [[name, result.score.toFixed(3), kind]];
      }),
      ["Training loss", summary.loss?.toFixed(3) ?? "–", "a pair, last epoch"],
      ["Words a second", short(summary.words_per_second), `${d3.format(",.1f")(summary.seconds.train)} s of training`],
    ]));
  const failed = Object.entries(summary.evaluation).filter(([, result]) => result.error);
  if (failed.length) main.append(el("ul", { class: "note" }, failed.map(([, result]) => el("li", {}, result.error))));
  if (data.map) showMap("map", "Map");
  else if (data.state) main.append(el("p", { class: "note" }, "skiplight report with the folder of this run adds the map of its words."));
  if (data.metrics.length) showProgress("training", "Training");
  if (Object.keys(data.similarity).length) showSimilarity("similarity", "Similarity");
  const analogies = Object.entries(summary.evaluation).filter(([, result]) => result.sections);
  if (analogies.length) showAnalogies("analogies", "Analogies", analogies);
  showNoise("noise", "Words and noise");
  showSettings("settings", "Settings");
}

/** Says what a hit rate is to be held against, and of which sequences it is. */
function hitRateNote({ popularity, repeats }, asked) {
  const left = repeats === undefined ? "" : `; ${percent(repeats)} end in a repeat and are left out`;
  return `hit rate at 10, ${asked} sequences; popularity ${popularity.toFixed(3)}${left}`;
}

/** Says what the perplexity of word frequencies alone is, and if the model's is many times that. */
function perplexityNote({ perplexity, unigram, pairs }) {
  if (unigram == null) return `${count(pairs)} pairs`;
  const worse = perplexity >= 2 * unigram ? `, ${short(perplexity / unigram)} times worse than by` : ";";
  return `${count(pairs)} pairs${worse} word frequencies alone: ${d3.format(",.1f")(unigram)}`;
}

/** The page of a trial that has not come to its end. */
function showUnfinished() {
  main.append(el("h1", {}, data.name), el("p", { class: "lead" }, `This trial is ${data.state}, so it has curves and settings only. ${data.error}`));
  if (data.metrics.length) showProgress("training", "Training");
  showSettings("settings", "Settings");
}
