"""Writes `club.npz`: the members of a karate club, who of them met outside of it, and the two clubs that it became.

Run it from this folder: `python make_data.py`. Wayne W. Zachary, "An information flow model for conflict and fission in
small groups", 1977: member 0 is the instructor, member 33 the president. The side of each member is his observed one,
after the split (table 1).
"""

from __future__ import annotations

import numpy as np

# Of each member, those with a higher number whom he met.
MET = {
    0: "1 2 3 4 5 6 7 8 10 11 12 13 17 19 21 31",
    1: "2 3 7 13 17 19 21 30",
    2: "3 7 8 9 13 27 28 32",
    3: "7 12 13",
    4: "6 10",
    5: "6 10 16",
    6: "16",
    8: "30 32 33",
    9: "33",
    13: "33",
    14: "32 33",
    15: "32 33",
    18: "32 33",
    19: "33",
    20: "32 33",
    22: "32 33",
    23: "25 27 29 32 33",
    24: "25 27 31",
    25: "31",
    26: "29 33",
    27: "33",
    28: "31 33",
    29: "32 33",
    30: "32 33",
    31: "32 33",
    32: "33",
}
INSTRUCTOR = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 16, 17, 19, 21)
MEMBERS, LABELLED = 34, (0, 33)


def main() -> None:
    pairs = np.array([(one, int(other)) for one, others in MET.items() for other in others.split()], np.int32)
    members = np.arange(MEMBERS)
    np.savez_compressed(
        "club.npz",
        pairs=pairs[None],  # one row: the whole graph
        side=np.where(np.isin(members, INSTRUCTOR), 0, 1).astype(np.int32)[None],
        labelled=np.isin(members, LABELLED)[None],
    )


if __name__ == "__main__":
    main()
