// The nearest words of each word, which were found among all words of the vocabulary.

/** {rows, cosines in thousandths}, in base64, as a function: the words nearest to word i, as [index, cosine], nearest first. */
function nearest({ rows, cosines }, searched, size) {
  const bytes = (text) => Uint8Array.from(atob(text), (byte) => byte.charCodeAt(0)).buffer;
  const [near, thousandths] = [new (size < 2 ** 16 ? Uint16Array : Uint32Array)(bytes(rows)), new Int16Array(bytes(cosines))];
  const k = near.length / searched;
  return (i) => d3.range(i * k, (i + 1) * k).map((at) => [near[at], thousandths[at] / 1000]);
}

/** Words as a function that finds one as `skiplight neighbors` does: as spelled, else composed, else in any case; -1 if there is none. */
function lookup(words) {
  const [spelled, folded] = [new Map(), new Map()];
  for (let i = words.length - 1; i >= 0; i--) {
    spelled.set(words[i], i);
    folded.set(words[i].toUpperCase(), i);
  }
  return (typed) => spelled.get(typed) ?? spelled.get(typed.normalize()) ?? folded.get(typed.normalize().toUpperCase()) ?? -1;
}
