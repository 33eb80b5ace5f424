// Colours the cells of a notebook that begin with `%%dl`, as they are typed. JupyterLab 4 loads this file as
// it is: it asks their own copies of CodeMirror for what it needs, so nothing is built or bundled.

"use strict";

(() => {
  const WORDS = [["documentation", "##(?!#).*"], ["comment", "#.*"], ["string", "\"(?:[^\"\\\\\\n]|\\\\.)*\"?"], ["number", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))[0-9]+(?:\\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"], ["declaration", "^(?:optimizer|generate|schedule|import|sample|const|layer|model|train|init|test|fn)(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?=[ \\t]+(?:[\\p{L}_][\\p{L}\\p{N}_]*|\"))"], ["keyword", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))param(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?=[ \\t]+[\\p{L}_][\\p{L}\\p{N}_]*[ \\t]*:)"], ["keyword", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))state(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?=[ \\t]+[\\p{L}_][\\p{L}\\p{N}_]*[ \\t]*[:=])"], ["keyword", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))input(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?=[ \\t]+[\\p{L}_][\\p{L}\\p{N}_]*[ \\t]*:)"], ["keyword", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))target(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?=[ \\t]+[\\p{L}_][\\p{L}\\p{N}_]*[ \\t]*:)"], ["keyword", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))output(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?=[ \\t]+[\\p{L}_][\\p{L}\\p{N}_]*[ \\t]*[=,])"], ["keyword", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))loss(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?=[ \\t]+[\\p{L}_][\\p{L}\\p{N}_]*[ \\t]*=(?!=))"], ["keyword", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))view(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?=[ \\t]+[\\p{L}_][\\p{L}\\p{N}_]*[ \\t]*(?:,|=(?!=)))"], ["keyword", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))augment(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?=[ \\t]*\\{)"], ["keyword", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))update(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?=[ \\t]+[\\p{L}_][\\p{L}\\p{N}_]*[ \\t]*\\{)"], ["keyword", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))feed(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?=[ \\t]+[\\p{L}_][\\p{L}\\p{N}_]*[ \\t]+from(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_])))"], ["keyword", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))from(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?=[ \\t]+[\\p{L}_][\\p{L}\\p{N}_]*)"], ["keyword", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))gradient(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?=[ \\t]*\\([ \\t]*(?:[\\p{L}_][\\p{L}\\p{N}_]*[ \\t]*,[ \\t]*)*[\\p{L}_][\\p{L}\\p{N}_]*[ \\t]*\\)[ \\t]*(?:=|\\{))"], ["keyword", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))padded(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?=[ \\t]+by(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_])))"], ["keyword", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))by(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?=[ \\t]+[\\p{L}_][\\p{L}\\p{N}_]*)"], ["keyword", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))over(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?=[ \\t]+[\\p{L}_][\\p{L}\\p{N}_]*|[ \\t]+[\\d\\[(-])"], ["keyword", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))carry(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?=[ \\t]+[\\p{L}_][\\p{L}\\p{N}_]*[ \\t]*=)"], ["keyword", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))until(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?=[ \\t]+[\\p{L}_][\\p{L}\\p{N}_]*|[ \\t]+[\\d\\[(-])"], ["literal", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?:false|None|none|true)(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))"], ["keyword", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))(?:return|else|emit|scan|and|for|not|if|in|or)(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))"], ["type", "(?<=: )(?:schedule|string|float|layer|axis|bf16|bool|bool|init|f16|f32|f64|i16|i32|i64|int|u16|u32|u64|fn|i8|u8)(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))"], ["setting", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))[\\p{L}_][\\p{L}\\p{N}_]*(?=[ \\t]*=(?!=))"], ["function", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))[\\p{L}_][\\p{L}\\p{N}_]*(?=[ \\t]*\\()"], ["function", "(?<=\\|> )[\\p{L}_][\\p{L}\\p{N}_]*"], ["name", "(?:(?<=[\\p{L}\\p{N}_])(?![\\p{L}\\p{N}_])|(?<![\\p{L}\\p{N}_])(?=[\\p{L}\\p{N}_]))[\\p{L}_][\\p{L}\\p{N}_]*"], ["operator", "\\.\\.\\.|!=|->|\\.\\.|//|<-|<=|==|>=|\\|>|%|\\(|\\)|\\*|\\+|,|-|\\.|/|:|<|=|>|@|\\[|\\]|\\^|\\{|\\}"]];
  const COLOURS = {
    documentation: "comment",
    comment: "comment",
    string: "string",
    number: "number",
    declaration: "keyword",
    keyword: "keyword",
    literal: "atom",
    type: "builtin",
    setting: "property",
    function: "def",
    name: "variable",
    operator: "operator",
    magic: "meta",
  };
  const CELL = /^\s*%%dl(?=\s|$)[^\n]*/;
  const EXPRESSION = new RegExp(WORDS.map(([, expression]) => `(${expression})`).join("|"), "gmu");

  // The words of a text with their classes: the first place in a line where one matches, and of several the first class.
  function words(text) {
    const found = [];
    for (const match of text.matchAll(EXPRESSION)) {
      const number = match.findIndex((group, index) => index > 0 && group !== undefined);
      if (match[0]) found.push([match.index, match.index + match[0].length, WORDS[number - 1][0]]);
    }
    return found;
  }

  function highlighter({ Decoration, EditorView, ViewPlugin }, { Prec }) {
    const marks = {};
    const theme = {};
    for (const [name, colour] of Object.entries(COLOURS)) {
      marks[name] = Decoration.mark({ class: `cm-dl-${name}` });
      theme[`.cm-dl-${name}, .cm-dl-${name} span`] = {
        color: `var(--jp-mirror-editor-${colour}-color)`,
        fontWeight: colour === "keyword" ? "bold" : "normal",
        fontStyle: colour === "comment" ? "italic" : "normal",
      };
    }

    function decorations(view) {
      const magic = CELL.exec(view.state.sliceDoc(0, 1000));
      if (magic === null) return Decoration.none;
      const end = magic[0].length;
      const found = [marks.magic.range(magic[0].search(/\S/), end)];
      for (const { from, to } of view.visibleRanges) {
        const start = Math.max(view.state.doc.lineAt(from).from, end);
        const text = view.state.sliceDoc(start, Math.max(view.state.doc.lineAt(to).to, start));
        for (const [first, last, name] of words(text)) found.push(marks[name].range(start + first, start + last));
      }
      return Decoration.set(found, true);
    }

    const plugin = ViewPlugin.define(
      (view) => ({
        decorations: decorations(view),
        update(change) {
          if (change.docChanged || change.viewportChanged) this.decorations = decorations(change.view);
        },
      }),
      { decorations: (value) => value.decorations },
    );
    return [Prec.highest(plugin), EditorView.theme(theme)];
  }

  let shared;

  // A package of the page, in the version that is loaded, or else the first one.
  async function part(name) {
    const versions = Object.values(shared[name] || {});
    if (versions.length === 0) throw new Error(`dlc: this page has no ${name}`);
    return (await (versions.find((version) => version.loaded) || versions[0]).get())();
  }

  async function plugin() {
    const [view, state, { IEditorExtensionRegistry, EditorExtensionRegistry }] = await Promise.all(
      ["@codemirror/view", "@codemirror/state", "@jupyterlab/codemirror"].map(part),
    );
    return {
      id: "dlc-highlighting:plugin",
      description: "Colours cells that begin with %%dl",
      autoStart: true,
      requires: [IEditorExtensionRegistry],
      activate: (_, registry) => {
        const extension = highlighter(view, state);
        const factory = () => EditorExtensionRegistry.createImmutableExtension(extension);
        registry.addExtension(Object.freeze({ name: "dlc:highlighting", factory }));
      },
    };
  }

  const container = {
    init: (scope) => void (shared = scope),
    get: async () => {
      const made = await plugin();
      return () => ({ __esModule: true, default: made });
    },
  };
  if (typeof window === "undefined") module.exports = { words };
  else (window._JUPYTERLAB = window._JUPYTERLAB || {})["dlc-highlighting"] = container;
})();
