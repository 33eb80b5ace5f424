// A page on a server: its text can be edited, and follows; a step can be measured; nothing is saved unless asked.
import { ENDED, asked, showsVersion } from "./asking.js";
import { byId, h, harmless } from "./dom.js";

export class Live {
  constructor(app, state) {
    this.app = app;
    this.state = state;
    this.base = state.saves; // which text of the file this page began with
    showsVersion(state.version);
    this.text = null; // while it is edited
    this.unsent = null; // a newer text than the server was given
    this.isSending = false;
    app.isLive = true;
    app.tabs = [...app.tabs, "Values"];
    app.codeSource = async (symbol, stage) => {
      const answer = await asked(`/code/${encodeURIComponent(symbol)}`);
      const said = await answer.json();
      if (!answer.ok) throw new Error(`${said.error}: ${said.fix}`);
      return said[stage];
    };
    this.status = h("span", { class: "state", role: "status" });
    this.buttons = h("div", { class: "switch" }, this.status, this.saveButton(), this.editButton(), h("button", { title: "measure a step (p)", onclick: () => this.measure() }, "Measure"));
    byId("views").after(this.buttons);
    this.refresh();
    this.events = new EventSource("/events");
    this.events.addEventListener("whole", (event) => this.becameWhole(JSON.parse(event.data)));
    this.events.addEventListener("changed", (event) => this.becameOther(JSON.parse(event.data)));
    this.events.addEventListener("run", (event) => {
      this.app.model.data.run = JSON.parse(event.data);
      if (this.app.view === "Run") this.app.refresh();
    });
    this.events.addEventListener("failed", (event) => this.say(JSON.parse(event.data).message, true));
    this.events.addEventListener("closed", () => {
      this.events.close();
      this.refuse(ENDED);
    });
    this.events.addEventListener("error", () => this.refuse(ENDED));
    this.events.addEventListener("open", () => {
      this.stays = false;
      this.refresh();
    });
    window.addEventListener("resize", () => this.place());
  }

  editButton() {
    this.edits = h("button", { title: "edit the text (e)", onclick: () => this.toggleEdit() }, "Edit");
    return this.edits;
  }

  saveButton() {
    this.saves = h("button", { title: "write the file (Ctrl-S)", onclick: () => this.save() }, "Save");
    return this.saves;
  }

  // An answer of the user's asking `stays` until more is typed, whatever other answers come behind it.
  say(text, isWarning = false, stays = false) {
    this.stays = stays;
    this.status.textContent = harmless(text);
    this.status.classList.toggle("stale", isWarning);
  }

  refresh() {
    this.edits.hidden = !this.state.editable;
    this.edits.setAttribute("aria-pressed", String(this.text !== null));
    this.edits.textContent = this.text === null ? "Edit" : "Done";
    this.saves.hidden = this.state.saved;
    if (this.stays) return;
    if (!this.state.whole && !this.app.model.data.findings.some((finding) => finding.severity === "error")) this.say("making code …");
    else this.say("");
  }

  take(document) {
    if (document.live.version < this.state.version) return; // an answer that was overtaken
    this.state = document.live;
    showsVersion(this.state.version);
    this.app.take(document);
    this.refresh();
    if (this.text === null) return;
    if (this.text !== document.sources[0].text) this.app.echo(this.text); // more was typed meanwhile
    this.overlay();
  }

  async becameWhole({ version }) {
    if (version !== this.state.version || this.state.whole) return;
    await this.follow();
  }

  // Another editor has saved the file, or another page edits, while nothing is edited here.
  async becameOther({ version }) {
    if (this.text !== null || version < this.state.version) return;
    if (await this.follow()) this.base = this.state.saves;
  }

  async follow() {
    const answer = await asked("/document");
    if (answer.ok) this.take(await answer.json());
    return answer.ok;
  }

  // Sends a text at once, or when the text before it is answered; of those that are typed meanwhile, only the last.
  async send(text) {
    this.unsent = text;
    if (this.isSending) return;
    this.isSending = true;
    try {
      while (this.unsent !== null) {
        const body = { text: this.unsent };
        this.unsent = null;
        const answer = await asked("/text", body);
        const said = await answer.json();
        if (answer.ok) this.take(said);
        else this.refuse(said);
      }
    } finally {
      this.isSending = false;
    }
  }

  async save() {
    const text = this.text ?? this.app.model.data.sources[0].text;
    const answer = await asked("/save", { text, over: this.base });
    const said = await answer.json();
    if (!answer.ok) return this.refuse(said);
    this.state.saved = true;
    this.base = said.saves;
    this.refresh();
    return this.say("saved", false, true);
  }

  refuse(said) {
    this.say(said.fix ? `${said.error}: ${said.fix}` : said.error, true, true);
  }

  async measure() {
    this.say("measuring …");
    const version = this.state.version;
    const answer = await asked("/profile", {});
    const said = await answer.json();
    if (!answer.ok) return this.refuse(said);
    if (version !== this.state.version) return this.say("the text has changed since");
    this.app.take({ ...this.app.model.data, profile: said });
    this.refresh();
    if (this.text !== null) this.overlay();
    return undefined;
  }

  // A text that is edited lies above the coloured one, letter upon letter.

  toggleEdit() {
    if (this.text === null) {
      this.text = this.app.model.data.sources[0].text;
      byId("ledger").classList.add("editing");
      this.app.view = "Ledger";
      this.app.take(this.app.model.data);
      this.overlay();
      this.area.focus();
    } else {
      this.send(this.text);
      this.text = null;
      this.area.remove();
      this.area = null;
      byId("ledger").classList.remove("editing");
      this.app.take(this.app.model.data);
    }
    this.refresh();
  }

  overlay() {
    if (!this.area) {
      this.area = h("textarea", { class: "over", spellcheck: false, ariaLabel: "the text of the model", value: this.text, oninput: () => this.changed(), onkeydown: (event) => this.key(event) });
      this.area.setAttribute("autocapitalize", "off");
    }
    if (!this.area.isConnected) byId("rows").append(this.area);
    this.place();
  }

  place() {
    if (!this.area) return;
    const lines = document.querySelectorAll("[id^='line-0-'] .t");
    const first = lines[0]?.getBoundingClientRect();
    const last = lines[lines.length - 1]?.getBoundingClientRect();
    const around = byId("rows").getBoundingClientRect();
    if (!first) return;
    const { scrollTop, scrollLeft } = byId("rows");
    Object.assign(this.area.style, { top: `${first.top - around.top + scrollTop}px`, left: `${first.left - around.left + scrollLeft}px`,
      width: `${first.width}px`, height: `${last.bottom - first.top + 44}px` });
  }

  changed() {
    this.text = this.area.value;
    this.stays = false;
    this.state.saved = false;
    this.saves.hidden = false;
    this.app.echo(this.text);
    this.place();
    this.send(this.text);
  }

  key(event) {
    if (event.key === "Tab") {
      event.preventDefault();
      document.execCommand("insertText", false, "    ");
    }
    if (event.key === "Escape") this.toggleEdit();
    if ((event.ctrlKey || event.metaKey) && event.key === "s") {
      event.preventDefault();
      this.save();
    }
    event.stopPropagation();
  }
}
