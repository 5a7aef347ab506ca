// Nearest words by cosine, from vectors in a byte a number.

/** Vectors {dim, int8 in base64} as a function: the k words nearest to word i, as [index, cosine], nearest first. */
function nearest({ dim, int8 }) {
  const rows = new Int8Array(Uint8Array.from(atob(int8), (byte) => byte.charCodeAt(0)).buffer);
  const size = rows.length / dim;
  const norms = new Float32Array(size);
  const dot = (i, j) => {
    let sum = 0;
    for (let at = i * dim, other = j * dim, end = at + dim; at < end; at++, other++) sum += rows[at] * rows[other];
    return sum;
  };
  for (let i = 0; i < size; i++) norms[i] = Math.sqrt(dot(i, i)) || 1;
  return (i, k) => {
    const cosines = Float32Array.from({ length: size }, (_, j) => dot(i, j) / (norms[i] * norms[j]));
    const order = d3.range(size).filter((j) => j !== i);
    return order.sort((a, b) => cosines[b] - cosines[a]).slice(0, k).map((j) => [j, cosines[j]]);
  };
}
