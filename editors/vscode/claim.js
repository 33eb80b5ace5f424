// `.dl` also ends the names of Datalog programs: a file is a model if its first word, after blanks and comments, begins
// a declaration. The same rule as `begins_with_declaration` of the compiler.

"use strict";

const BEGINNING = /^(?:\s|#[^\n]*(?:\n|$))*(?:(const|fn|layer|init|model|optimizer|schedule|train|generate|sample|test|import)(?=\s)|$)/;

function isModel(text) {
  return BEGINNING.test(text);
}

module.exports = { isModel };
