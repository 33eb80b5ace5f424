"""The executable of a training whose batches are cut into shards: programs of a shard, their sums, and the update.

Any number of processes that divides the shards among it makes the same bits: each shard is computed by itself, and sums
follow one tree (`shard_tree`). Of a batch of fewer rows than shards, the last shards take no part.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from compiler.frontend.program import FIRST_ROW
from compiler.frontend.update_rules import Accumulation
from compiler.interface import Executable, Peers, Results, Steps, Tensors
from compiler.programs.divided_update import DividedUpdate
from compiler.programs.kinds import ACROSS, KEPT_FOR_LATER
from compiler.programs.shard_exchange import Exchange
from compiler.programs.shard_memory import SummandMemory
from compiler.programs.shard_owners import OwnedUpdate
from compiler.programs.shard_segments import SumsOfShards
from compiler.programs.shard_sums import ShardSums
from compiler.programs.shard_tree import first_rows
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.targets.memory import TensorStore
from compiler.types import DType

_NO_ROWS = np.zeros(1, np.int64)


@record(eq=False)
class ShardPrograms:
    """The programs of a step. `adder` makes the one that adds rows of so many elements of a type,
    and `owned` those of an update of which a process has its part, by its rank and their number.

    `segments` are those of a shard's step, in order: all shards have done one before the next.
    """

    counting: Executable | None  # None where the loss is divided by nothing
    segments: Sequence[Executable]
    updating: Executable
    adder: Callable[[DType, int], Executable]
    owned: Callable[[int, int], OwnedUpdate]


class ShardedExecutable:
    """An update is a step of `batch` rows. `sums` are the tensors that shards have of their own."""

    def __init__(self, programs: ShardPrograms, plan: Accumulation, sums: SumsOfShards) -> None:
        self._programs, self._plan, self._sums = programs, plan, sums
        self._memory: _Memory | None = None

    @property
    def exchange(self) -> Exchange | None:
        """What it sends of its gradients, once it has run."""
        return None if self._memory is None else self._memory.exchange

    def run(self, steps: Steps) -> Results:
        """As the protocol `Executable` says. The sums of metrics come shard by shard."""
        memory = self._memory
        if memory is None or memory.tensors is not steps.tensors or memory.peers is not steps.peers:
            memory = self._memory = _Memory(self._programs, self._plan, self._sums, steps.tensors, steps.peers)
        updates = [self._update(memory, update) for update in steps.each()]
        told = steps.peers.gathered([(update.shards, update.broken) for update in updates])
        return _joined([_of_all(told, k, update) for k, update in enumerate(updates)])

    def _update(self, memory: _Memory, update: Steps) -> _Update:
        starts = first_rows(len(update.rows), self._plan.shards)
        present = min(len(update.rows), self._plan.shards)
        fed = {name for segment in self._sums.segments for name in segment.fed}
        shards: dict[int, _ShardSteps] = {}

        def compute(program: Executable, stores: Sequence[Tensors]) -> Callable[[int, int], None]:
            def of_shard(shard: int, place: int) -> None:
                if shard not in shards:
                    shards[shard] = _ShardSteps(update, starts[shard], starts[shard + 1], fed)
                shards[shard].run(program, stores[place])

            return of_shard

        programs = self._programs
        if programs.counting is not None and self._plan.counts_rows:  # the same for the whole as over its shards
            programs.counting.run(replace(update, tensors=memory.whole, batch=len(update.rows)))
        elif programs.counting is not None and memory.counts is not None:
            memory.counts.add_up(present, programs.counting, compute(programs.counting, memory.counting))
            memory.tensors.note_change()
        for number, program in enumerate(programs.segments):
            memory.sums[number].add_up(present, program, compute(program, memory.segments[number]))
            memory.tensors.note_change()
            for shard in shards.values():
                shard.keep(self._sums.segments[number].kept)
        for sums in memory.sums:
            sums.finish(present)
        memory.tensors.note_change()
        if memory.divided is None:
            updated = programs.updating.run(replace(update, tensors=memory.whole, rows=_NO_ROWS, batch=1))
        else:
            updated = memory.divided.run(update)
        broken = tuple(name for name, _ in updated.nonfinite)
        return _Update({shard: steps.found for shard, steps in shards.items()}, updated, update.first_step, broken)


@record
class _Shard:
    """What the programs of a shard give: results, and the names of those that are not finite."""

    scalars: dict[str, Array]
    arrays: dict[str, Array]
    stacks: dict[str, Array]
    nonfinite: list[str]


class _ShardSteps:
    """The programs of a shard in an update: what they are fed with, and what is `found`.

    Where there are segments, its rows of the inputs `fed` are gathered once, beside the values that segments keep.
    """

    def __init__(self, update: Steps, first: int, end: int, fed: Collection[str]) -> None:
        rows = update.rows[first:end]
        data = {**update.data, FIRST_ROW: np.array(first, np.int64)}
        if fed:
            data.update((name, np.ascontiguousarray(data[name][rows])) for name in fed)
            rows = np.arange(len(rows))
        self._steps = replace(update, data=data, rows=rows, batch=end - first)
        self.found = _Shard({}, {}, {}, [])

    def run(self, program: Executable, tensors: Tensors) -> None:
        results = program.run(replace(self._steps, tensors=tensors))
        kept = {name: array for name, array in results.arrays.items() if name.startswith(KEPT_FOR_LATER)}
        self._steps = replace(self._steps, data={**self._steps.data, **kept})
        self.found.scalars.update(results.scalars)
        self.found.arrays.update((name, array) for name, array in results.arrays.items() if name not in kept)
        self.found.stacks.update((name, array) for name, array in results.stacks.items() if name not in kept)
        own = (KEPT_FOR_LATER, ACROSS)  # a sum, or a value that a later segment looks at or leaves out
        self.found.nonfinite.extend(name for name, _ in results.nonfinite if not name.startswith(own))

    def keep(self, kept: Collection[str]) -> None:
        """Let go of the values that no later segment needs."""
        data = {n: array for n, array in self._steps.data.items() if not n.startswith(KEPT_FOR_LATER) or n in kept}
        self._steps = replace(self._steps, data=data)


@record
class _Update:
    """What an update gives: of its shards by their numbers, and of the whole; `broken` is what is not finite of it."""

    shards: Mapping[int, _Shard]
    whole: Results
    step: int
    broken: tuple[str, ...]


class _Memory:
    """The tensors of shards beside those of a model, for the programs of this process.

    `sums` are those of each segment, which reads the totals of earlier ones.
    """

    def __init__(
        self, programs: ShardPrograms, plan: Accumulation, sums: SumsOfShards, tensors: Tensors, peers: Peers
    ) -> None:
        assert isinstance(tensors, TensorStore)
        self.tensors, self.peers = tensors, peers
        self.exchange = Exchange(peers)
        adding = partial(ShardSums, shards=plan.shards, exchange=self.exchange, peers=peers, adder=programs.adder)
        self.counts = adding(sums.counts) if sums.counts else None
        totals = dict[str, Array]() if self.counts is None else dict(self.counts.total.tensors)
        held: Sequence[SummandMemory] = () if self.counts is None else self.counts.held
        self.counting = [tensors.beside(memory.tensors) for memory in held]
        owned = None if peers.size == 1 else programs.owned(peers.rank, peers.size)
        gradients = None if owned is None else owned.layout.of_gradients
        self.sums: list[ShardSums] = []
        self.segments: list[Sequence[Tensors]] = []
        for specs in sums.of_segments:
            own = adding(specs, owned=gradients)
            self.sums.append(own)
            self.segments.append([tensors.beside({**totals, **memory.tensors}) for memory in own.held])
            totals |= own.total.tensors
        self.whole = tensors.beside(totals)
        self.divided = None if owned is None else DividedUpdate(owned, tensors, totals, self.sums, peers)


def _of_all(
    told: Sequence[Sequence[tuple[Mapping[int, _Shard], tuple[str, ...]]]], number: int, own: _Update
) -> _Update:
    """An update with the shards and the mistakes of which all processes have told."""
    found = [of_process[number] for of_process in told]
    shards = dict(sorted((shard, results) for of_process, _ in found for shard, results in of_process.items()))
    return replace(own, shards=shards, broken=tuple(dict.fromkeys(name for _, names in found for name in names)))


def _joined(updates: Sequence[_Update]) -> Results:
    shards = [shard for update in updates for shard in update.shards.values()]
    nonfinite = [
        pair
        for update in updates
        for pair in (
            *((name, update.step) for shard in update.shards.values() for name in shard.nonfinite),
            *((name, update.step) for name in update.broken),
        )
    ]
    first = updates[0].whole.scalars
    scalars = {name: np.concatenate([update.whole.scalars[name] for update in updates]) for name in first}
    scalars |= {name: np.concatenate([shard.scalars[name] for shard in shards]) for name in shards[0].scalars}
    arrays = {name: np.concatenate([shard.arrays[name] for shard in shards]) for name in shards[0].arrays}
    stacks = {name: np.concatenate([shard.stacks[name] for shard in shards]) for name in shards[0].stacks}
    return Results(scalars, arrays, tuple(dict.fromkeys(nonfinite)), stacks)
