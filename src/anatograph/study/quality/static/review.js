// The reader's verdicts on scans: kept in this browser until they are exported as review.csv.
"use strict";
class Reviews {
  // key: of the study, shared by all pages about it; known: what review.csv held when the page was written.
  constructor(key, known) {
    this.key = `anatograph-review-${key}`;
    try { this.kept = JSON.parse(localStorage.getItem(this.key) || "{}") } catch { this.kept = {} }
    this.all = Object.assign(Object.create(null), known, this.kept);
    this.unsaved = Object.keys(this.kept).length > 0;
  }
  get(id) { return this.all[id] || { verdict: "", comment: "" } }
  set(id, change) {
    this.all[id] = this.kept[id] = { ...this.get(id), ...change };
    this.unsaved = true;
    try { localStorage.setItem(this.key, JSON.stringify(this.kept)) } catch { /* private windows keep nothing */ }
  }
  count(ids, verdict) { return ids.filter(id => this.get(id).verdict === verdict).length }
  // One line of text: a comment is one cell of a table.
  static line(text) { return text.replace(/\s+/g, " ").trim() }
  static quoted(text) { return '"' + text.replaceAll('"', '""').replace(/^[=+@\t\r-]/, " $&") + '"' }
  csv() {
    const lines = ["subject_id,verdict,comment"];
    for (const id of Object.keys(this.all).sort()) {
      const { verdict, comment } = this.all[id];
      if (verdict || comment) lines.push([id, verdict, comment ? Reviews.quoted(comment) : ""].join(","));
    }
    return lines.join("\n") + "\n";
  }
  save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([this.csv()], { type: "text/csv" }));
    link.download = "review.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    this.unsaved = false;
  }
}
