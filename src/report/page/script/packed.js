
// ---- packed bytes: deflated, then in base 85 (packed.rs)
const fromBase85 = (text) => {
  const bytes = new Uint8Array((text.length / 5) * 4);
  const digit = (code) => (code === 126 ? 60 : code) - 40;
  for (let from = 0, to = 0; from < text.length; from += 5, to += 4) {
    let word = 0;
    for (let i = from; i < from + 5; i++) word = word * 85 + digit(text.charCodeAt(i));
    bytes[to] = word >>> 24;
    bytes[to + 1] = word >>> 16;
    bytes[to + 2] = word >>> 8;
    bytes[to + 3] = word;
  }
  return bytes;
};
const unpack = async (id) => {
  const { textContent, dataset } = $(id);
  const deflated = new Blob([fromBase85(textContent).subarray(0, Number(dataset.bytes))]).stream();
  return new Uint8Array(await new Response(deflated.pipeThrough(new DecompressionStream("deflate-raw"))).arrayBuffer());
};
const json = (bytes) => JSON.parse(new TextDecoder().decode(bytes));

// ---- columns of numbers (columns.rs)
// A column has integers, NaN for a number that does not exist, and the number of their digits after
// the decimal point; or it has numbers as they are.
const columnReader = (bytes, rows) => {
  let at = 0;
  const exact = (planes) => {
    const view = new DataView(new ArrayBuffer(8));
    const values = Float64Array.from({ length: rows }, (_, row) => {
      for (let plane = 0; plane < planes; plane++) view.setUint8(plane, bytes[at + plane * rows + row]);
      const value = view.getFloat64(0, true);
      return Number.isFinite(value) ? value : NaN;
    });
    at += planes * rows;
    return values;
  };
  const integers = ({ low, bits, planes }, guess) => {
    const values = new Float64Array(rows);
    const above = at + Math.ceil((rows * bits) / 8);
    for (let row = 0, from = 0; row < rows; row++) {
      let code = 0;
      for (let bit = 0; bit < bits; bit++, from++) code |= ((bytes[at + (from >>> 3)] >>> (from & 7)) & 1) << bit;
      values[row] = code;
    }
    for (let plane = 0; plane < planes; plane++) {
      const [from, scale] = [above + plane * rows, 2 ** (8 * plane + bits)];
      for (let row = 0; row < rows; row++) values[row] += bytes[from + row] * scale;
    }
    at = above + rows * planes;
    for (let row = 0; row < rows; row++) values[row] = values[row] === 0 ? NaN : values[row] - 1 + low + guess(row);
    return values;
  };
  return (head, guess = () => 0) => {
    const values = head.digits === undefined ? exact(head.planes) : integers(head, guess);
    return { ...head, values };
  };
};
// The number in a row of a column.
const valueOf = ({ values, digits }, row) => (digits === undefined ? values[row] : digits < 0 ? values[row] * 10 ** -digits : values[row] / 10 ** digits);
// The same as text. A spare digit is for sorting, and is not shown.
const textOf = (column, row) => {
  const { values, digits, spare } = column;
  if (Number.isNaN(values[row])) return "–";
  if (digits === undefined || digits < 0) return valueOf(column, row).toPrecision(3);
  if (!spare) return valueOf(column, row).toFixed(digits);
  const rounded = Math.sign(values[row]) * Math.floor((Math.abs(values[row]) + 5) / 10);
  return (rounded / 10 ** (digits - 1)).toFixed(digits - 1);
};
