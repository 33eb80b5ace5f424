"""The executable of a training whose batches are cut into shards: programs of a shard, their sums, and the update.

Any number of processes that divides the shards among it makes the same bits: each shard is computed by itself, and sums
follow one tree (`shard_tree`). Of a batch of fewer rows than shards, the last shards take no part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from compiler.frontend.program import FIRST_ROW, Accumulation
from compiler.interface import Executable, Peers, Results, Steps, Tensors
from compiler.programs.shard_sums import ShardSums
from compiler.programs.shard_tree import first_rows
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.targets.manifest import TensorSpec
from compiler.targets.memory import TensorStore
from compiler.types import DType

_NO_ROWS = np.zeros(1, np.int64)


@record(eq=False)
class ShardPrograms:
    """The programs of a step. `adder` makes the one that adds rows of so many elements of a type."""

    counting: Executable | None  # None where the loss is divided by nothing
    accumulating: Executable
    updating: Executable
    adder: Callable[[DType, int], Executable]


class ShardedExecutable:
    """An update is a step of `batch` rows. `specs` are the tensors that shards have of their own."""

    def __init__(self, programs: ShardPrograms, plan: Accumulation, specs: Sequence[TensorSpec]) -> None:
        self._programs, self._plan, self._specs = programs, plan, specs
        self._memory: _Memory | None = None

    def run(self, steps: Steps) -> Results:
        """As the protocol `Executable` says. The sums of metrics come shard by shard."""
        memory = self._memory
        if memory is None or memory.tensors is not steps.tensors or memory.peers is not steps.peers:
            memory = self._memory = _Memory(self._programs, self._plan, self._specs, steps.tensors, steps.peers)
        updates = [self._update(memory, update) for update in steps.each()]
        told = steps.peers.gathered([update.shards for update in updates])
        return _joined([replace(update, shards=_in_order(told, k)) for k, update in enumerate(updates)], steps)

    def _update(self, memory: _Memory, update: Steps) -> _Update:
        starts = first_rows(len(update.rows), self._plan.shards)
        present = min(len(update.rows), self._plan.shards)
        found: dict[int, _Shard] = {}

        def compute(program: Executable, stores: Sequence[Tensors]) -> Callable[[int, int], None]:
            def of_shard(shard: int, place: int) -> None:
                rows = update.rows[starts[shard] : starts[shard + 1]]
                data = {**update.data, FIRST_ROW: np.array(starts[shard], np.int64)}
                results = program.run(replace(update, tensors=stores[place], data=data, rows=rows, batch=len(rows)))
                names = [name for name, _ in results.nonfinite]
                before = found[shard].nonfinite if shard in found else []
                found[shard] = _Shard(results.scalars, results.arrays, results.stacks, [*before, *names])

            return of_shard

        programs = self._programs
        if programs.counting is not None and self._plan.counts_rows:  # the same for the whole as over its shards
            programs.counting.run(replace(update, tensors=memory.whole, batch=len(update.rows)))
        elif programs.counting is not None and memory.counts is not None:
            memory.counts.add_up(present, compute(programs.counting, memory.counting))
            memory.tensors.note_change()
        memory.sums.add_up(present, compute(programs.accumulating, memory.accumulating))
        memory.tensors.note_change()
        updated = programs.updating.run(replace(update, tensors=memory.whole, rows=_NO_ROWS, batch=1))
        return _Update(found, updated, update.first_step)


@record
class _Shard:
    """What the programs of a shard give: results of the second, and what is not finite in those of either."""

    scalars: Mapping[str, Array]
    arrays: Mapping[str, Array]
    stacks: Mapping[str, Array]
    nonfinite: list[str]


@record
class _Update:
    """What an update gives: of its shards by their numbers, and of the whole."""

    shards: Mapping[int, _Shard]
    whole: Results
    step: int


class _Memory:
    """The tensors of shards beside those of a model, for the programs of this process."""

    def __init__(
        self, programs: ShardPrograms, plan: Accumulation, specs: Sequence[TensorSpec], tensors: Tensors, peers: Peers
    ) -> None:
        assert isinstance(tensors, TensorStore)
        self.tensors, self.peers = tensors, peers
        names = {Accumulation.count(number) for number in range(plan.counts)}
        of_counts = [spec for spec in specs if spec.name in names]
        self.counts = ShardSums(of_counts, plan.shards, peers, programs.adder) if of_counts else None
        self.sums = ShardSums([s for s in specs if s.name not in names], plan.shards, peers, programs.adder)
        counts = dict[str, Array]() if self.counts is None else self.counts.total.tensors
        held = [] if self.counts is None else self.counts.held
        self.counting = [tensors.beside(memory.tensors) for memory in held]
        self.accumulating = [tensors.beside({**counts, **memory.tensors}) for memory in self.sums.held]
        self.whole = tensors.beside({**counts, **self.sums.total.tensors})


def _in_order(told: Sequence[Sequence[Mapping[int, _Shard]]], update: int) -> Mapping[int, _Shard]:
    """The shards of an update that all processes have told of."""
    return dict(sorted((shard, found) for of_process in told for shard, found in of_process[update].items()))


def _joined(updates: Sequence[_Update], steps: Steps) -> Results:
    shards = [shard for update in updates for shard in update.shards.values()]
    nonfinite = [
        pair
        for update in updates
        for pair in (
            *((name, update.step) for shard in update.shards.values() for name in shard.nonfinite),
            *((name, update.step) for name, _ in update.whole.nonfinite),
        )
    ]
    first = updates[0].whole.scalars
    scalars = {name: np.concatenate([update.whole.scalars[name] for update in updates]) for name in first}
    scalars |= {name: np.concatenate([shard.scalars[name] for shard in shards]) for name in shards[0].scalars}
    arrays = {name: np.concatenate([shard.arrays[name] for shard in shards]) for name in shards[0].arrays}
    stacks = {name: np.concatenate([shard.stacks[name] for shard in shards]) for name in shards[0].stacks}
    return Results(scalars, arrays, tuple(dict.fromkeys(nonfinite)), stacks)
