// The graph of the whole model, with a search over its boxes and the backward pass beside it.
import { h } from "./dom.js";
import { graphOf } from "./graph.js";

export function graphViewOf(app, root) {
  const graph = graphOf(app, root);
  const hits = h("span", { class: "quiet", role: "status" });
  const input = h("input", { id: "graph-search", type: "search", value: app.graphSearch ?? "", placeholder: "name, operation, or line 12", ariaLabel: "find in the graph" });
  const search = () => {
    if (!app.graphSearch) app.openByHand = new Set(app.openBoxes);
    app.graphSearch = input.value;
    app.openBoxes.clear(); // those of the text that was there before are closed again
    app.openByHand.forEach((key) => app.openBoxes.add(key));
    const found = foundIn(root, input.value);
    app.foundBoxes = new Set(found.map((level) => level.key));
    openAround(root, app.foundBoxes, app.openBoxes);
    graph.draw();
    hits.textContent = input.value ? `${found.length} ${found.length === 1 ? "box" : "boxes"}` : "";
    graph.querySelector(".box.found")?.scrollIntoView({ block: "center" });
  };
  let next = 0;
  input.addEventListener("input", search);
  input.addEventListener("keydown", (event) => {
    const boxes = graph.querySelectorAll(".box.found");
    if (event.key === "Enter" && boxes.length) boxes[++next % boxes.length].scrollIntoView({ block: "center" });
    if (event.key === "Escape") {
      input.value = "";
      search();
      input.blur();
    }
    event.stopPropagation();
  });
  const both = h("input", { type: "checkbox", checked: Boolean(app.showsBackward), onchange: () => { app.showsBackward = !app.showsBackward; graph.draw(); } });
  if (app.graphSearch) hits.textContent = `${app.foundBoxes.size} ${app.foundBoxes.size === 1 ? "box" : "boxes"}`;
  return h("div", {}, h("div", { class: "tools graph-tools" }, input, hits, root.slopes ? h("label", {}, both, "backward beside forward") : ""), graph);
}

// The boxes with a text in their name, path or operations, or of a line; the outermost of several with one name.
function foundIn(root, text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return [];
  const line = wanted.match(/^(?:line )?(\d+)$/)?.[1];
  const found = [];
  const look = (level) => {
    const isOfLine = line && level.at && level.at[1] <= Number(line) && Number(line) <= level.at[2];
    const words = [level.name, ...level.paths, ...(level.operations ?? []).map(([name]) => name)];
    if (isOfLine || (!line && words.some((word) => word.toLowerCase().includes(wanted)))) found.push(level);
    level.parts.forEach(look);
  };
  root.parts.forEach(look);
  return found;
}

// Opens what lies around the boxes with these keys; whether one of them is in the level.
function openAround(level, keys, open) {
  const inside = level.parts.map((part) => openAround(part, keys, open)).some(Boolean);
  if (inside && level.key) open.add(level.key);
  return inside || keys.has(level.key);
}
