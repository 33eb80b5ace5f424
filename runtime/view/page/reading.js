// Pictures of places in rows and columns that are read out: the place under the pointer, or that of the keys, once a picture has the focus.
import { h } from "./dom.js";

// `size()` is how many rows, columns and places there are, and `under(event)` the place below the pointer: a row and a column, or null. `tell` is
// given the place that is read, null where none is, and `choose` that of a click, of Enter or of the space bar. The result reads out a place, as keys do.
export function readOut(element, { size, under, tell, choose = null }) {
  let at = null; // of the keys
  const read = (place) => tell((at = place));
  const pick = (place) => place && choose?.(place);
  element.setAttribute("tabindex", "0");
  element.addEventListener("pointermove", (event) => tell(under(event)));
  element.addEventListener("pointerleave", () => tell(at));
  element.addEventListener("click", (event) => pick(under(event)));
  element.addEventListener("blur", () => read(null));
  element.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey) return;
    if ((event.key === "Enter" || event.key === " ") && choose) pick(at);
    else if (event.key === "Escape" && at) read(null);
    else if (MOVES[event.key]) read(inside(MOVES[event.key](at, size(), event.ctrlKey), size()));
    else return;
    event.preventDefault();
    event.stopPropagation(); // on the page, arrows turn to other lines and tabs
  });
  return read;
}

// The first key of an arrow leads to the end where it comes from; Home and End stay in a row, with Ctrl they do not.
const MOVES = {
  ArrowRight: (at) => (at ? [at[0], at[1] + 1] : [0, 0]),
  ArrowLeft: (at, [rows, columns]) => (at ? [at[0], at[1] - 1] : [rows - 1, columns - 1]),
  ArrowDown: (at) => (at ? [at[0] + 1, at[1]] : [0, 0]),
  ArrowUp: (at, [rows, columns]) => (at ? [at[0] - 1, at[1]] : [rows - 1, columns - 1]),
  Home: (at, [, columns], isWhole) => (at && columns > 1 && !isWhole ? [at[0], 0] : [0, 0]),
  End: (at, [rows, columns], isWhole) => (at && columns > 1 && !isWhole ? [at[0], columns - 1] : [rows - 1, columns - 1]),
};

// The last row may not be full.
function inside([row, column], [rows, columns, count]) {
  const y = Math.max(0, Math.min(rows - 1, row));
  return [y, Math.max(0, Math.min(columns - 1, count - 1 - y * columns, column))];
}

// The words for a place: screen readers say them as they change.
export const readingOf = (tag, name) => h(tag, { class: name, "aria-live": "polite" });

// A canvas with a frame around the place that is read, whose cells are so wide and high. Returns both, and a function that moves the frame.
export function framed(canvas, width, height) {
  const frame = h("i", { class: "at", hidden: true });
  Object.assign(frame.style, { width: `${width}px`, height: `${height}px` });
  const move = (place) => {
    frame.hidden = !place;
    if (place) Object.assign(frame.style, { top: `${place[0] * height}px`, left: `${place[1] * width}px` });
  };
  return [h("span", { class: "framed" }, canvas, frame), move];
}
