/** Between a portrait and a widescreen tile: pictures are cropped a little, never much. */
const MIN_ASPECT = 3 / 4;
const MAX_ASPECT = 16 / 9;
/** The most tiles at a time, as many as there are video slots. */
export const MAX_TILES = 25;

export interface Size {
  width: number;
  height: number;
}

/** The size of each of `count` equal tiles that fills the area best. The order never changes: only sizes do. */
export function tileSize(area: Size, count: number, gap: number): Size {
  let best: Size = { width: 0, height: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const cell = {
      width: (area.width - gap * (columns - 1)) / columns,
      height: (area.height - gap * (rows - 1)) / rows,
    };
    const tile = fit(cell, count === 1);
    if (tile.width * tile.height > best.width * best.height) best = tile;
  }
  return { width: Math.floor(best.width), height: Math.floor(best.height) };
}

/** The largest tile of a pleasant shape in a cell; a lone tile takes all there is. */
function fit(cell: Size, alone: boolean): Size {
  if (cell.width <= 0 || cell.height <= 0) return { width: 0, height: 0 };
  if (alone) return cell;
  const aspect = cell.width / cell.height;
  if (aspect > MAX_ASPECT) return { width: cell.height * MAX_ASPECT, height: cell.height };
  if (aspect < MIN_ASPECT) return { width: cell.width, height: cell.width / MIN_ASPECT };
  return cell;
}
