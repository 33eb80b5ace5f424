// A run that is there or is training elsewhere: its state, and its curves, which grow.
import { curvesOf } from "./chart.js";
import { h } from "./dom.js";
import { counted } from "./units.js";

export function runOf(app) {
  const { run } = app.model.data;
  const said = ` · ${counted(run.seconds.length, "epoch")}, ${counted(run.step, "step")}${run.best ? `, the best is epoch ${run.best}` : ""}`;
  return h("div", { class: "column" }, h("p", {}, h("b", {}, run.state), h("span", { class: "quiet" }, said)), curvesOf([{ name: app.model.data.title, ...run }]));
}
