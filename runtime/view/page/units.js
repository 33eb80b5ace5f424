// Numbers as people read them; the same units as on the command line.

function scaled(value, base, units) {
  let power = 0;
  while (Math.abs(value) >= base && power < units.length - 1) {
    value /= base;
    power += 1;
  }
  return [value.toFixed(power ? 1 : 0), units[power]];
}

export const amount = (value) => scaled(value, 1000, ["", "k", "M", "G", "T", "P"]);
export const bytes = (value) => scaled(value, 1024, ["B", "KB", "MB", "GB", "TB"]);

export function duration(ms) {
  if (ms >= 1000) return [(ms / 1000).toFixed(2), "s"];
  if (ms >= 1) return [ms.toFixed(ms >= 100 ? 0 : ms >= 10 ? 1 : 2), "ms"];
  return [(ms * 1000).toFixed(ms >= 0.01 ? 0 : 1), "µs"];
}

export const joined = ([value, unit]) => (unit ? `${value} ${unit}` : value);

// `617 kFLOP`, and `9 FLOP`.
export const operations = (value) => amount(value).join(" ").concat("FLOP");

export function share(part) {
  if (part > 0 && part < 0.0005) return "<0.1 %";
  return part >= 0.9995 && part < 1 ? ">99.9 %" : `${(part * 100).toFixed(1)} %`;
}

export const whole = (value) => Math.round(value).toLocaleString("en-US");

// `1 row` and `1,797 rows`.
export const counted = (number, what) => `${whole(number)} ${what}${number === 1 ? "" : "s"}`;

// A loss or a metric with four significant places, as the command line has it.
export function measure(value) {
  if (value === null || value === undefined) return "—";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 0.01 && size < 1000) return value.toFixed(4);
  return size >= 1e5 || size < 1e-4 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}
