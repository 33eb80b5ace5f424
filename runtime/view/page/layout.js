// Boxes of a level to places: in ranks, each below all that it reads and as near to it as its neighbours allow.

const GAP = { across: 28, down: 32, words: 16 }; // `words`: of names and types that stand in the gap between two ranks
const LANE = { first: 8, width: 12 };

// Each entry has a `part` and a size, and gets a rank, `x` and `y`. Returns the flows between entries, the size, and the lanes of flows over several ranks.
export function layoutOf(entries, arrows, top) {
  const byKey = new Map(entries.map((entry) => [entry.part.key, entry]));
  const flows = arrows.filter((arrow) => byKey.has(arrow.from) && byKey.has(arrow.to)).map((arrow) => ({ arrow, from: byKey.get(arrow.from), to: byKey.get(arrow.to) }));
  rankEntries(entries, flows);
  const ranks = [];
  for (const entry of [...entries].sort((one, other) => one.rank - other.rank)) (entry.rank === ranks.at(-1)?.[0].rank ? ranks.at(-1) : ranks[ranks.push([]) - 1]).push(entry);
  for (const row of ranks) arrangeRow(row, flows);
  const left = Math.min(...entries.map((entry) => entry.x));
  for (const entry of entries) entry.x -= left;
  const named = new Set(arrows.filter((arrow) => arrow.from === "" && arrow.input).map((arrow) => byKey.get(arrow.to)));
  const read = new Set(flows.map((flow) => flow.from));
  let down = top;
  ranks.forEach((row, n) => {
    const words = n ? GAP.words * (row.some((entry) => named.has(entry)) + ranks[n - 1].some((entry) => !read.has(entry))) : 0;
    down += words + (n ? GAP.down : 0);
    for (const entry of row) entry.y = down;
    down += Math.max(...row.map((entry) => entry.height));
  });
  return { flows, width: Math.max(...entries.map((entry) => entry.x + entry.width)), height: down, lanes: lanesOf(flows) };
}

// The longest way from a box that reads no other; such a box itself stands just above the first that reads it.
function rankEntries(entries, flows) {
  for (const entry of entries) entry.rank = 0;
  for (let round = 0, moved = true; moved && round < entries.length; round++) {
    moved = false;
    for (const { from, to } of flows) {
      if (to.rank > from.rank || from.rank + 1 >= entries.length) continue; // the bound is reached only by boxes that read each other
      to.rank = from.rank + 1;
      moved = true;
    }
  }
  for (const entry of entries) {
    const readers = flows.filter(({ from }) => from === entry).map(({ to }) => to.rank);
    if (readers.length && !flows.some(({ to }) => to === entry)) entry.rank = Math.max(0, Math.min(...readers) - 1);
  }
}

// Beside each other in the order of what they read, of the rank above if they read any of it; what reads nothing stands to the right.
function arrangeRow(row, flows) {
  const middles = row.map((entry) => {
    const read = flows.filter(({ from, to }) => to === entry && from.rank < entry.rank).map(({ from }) => from);
    const near = read.filter((from) => from.rank === entry.rank - 1);
    const those = near.length ? near : read;
    return those.length ? those.reduce((all, from) => all + from.x + from.width / 2, 0) / those.length : null;
  });
  const most = Math.max(0, ...middles.filter((middle) => middle !== null));
  const wanted = new Map(row.map((entry, n) => [entry, middles[n] ?? most]));
  row.sort((one, other) => wanted.get(one) - wanted.get(other));
  let across = 0;
  for (const entry of row) {
    entry.x = across;
    across += entry.width + GAP.across;
  }
  const aside = row.reduce((all, entry) => all + wanted.get(entry) - entry.x - entry.width / 2, 0) / row.length;
  for (const entry of row) entry.x += aside;
  for (const entry of row) entry.isLast = entry === row.at(-1);
}

export const isLong = ({ from, to }) => to.rank - from.rank > 1;

// How far to the right of all boxes the flows of an entry go down that pass over ranks: lanes are shared where they do not meet.
function lanesOf(flows) {
  const ends = new Map();
  for (const flow of flows.filter(isLong)) ends.set(flow.from, Math.max(ends.get(flow.from) ?? 0, flow.to.rank));
  const taken = []; // the last rank of each lane
  const lanes = new Map();
  for (const [from, last] of [...ends].sort(([one], [other]) => one.rank - other.rank)) {
    const free = taken.findIndex((end) => end < from.rank);
    const lane = free < 0 ? taken.length : free;
    taken[lane] = last;
    lanes.set(from, LANE.first + LANE.width * lane);
  }
  return lanes;
}

// Right angles with round corners through points.
export function roundedPath(points, radius = 6) {
  const parts = [`M${points[0].x} ${points[0].y}`];
  for (let n = 1; n < points.length - 1; n++) {
    const [before, at, after] = [points[n - 1], points[n], points[n + 1]];
    const near = (one) => {
      const far = Math.hypot(one.x - at.x, one.y - at.y) || 1;
      const by = Math.min(radius, far / 2) / far;
      return `${at.x + (one.x - at.x) * by} ${at.y + (one.y - at.y) * by}`;
    };
    parts.push(`L${near(before)} Q${at.x} ${at.y} ${near(after)}`);
  }
  return `${parts.join(" ")} L${points.at(-1).x} ${points.at(-1).y}`;
}
