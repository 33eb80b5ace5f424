/* Text as numbers of byte pairs and back, as the library `tokenizers` cuts it for the training. */

const WORDS_WITH_BLANKS =
  /'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/* The sign that stands for each byte in a token: the byte's own where that can be seen, else one from 256 on. */
function signsOfBytes() {
  const isSeen = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let others = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isSeen(byte) ? byte : others++));
}

/* `numbers`: those of the tokens. `merges`: pairs of tokens that are joined, the first ones first. */
function bytePairs(tokens, numbers, merges) {
  const signs = signsOfBytes();
  const bytes = new Map(signs.map((sign, byte) => [sign, byte]));
  const ranks = new Map(merges.map(([left, right], rank) => [`${left} ${right}`, rank]));
  const known = new Map();

  const cut = (word) => {
    const parts = Array.from(new TextEncoder().encode(word), (byte) => signs[byte]);
    for (;;) {
      let least = Infinity;
      let place = 0;
      for (let n = 1; n < parts.length; n++) {
        const rank = ranks.get(`${parts[n - 1]} ${parts[n]}`);
        if (rank < least) [least, place] = [rank, n];
      }
      if (least === Infinity) return parts.flatMap((part) => numbers.get(part) ?? []);
      parts.splice(place - 1, 2, parts[place - 1] + parts[place]);
    }
  };
  return {
    encode: (text) => (text.match(WORDS_WITH_BLANKS) ?? []).flatMap((word) => {
      if (!known.has(word)) known.set(word, cut(word));
      return known.get(word);
    }),
    /* Token by token to text: bytes wait until they are a whole character. */
    writer: () => {
      const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
      const bytesOf = (number) => Uint8Array.from(tokens[number] ?? "", (sign) => bytes.get(sign));
      return {
        add: (number) => decoder.decode(number < page.special ? new Uint8Array() : bytesOf(number), { stream: true }),
        end: () => decoder.decode(),
      };
    },
  };
}

