/** The widest tile. */
const MAX_ASPECT = 16 / 9;
/** The narrowest tile on a screen held upright, where faces fill it as they do on every phone. */
const MIN_ASPECT_UPRIGHT = 9 / 16;
/** The narrowest tile on a wide screen, where most cameras are wide too: less would crop them to the nose. */
const MIN_ASPECT_WIDE = 1;
/** The most tiles at a time, as many as there are video slots. */
export const MAX_TILES = 25;

export interface Size {
  width: number;
  height: number;
}

/** The size of each of `count` equal tiles that fills the area best. The order never changes: only sizes do. */
export function tileSize(area: Size, count: number, gap: number): Size {
  let best: Size = { width: 0, height: 0 };
  const minAspect = area.height > area.width ? MIN_ASPECT_UPRIGHT : MIN_ASPECT_WIDE;
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const cell = {
      width: (area.width - gap * (columns - 1)) / columns,
      height: (area.height - gap * (rows - 1)) / rows,
    };
    const tile = count === 1 ? cell : fit(cell, minAspect);
    if (tile.width * tile.height > best.width * best.height) best = tile;
  }
  return { width: Math.floor(best.width), height: Math.floor(best.height) };
}

/** The largest tile of a pleasant shape in a cell. */
function fit(cell: Size, minAspect: number): Size {
  if (cell.width <= 0 || cell.height <= 0) return { width: 0, height: 0 };
  const aspect = cell.width / cell.height;
  if (aspect > MAX_ASPECT) return { width: cell.height * MAX_ASPECT, height: cell.height };
  if (aspect < minAspect) return { width: cell.width, height: cell.width / minAspect };
  return cell;
}
