
// ---- the data of figures, as links
const showFigureData = async () => {
  const tables = json(await unpack("packed-figures"));
  for (const link of document.querySelectorAll("a[data-table]")) {
    link.href = `data:text/csv;charset=utf-8,${encodeURIComponent(tables[link.dataset.table])}`;
    link.hidden = false;
  }
};
showFigureData();
