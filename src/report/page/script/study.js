
// ---- the neuron table of a study (data.rs)
const studyOf = (bytes) => {
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const contents = json(bytes.subarray(4, 4 + length));
  const read = columnReader(bytes.subarray(4 + length), contents.rows);
  const [layer, index] = [read(contents.layer), read(contents.neuron)];
  const partners = [];
  for (const { model, ...of } of contents.partners) {
    const [layer, neuron] = [read(of.layer), read(of.neuron)];
    const [rho, chance] = ["rho", "chance"].map((what) => read(of[what], guessOver(partners, what, meanOf)));
    partners.push({ model, layer, neuron, rho, chance });
  }
  const columns = new Map();
  for (const head of contents.columns) columns.set(head.name, read(head, guessOf(head, partners, columns)));
  const universal = new Set(contents.universal);
  const neurons = Array.from({ length: contents.rows }, (_, row) => ({
    row, id: `L${layer.values[row]}.N${index.values[row]}`, name: contents.names[row] ?? "",
    layer: layer.values[row], universal: universal.has(row) }));
  const looked = new Map(contents.cards.map((words) => [words.neuron, words]));
  return { neurons, partners, columns, looked };
};
// The numbers of partners in a row: how many exist, their sum, the largest and the smallest one.
const overPartners = (partners, what) => {
  const lists = partners.map((p) => p[what].values);
  return (row) => {
    const found = { n: 0, sum: 0, max: -Infinity, min: Infinity };
    for (const values of lists) {
      const value = values[row];
      if (Number.isNaN(value)) continue;
      found.n += 1;
      found.sum += value;
      found.max = Math.max(found.max, value);
      found.min = Math.min(found.min, value);
    }
    return found;
  };
};
const meanOf = ({ n, sum }) => Math.floor(sum / n + 0.5);
// A guess from the numbers of partners; 0 if there are none.
const guessOver = (partners, what, of) => {
  const inRow = overPartners(partners, what);
  return (row) => {
    const found = inRow(row);
    return found.n ? of(found) : 0;
  };
};
// What a number of a row is relative to; data.rs computes the same.
const guessOf = ({ guess, digits }, partners, columns) => {
  const over = (what, of) => guessOver(partners, what, of);
  const [largest, smallest] = [({ max }) => max, ({ min }) => min];
  const meanOfTens = ({ n, sum }) => meanOf({ n, sum: 10 * sum });
  const pair = (...names) => names.map((name) => columns.get(name));
  // Without both numbers, or with one that is stored as it is, there is no guess.
  const both = (pair, of) => (row) => (pair.some((c) => c.digits === undefined) ? 0 : of(row) || 0);
  const guesses = {
    max_rho: () => over("rho", largest), mean_rho: () => over("rho", meanOfTens), min_rho: () => over("rho", smallest),
    max_chance: () => over("chance", largest), mean_chance: () => over("chance", meanOfTens), min_chance: () => over("chance", smallest),
    difference: () => {
      const [rho, chance] = pair("mean_corr", "mean_baseline");
      return both([rho, chance], (row) => 10 * (rho.values[row] - chance.values[row]));
    },
    squares: () => {
      const norms = pair("w_in_norm", "w_out_norm");
      return both(norms, (row) => {
        const [a, b] = norms.map((c) => valueOf(c, row));
        const scaled = Math.floor((a * a + b * b) * 10 ** digits + 0.5);
        return digits >= 0 && scaled < 1e15 ? scaled : 0;
      });
    },
  };
  return guess ? guesses[guess]() : undefined;
};
// Percentiles of a neuron among the neurons of its layer, ties averaged, for each column.
const ranksOf = ({ neurons, columns }, neuron) => {
  const rows = neurons.filter((n) => n.layer === neuron.layer).map((n) => n.row);
  return [...columns.values()].map(({ values }) => {
    const value = values[neuron.row];
    let [below, upTo, known] = [0, 0, 0];
    for (const row of rows) {
      below += values[row] < value;
      upTo += values[row] <= value;
      known += !Number.isNaN(values[row]);
    }
    return Number.isNaN(value) ? null : (100 * (below + upTo + 1)) / 2 / known;
  });
};
