"""Writes questions.txt: questions of many forms, each with what an answer would be in front of it."""

from itertools import product
from pathlib import Path

import numpy as np

PEOPLE = "the captain, the first settlers, an old fisherman, your sister, the inventor, two tall dancers, the new mayor"
THINGS = "the bridge, a small telescope, the red car, this song, an orange tree, the lighthouse, the school, a violin"
PLACES = "the harbour, the old town, a village in the north, the park, the capital, the island"
TALKS = "Do you know, Can you tell me, I wonder, Please find out, We would like to hear"
FORMS = {
    "person": ["who built {thing}", "who paid for {thing} in {place}", "which person gave {thing} to {person}",
               "what is the name of the woman who saw {person}", "whom did {person} meet near {place}"],
    "place": ["where can I see {thing}", "where did {person} grow up", "in which town is {thing}",
              "what country does {person} come from", "where near {place} did {person} leave {thing}"],
    "time": ["when was {thing} finished", "in what year did {person} leave {place}", "how long ago was {thing} sold",
             "what day did {person} come to {place}", "since when does {person} own {thing}"],
    "number": ["how many people live in {place}", "how much did {person} pay for {thing}",
               "how far is it from {place} to {thing}", "what is the price of {thing}", "how often does {person} sing"],
    "reason": ["why did {person} sell {thing}", "what made {person} move to {place}",
               "for what reason is {thing} closed", "why does nobody in {place} like {thing}",
               "what is {thing} good for"],
}  # fmt: skip
ROWS = 1500


def main() -> None:
    words = {"person": PEOPLE.split(", "), "thing": THINGS.split(", "), "place": PLACES.split(", ")}
    made: set[str] = set()
    for label, forms in FORMS.items():
        for form, person, thing, place in product(forms, *(words[name] for name in ("person", "thing", "place"))):
            question = form.format(person=person, thing=thing, place=place)
            made.add(f"{label} {question[0].upper()}{question[1:]} ?")
            made |= {f"{label} {talk} {question} ?" for talk in TALKS.split(", ")}
    chosen = np.random.default_rng(0).permutation(sorted(made))[:ROWS]
    Path(__file__).with_name("questions.txt").write_text("\n".join(chosen) + "\n")


if __name__ == "__main__":
    main()
