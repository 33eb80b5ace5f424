// Finds the newlines that end a statement: the parser asks for one where a statement can end, and a line that begins
// with `|>` or `}` goes on with the text before it.

#include "tree_sitter/parser.h"

enum TokenType { NEWLINE };

void *tree_sitter_dl_external_scanner_create(void) { return NULL; }

void tree_sitter_dl_external_scanner_destroy(void *payload) { (void)payload; }

unsigned tree_sitter_dl_external_scanner_serialize(void *payload, char *buffer) {
  (void)payload;
  (void)buffer;
  return 0;
}

void tree_sitter_dl_external_scanner_deserialize(void *payload, const char *buffer, unsigned length) {
  (void)payload;
  (void)buffer;
  (void)length;
}

static bool is_blank(int32_t c) { return c == ' ' || c == '\t' || c == '\r'; }

bool tree_sitter_dl_external_scanner_scan(void *payload, TSLexer *lexer, const bool *valid_symbols) {
  (void)payload;
  if (!valid_symbols[NEWLINE]) return false;
  while (is_blank(lexer->lookahead)) lexer->advance(lexer, true);
  if (lexer->lookahead != '\n') return false;
  lexer->advance(lexer, false);
  lexer->mark_end(lexer);
  for (;;) {
    if (is_blank(lexer->lookahead) || lexer->lookahead == '\n') {
      lexer->advance(lexer, false);
    } else if (lexer->lookahead == '#') {
      while (!lexer->eof(lexer) && lexer->lookahead != '\n') lexer->advance(lexer, false);
    } else {
      break;
    }
  }
  if (lexer->eof(lexer) || lexer->lookahead == '}') return false;
  if (lexer->lookahead == '|') {
    lexer->advance(lexer, false);
    if (lexer->lookahead == '>') return false;
  }
  lexer->result_symbol = NEWLINE;
  return true;
}
