; The native loop that runs a table of kernels: a template of `runner.py`, which fills in the words that begin with a
; dollar sign. Its threads meet and wait in `team.ll`.
$STAMP ; What began with the word for a stamp in the template stands in the runner of a profile alone: see `stamps.ll`.
$TURN ; What began with the word for a turn stands where a thread returns at a barrier, in place of what began with the word for
$TURN ; a team: see `turns.ll`, and `alone.ll`.
$PACE ; What began with the word for a pace stands where a clock is quick to read: shares follow the speeds of the threads.

declare double @llvm.fabs.f64(double)
declare double @llvm.maxnum.f64(double, double)
declare double @llvm.minnum.f64(double, double)

; The processor's mode while programs run: rounding to nearest, subnormal numbers kept, no traps, whatever the caller's is.
define internal i32 @enter_mode() nounwind {
  $X86 %cell = alloca i32, align 4
  $X86 call void @llvm.x86.sse.stmxcsr(ptr %cell)
  $X86 %old = load i32, ptr %cell, align 4
  $X86 store i32 8064, ptr %cell, align 4
  $X86 call void @llvm.x86.sse.ldmxcsr(ptr %cell)
  $X86 ret i32 %old
  $ARM %before = call i64 @llvm.aarch64.get.fpcr()
  $ARM call void @llvm.aarch64.set.fpcr(i64 0)
  $ARM %old = trunc i64 %before to i32
  $ARM ret i32 %old
  $OTHER ret i32 0
}

define internal void @leave_mode(i32 %old) nounwind {
  $X86 %cell = alloca i32, align 4
  $X86 store i32 %old, ptr %cell, align 4
  $X86 call void @llvm.x86.sse.ldmxcsr(ptr %cell)
  $X86 ret void
  $ARM %before = zext i32 %old to i64
  $ARM call void @llvm.aarch64.set.fpcr(i64 %before)
  $ARM ret void
  $OTHER ret void
}

$COUNTER declare i64 @llvm.readcyclecounter()
$COUNTER define internal i64 @clock() nounwind {
  $COUNTER %now = call i64 @llvm.readcyclecounter()
  $COUNTER ret i64 %now
$COUNTER }
$TIMER declare i64 @llvm.read_volatile_register.i64(metadata)
$TIMER declare void @llvm.aarch64.isb(i32)
$TIMER define internal i64 @clock() nounwind {
  $TIMER call void @llvm.aarch64.isb(i32 15)
  $TIMER %now = call i64 @llvm.read_volatile_register.i64(metadata !{!"cntvct_el0"})
  $TIMER ret i64 %now
$TIMER }
$SYSTEM declare i32 @clock_gettime(i32, ptr)
$SYSTEM define internal i64 @clock() nounwind {
  $SYSTEM %time = alloca [2 x i64], align 8
  $SYSTEM %ignored = call i32 @clock_gettime(i32 1, ptr %time)
  $SYSTEM %seconds = load i64, ptr %time, align 8
  $SYSTEM %rest.at = getelementptr i64, ptr %time, i64 1
  $SYSTEM %rest = load i64, ptr %rest.at, align 8
  $SYSTEM %whole = mul i64 %seconds, 1000000000
  $SYSTEM %now = add i64 %whole, %rest
  $SYSTEM ret i64 %now
$SYSTEM }

; How much of all items stands before the share of %thread, of $WHOLE: as much for each, but for what @balance moved.
define internal i64 @share(ptr %sync, i32 %thread, i32 %threads) nounwind {
entry:
  %before = zext i32 %thread to i64
  %all = zext i32 %threads to i64
  %product = mul i64 %before, $WHOLE
  %short = sub i64 %all, 1
  %padded = add i64 %product, %short
  %even = udiv i64 %padded, %all
  $PACE %behind = sub i64 %before, 1
  $PACE %is.inner = icmp ult i64 %behind, %short
  $PACE br i1 %is.inner, label %inner, label %done
$PACE inner:
  $PACE %offset = shl i64 %behind, 6
  $PACE %paces = getelementptr i8, ptr %sync, i64 $PACES
  $PACE %moved.at = getelementptr i8, ptr %paces, i64 %offset
  $PACE %moved = load i64, ptr %moved.at, align 8
  $PACE %uneven = add i64 %even, %moved
  $PACE br label %done
$PACE done:
  $PACE %place = phi i64 [ %even, %entry ], [ %uneven, %inner ]
  $PACE ret i64 %place
  $EVEN ret i64 %even
}

; The first item behind a share of so many items.
define internal i64 @item(i64 %items, i64 %share) nounwind {
  %product = mul i64 %items, %share
  %half = add i64 %product, $ALMOST_HALF
  %item = lshr i64 %half, $WHOLE_BITS
  ret i64 %item
}

$PACE ; Note how long a thread took for its share, as if it had been exactly that: what it took by item, times that.
$PACE define internal void @note(ptr %sync, i32 %thread, i64 %spent, i64 %took, i64 %items, i64 %low, i64 %high) nounwind {
  $PACE %number = zext i32 %thread to i64
  $PACE %offset = shl i64 %number, 6
  $PACE %paces = getelementptr i8, ptr %sync, i64 $PACES
  $PACE %line = getelementptr i8, ptr %paces, i64 %offset
  $PACE %busy.at = getelementptr i64, ptr %line, i64 1
  $PACE %busy = load double, ptr %busy.at, align 8
  $PACE %share = sub i64 %high, %low
  $PACE %part = uitofp i64 %share to double
  $PACE %exact = fdiv double %part, $WHOLE.0
  $PACE %all = uitofp i64 %items to double
  $PACE %due = fmul double %exact, %all
  $PACE %done = uitofp i64 %took to double
  $PACE %ratio = fdiv double %due, %done
  $PACE %time = uitofp i64 %spent to double
  $PACE %scaled = fmul double %time, %ratio
  $PACE %sum = fadd double %busy, %scaled
  $PACE store double %sum, ptr %busy.at, align 8
  $PACE ret void
$PACE }

$PACE ; Between two steps: shares halfway to those with which the threads, as fast as they were, would have ended together.
$PACE ; Differences below 5 % are taken for noise, and no thread gets less than a quarter of an even share, or more than four.
$PACE define internal void @balance(ptr %sync, i32 %threads) nounwind {
$PACE entry:
  $PACE %paces = getelementptr i8, ptr %sync, i64 $PACES
  $PACE %all = zext i32 %threads to i64
  $PACE %count = uitofp i64 %all to double
  $PACE %is.team = icmp ugt i32 %threads, 1
  $PACE %first.at = getelementptr i64, ptr %paces, i64 1
  $PACE %first = load double, ptr %first.at, align 8
  $PACE %is.long = fcmp oge double %first, $PERIOD
  $PACE %is.due = and i1 %is.team, %is.long
  $PACE br i1 %is.due, label %measure, label %done
$PACE measure:
  $PACE %m = phi i64 [ 0, %entry ], [ %m.next, %measure ]
  $PACE %speeds = phi double [ 0.0, %entry ], [ %speeds.next, %measure ]
  $PACE %m.offset = shl i64 %m, 6
  $PACE %m.line = getelementptr i8, ptr %paces, i64 %m.offset
  $PACE %m.busy.at = getelementptr i64, ptr %m.line, i64 1
  $PACE %m.busy = load double, ptr %m.busy.at, align 8
  $PACE %m.thread = trunc i64 %m to i32
  $PACE %m.after = add i32 %m.thread, 1
  $PACE %m.low = call i64 @share(ptr %sync, i32 %m.thread, i32 %threads)
  $PACE %m.high = call i64 @share(ptr %sync, i32 %m.after, i32 %threads)
  $PACE %m.share = sub i64 %m.high, %m.low
  $PACE %m.part = uitofp i64 %m.share to double
  $PACE %m.whole = fdiv double %m.part, $WHOLE.0
  $PACE %m.had = fmul double %m.whole, %count ; 1 is an even share
  $PACE %m.speed = fdiv double %m.had, %m.busy
  $PACE %m.had.at = getelementptr i64, ptr %m.line, i64 2
  $PACE store double %m.had, ptr %m.had.at, align 8
  $PACE %m.speed.at = getelementptr i64, ptr %m.line, i64 3
  $PACE store double %m.speed, ptr %m.speed.at, align 8
  $PACE store double 0.0, ptr %m.busy.at, align 8
  $PACE %speeds.next = fadd double %speeds, %m.speed
  $PACE %m.next = add i64 %m, 1
  $PACE %m.more = icmp ult i64 %m.next, %all
  $PACE br i1 %m.more, label %measure, label %judge
$PACE judge:
  $PACE %is.known = fcmp olt double %speeds.next, 0x7FF0000000000000 ; each thread had something to do
  $PACE br i1 %is.known, label %want, label %done
$PACE want:
  $PACE %w = phi i64 [ 0, %judge ], [ %w.next, %want ]
  $PACE %wants = phi double [ 0.0, %judge ], [ %wants.next, %want ]
  $PACE %furthest = phi double [ 0.0, %judge ], [ %furthest.next, %want ]
  $PACE %w.offset = shl i64 %w, 6
  $PACE %w.line = getelementptr i8, ptr %paces, i64 %w.offset
  $PACE %w.had.at = getelementptr i64, ptr %w.line, i64 2
  $PACE %w.had = load double, ptr %w.had.at, align 8
  $PACE %w.speed.at = getelementptr i64, ptr %w.line, i64 3
  $PACE %w.speed = load double, ptr %w.speed.at, align 8
  $PACE %w.part = fdiv double %w.speed, %speeds.next
  $PACE %w.fair = fmul double %w.part, %count
  $PACE %w.off = fsub double %w.fair, 1.0
  $PACE %w.far = call double @llvm.fabs.f64(double %w.off)
  $PACE %furthest.next = call double @llvm.maxnum.f64(double %furthest, double %w.far)
  $PACE %w.sum = fadd double %w.had, %w.fair
  $PACE %w.half = fmul double %w.sum, 0.5
  $PACE %w.least = call double @llvm.maxnum.f64(double %w.half, double 0.25)
  $PACE %w.want = call double @llvm.minnum.f64(double %w.least, double 4.0)
  $PACE store double %w.want, ptr %w.had.at, align 8
  $PACE %wants.next = fadd double %wants, %w.want
  $PACE %w.next = add i64 %w, 1
  $PACE %w.more = icmp ult i64 %w.next, %all
  $PACE br i1 %w.more, label %want, label %decide
$PACE decide:
  $PACE %is.uneven = fcmp oge double %furthest.next, 0.05
  $PACE br label %move
$PACE move:
  $PACE %v = phi i64 [ 0, %decide ], [ %v.next, %move ]
  $PACE %before = phi double [ 0.0, %decide ], [ %before.next, %move ]
  $PACE %v.offset = shl i64 %v, 6
  $PACE %v.line = getelementptr i8, ptr %paces, i64 %v.offset
  $PACE %v.want.at = getelementptr i64, ptr %v.line, i64 2
  $PACE %v.want = load double, ptr %v.want.at, align 8
  $PACE %before.next = fadd double %before, %v.want
  $PACE %v.part = fdiv double %before.next, %wants.next
  $PACE %v.scaled = fmul double %v.part, $WHOLE.0
  $PACE %v.place = fptosi double %v.scaled to i64
  $PACE store i64 0, ptr %v.line, align 8
  $PACE %v.after = trunc i64 %v to i32
  $PACE %v.thread = add i32 %v.after, 1
  $PACE %v.even = call i64 @share(ptr %sync, i32 %v.thread, i32 %threads)
  $PACE %v.moved = sub i64 %v.place, %v.even
  $PACE %v.chosen = select i1 %is.uneven, i64 %v.moved, i64 0
  $PACE store i64 %v.chosen, ptr %v.line, align 8
  $PACE %v.next = add i64 %v, 1
  $PACE %v.more = icmp ult i64 %v.next, %all
  $PACE br i1 %v.more, label %move, label %done
$PACE done:
  $PACE ret void
$PACE }

; Write the pointers and numbers that the kernels' arguments are.
define internal void @resolve(ptr %abi, ptr %arenas, ptr %inputs, ptr %outputs, i64 %batch, i64 %capacity) nounwind {
entry:
  %table.at = getelementptr i64, ptr %abi, i64 3
  %table = load ptr, ptr %table.at, align 8
  %count.at = getelementptr i64, ptr %abi, i64 4
  %count = load i64, ptr %count.at, align 8
  %offset.at = getelementptr i64, ptr %abi, i64 5
  %offset = load i64, ptr %offset.at, align 8
  %control = load ptr, ptr %arenas, align 8
  %arguments = getelementptr i8, ptr %control, i64 %offset
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %i.next, %store ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %body, label %done
body:
  %row = mul i64 %i, 3
  %kind.at = getelementptr i64, ptr %table, i64 %row
  %kind = load i64, ptr %kind.at, align 8
  %base.at = getelementptr i64, ptr %kind.at, i64 1
  %base = load i64, ptr %base.at, align 8
  %slope.at = getelementptr i64, ptr %kind.at, i64 2
  %slope = load i64, ptr %slope.at, align 8
  switch i64 %kind, label %arena [ i64 -1, label %number
                                   i64 -2, label %input
                                   i64 -3, label %output ]
number:
  %grown = mul i64 %slope, %batch
  %sum = add i64 %base, %grown
  br label %store
input:
  %input.at = getelementptr i64, ptr %inputs, i64 %base
  %input.word = load i64, ptr %input.at, align 8
  br label %store
output:
  %output.at = getelementptr i64, ptr %outputs, i64 %base
  %output.word = load i64, ptr %output.at, align 8
  br label %store
arena:
  %arena.at = getelementptr i64, ptr %arenas, i64 %kind
  %arena.word = load i64, ptr %arena.at, align 8
  %shift = mul i64 %slope, %capacity
  %near = add i64 %arena.word, %base
  %far = add i64 %near, %shift
  br label %store
store:
  %word = phi i64 [ %sum, %number ], [ %input.word, %input ], [ %output.word, %output ], [ %far, %arena ]
  %target = getelementptr i64, ptr %arguments, i64 %i
  store i64 %word, ptr %target, align 8
  %i.next = add i64 %i, 1
  br label %head
done:
  ret void
}

$TEAM ; Tell whoever looks at the control block that all threads are done with the lines before %line.
$TEAM define internal void @tell(ptr %control, i32 %thread, i64 %line) nounwind {
$TEAM entry:
  $TEAM %is.first = icmp eq i32 %thread, 0
  $TEAM br i1 %is.first, label %store, label %done
$TEAM store:
  $TEAM %line.at = getelementptr i64, ptr %control, i64 $LINE_REACHED
  $TEAM store atomic i64 %line, ptr %line.at release, align 8
  $TEAM br label %done
$TEAM done:
  $TEAM ret void
$TEAM }

; One pass over the table from line %from up to line %to.
define internal void @entries(ptr %abi, ptr %arenas, i64 %from, i64 %to, i64 %batch, i32 %thread, i32 %threads,
                              ptr %sync$STATE) nounwind {
entry:
  %table.at = getelementptr i64, ptr %abi, i64 1
  %table = load ptr, ptr %table.at, align 8
  %offset.at = getelementptr i64, ptr %abi, i64 5
  %offset = load i64, ptr %offset.at, align 8
  %control = load ptr, ptr %arenas, align 8
  %arguments = getelementptr i8, ptr %control, i64 %offset
  $TEAM %scratch.size.at = getelementptr i64, ptr %abi, i64 6
  $TEAM %scratch.size = load i64, ptr %scratch.size.at, align 8
  $TEAM %scratches.at = getelementptr i64, ptr %arenas, i64 3
  $TEAM %scratches = load ptr, ptr %scratches.at, align 8
  %thread.wide = zext i32 %thread to i64
  %thread.after = add i32 %thread, 1
  %share.low = call i64 @share(ptr %sync, i32 %thread, i32 %threads)
  %share.high = call i64 @share(ptr %sync, i32 %thread.after, i32 %threads)
  $PACE %is.team = icmp ugt i32 %threads, 1
  $TEAM %scratch.offset = mul i64 %thread.wide, %scratch.size
  $TEAM %scratch = getelementptr i8, ptr %scratches, i64 %scratch.offset
  $TURN %scratch.at = getelementptr i64, ptr %state, i64 2
  $TURN %scratch = load ptr, ptr %scratch.at, align 8
  %advances.at = getelementptr i64, ptr %abi, i64 8
  %advances = load ptr, ptr %advances.at, align 8
  %width.at = getelementptr i64, ptr %abi, i64 9
  %width = load i64, ptr %width.at, align 8
  %most.at = getelementptr i64, ptr %abi, i64 10
  %most = load i64, ptr %most.at, align 8
  $TEAM %counters = alloca i64, i64 %width, align 8
  $TURN %counters = getelementptr i64, ptr %state, i64 $COUNTERS
  $TURN %depth.at = getelementptr i64, ptr %state, i64 1
  $TURN %depth.start = load i64, ptr %depth.at, align 8
  %moved = alloca i64, i64 %most, align 8
  br label %head
head:
  %i = phi i64 [ %from, %entry ], [ %i.next, %next ]
  $TEAM %depth = phi i64 [ 0, %entry ], [ %depth.next, %next ]
  $TURN %depth = phi i64 [ %depth.start, %entry ], [ %depth.next, %next ]
  $TURN %has.run = phi i1 [ false, %entry ], [ true, %next ] ; the barrier in front of the first line is passed
  %shard = phi i64 [ 0, %entry ], [ %shard.next, %next ]
  %shard.stop = phi i64 [ 0, %entry ], [ %shard.stop.next, %next ]
  %shards = phi i64 [ 0, %entry ], [ %shards.next, %next ] ; 0 outside of chains
  %more = icmp slt i64 %i, %to
  br i1 %more, label %body, label %done
body:
  %row = shl i64 %i, 3
  %function.at = getelementptr i64, ptr %table, i64 %row
  %function = load ptr, ptr %function.at, align 8
  %first.at = getelementptr i64, ptr %function.at, i64 1
  %first = load i64, ptr %first.at, align 8
  %base.at = getelementptr i64, ptr %function.at, i64 2
  %base = load i64, ptr %base.at, align 8
  %is.mark = icmp eq ptr %function, null
  br i1 %is.mark, label %mark, label %kernel
mark:
  %kind.at = getelementptr i64, ptr %function.at, i64 6
  %kind = load i64, ptr %kind.at, align 8
  %last.bit = and i64 %kind, 4
  %is.end = icmp ne i64 %last.bit, 0
  %chain.bit = and i64 %kind, 8
  %is.chain = icmp ne i64 %chain.bit, 0
  br i1 %is.chain, label %chain, label %loop
chain:
  br i1 %is.end, label %another, label %begin
begin:
  %meets.bit = and i64 %kind, 1
  %meets = icmp ne i64 %meets.bit, 0
  br i1 %meets, label %await.shards, label %take
await.shards:
  $STAMP %shards.wait = call i64 @ticks()
  $TEAM call void @barrier(ptr %sync, i32 %thread, i32 %threads)
  $TURN br i1 %has.run, label %leave, label %passed.shards
  $TURN passed.shards:
  $STAMP call void @stamp(ptr %abi, i32 %thread, i64 %i, i64 %shards.wait, i64 0, i64 $WAITS, i64 -1)
  $TEAM call void @tell(ptr %control, i32 %thread, i64 %i)
  br label %take
take:
  %shards.slope.at = getelementptr i64, ptr %function.at, i64 3
  %shards.slope = load i64, ptr %shards.slope.at, align 8
  %shards.grown = mul i64 %shards.slope, %batch
  %shards.all = add i64 %base, %shards.grown
  %shard.first = call i64 @item(i64 %shards.all, i64 %share.low)
  %shard.end = call i64 @item(i64 %shards.all, i64 %share.high)
  %is.idle = icmp sge i64 %shard.first, %shard.end
  store i64 0, ptr %counters, align 8 ; arguments that move do so from shard to shard
  %take.shards = select i1 %is.idle, i64 0, i64 %shards.all
  %take.from = select i1 %is.idle, i64 %first, i64 %i
  br label %next
another:
  %shard.after = add i64 %shard, 1
  %has.shard = icmp slt i64 %shard.after, %shard.stop
  %shards.done = load i64, ptr %counters, align 8
  %shards.more = add i64 %shards.done, 1
  store i64 %shards.more, ptr %counters, align 8
  %another.shards = select i1 %has.shard, i64 %shards, i64 0
  %another.from = select i1 %has.shard, i64 %first, i64 %i
  br label %next
loop:
  br i1 %is.end, label %repeat, label %enter
enter:
  %counter.new = getelementptr i64, ptr %counters, i64 %depth
  store i64 0, ptr %counter.new, align 8
  %deeper = add i64 %depth, 1
  %is.empty = icmp sle i64 %base, 0
  %enter.depth = select i1 %is.empty, i64 %depth, i64 %deeper
  %enter.from = select i1 %is.empty, i64 %first, i64 %i
  br label %next
repeat:
  %outer = sub i64 %depth, 1
  %counter.at = getelementptr i64, ptr %counters, i64 %outer
  %counter = load i64, ptr %counter.at, align 8
  %counter.next = add i64 %counter, 1
  store i64 %counter.next, ptr %counter.at, align 8
  %again = icmp slt i64 %counter.next, %base
  %repeat.depth = select i1 %again, i64 %depth, i64 %outer
  %repeat.from = select i1 %again, i64 %first, i64 %i
  br label %next
kernel:
  %slope.at = getelementptr i64, ptr %function.at, i64 3
  %slope = load i64, ptr %slope.at, align 8
  %chunk.at = getelementptr i64, ptr %function.at, i64 4
  %chunk = load i64, ptr %chunk.at, align 8
  %factor.at = getelementptr i64, ptr %function.at, i64 5
  %factor = load i64, ptr %factor.at, align 8
  %flags.at = getelementptr i64, ptr %function.at, i64 6
  %flags = load i64, ptr %flags.at, align 8
  %barrier.bit = and i64 %flags, 1
  %has.barrier = icmp ne i64 %barrier.bit, 0
  br i1 %has.barrier, label %meet, label %share
meet:
  $STAMP %wait = call i64 @ticks()
  $TEAM call void @barrier(ptr %sync, i32 %thread, i32 %threads)
  $TURN br i1 %has.run, label %leave, label %passed
  $TURN passed:
  $STAMP call void @stamp(ptr %abi, i32 %thread, i64 %i, i64 %wait, i64 0, i64 $WAITS, i64 -1)
  $TEAM call void @tell(ptr %control, i32 %thread, i64 %i)
  br label %share
share:
  %grown = mul i64 %slope, %batch
  %extent = add i64 %base, %grown
  %short = sub i64 %chunk, 1
  %padded = add i64 %extent, %short
  %chunks = udiv i64 %padded, %chunk
  %items = mul i64 %chunks, %factor
  %parallel.bit = and i64 %flags, 2
  %is.parallel = icmp ne i64 %parallel.bit, 0
  %has.shards = icmp ne i64 %shards, 0
  br i1 %has.shards, label %own, label %whole
own:
  %own.low = mul i64 %items, %shard
  %own.begin = udiv i64 %own.low, %shards
  %own.shard = add i64 %shard, 1
  %own.high = mul i64 %items, %own.shard
  %own.end = udiv i64 %own.high, %shards
  br label %go
whole:
  br i1 %is.parallel, label %split, label %alone
split:
  %low = call i64 @item(i64 %items, i64 %share.low)
  %high = call i64 @item(i64 %items, i64 %share.high)
  br label %go
alone:
  %queue = lshr i64 %flags, $QUEUE_BITS
  %team = zext i32 %threads to i64
  %owner = urem i64 %queue, %team
  %is.own = icmp eq i64 %owner, %thread.wide
  %all = select i1 %is.own, i64 %items, i64 0
  br label %go
go:
  %begin.item = phi i64 [ %low, %split ], [ 0, %alone ], [ %own.begin, %own ]
  %end = phi i64 [ %high, %split ], [ %all, %alone ], [ %own.end, %own ]
  %has.work = icmp slt i64 %begin.item, %end
  br i1 %has.work, label %prepare, label %next
prepare:
  %place = getelementptr i64, ptr %arguments, i64 %first
  %moving.at = getelementptr i64, ptr %function.at, i64 7
  %moving = load i64, ptr %moving.at, align 8
  %moves = icmp ne i64 %moving, 0
  br i1 %moves, label %argument, label %call
argument:
  %k = phi i64 [ 0, %prepare ], [ %k.next, %settled ]
  %word.at = getelementptr i64, ptr %place, i64 %k
  %word = load i64, ptr %word.at, align 8
  %number = add i64 %first, %k
  %line = mul i64 %number, %width
  br label %level
level:
  %d = phi i64 [ 0, %argument ], [ %d.next, %level ]
  %sum = phi i64 [ %word, %argument ], [ %sum.next, %level ]
  %steps.at = getelementptr i64, ptr %counters, i64 %d
  %steps = load i64, ptr %steps.at, align 8
  %advance.place = add i64 %line, %d
  %advance.at = getelementptr i64, ptr %advances, i64 %advance.place
  %advance = load i64, ptr %advance.at, align 8
  %way = mul i64 %steps, %advance
  %sum.next = add i64 %sum, %way
  %d.next = add i64 %d, 1
  %inner = icmp slt i64 %d.next, %depth
  br i1 %inner, label %level, label %settled
settled:
  %moved.at = getelementptr i64, ptr %moved, i64 %k
  store i64 %sum.next, ptr %moved.at, align 8
  %k.next = add i64 %k, 1
  %others = icmp slt i64 %k.next, %moving
  br i1 %others, label %argument, label %call
call:
  %given = phi ptr [ %place, %prepare ], [ %moved, %settled ]
  $STAMP %called = call i64 @ticks()
  $PACE %took = sub i64 %end, %begin.item
  $PACE %is.close = icmp sge i64 %took, 4 ; fewer items do not tell how fast a thread is
  $PACE %is.shared = and i1 %is.parallel, %is.close
  $PACE %is.whole = xor i1 %has.shards, true
  $PACE %is.split = and i1 %is.shared, %is.whole
  $PACE %is.paced = and i1 %is.split, %is.team
  $PACE br i1 %is.paced, label %watch, label %work
$PACE watch:
  $PACE %watched = call i64 @clock()
  $PACE br label %work
$PACE work:
  $PACE %since = phi i64 [ 0, %call ], [ %watched, %watch ]
  call void %function(ptr %given, i64 %begin.item, i64 %end, ptr %scratch)
  $STAMP call void @stamp(ptr %abi, i32 %thread, i64 %i, i64 %called, i64 %begin.item, i64 %end, i64 %shard)
  $PACE br i1 %is.paced, label %note, label %ran
$PACE note:
  $PACE %until = call i64 @clock()
  $PACE %spent = sub i64 %until, %since
  $PACE call void @note(ptr %sync, i32 %thread, i64 %spent, i64 %took, i64 %items, i64 %share.low, i64 %share.high)
  br label %ran
ran:
  br label %next
next:
  %from.here = phi i64 [ %enter.from, %enter ], [ %repeat.from, %repeat ], [ %take.from, %take ],
                       [ %another.from, %another ], [ %i, %go ], [ %i, %ran ]
  %depth.next = phi i64 [ %enter.depth, %enter ], [ %repeat.depth, %repeat ], [ %depth, %take ],
                        [ %depth, %another ], [ %depth, %go ], [ %depth, %ran ]
  %shard.next = phi i64 [ %shard, %enter ], [ %shard, %repeat ], [ %shard.first, %take ],
                       [ %shard.after, %another ], [ %shard, %go ], [ %shard, %ran ]
  %shard.stop.next = phi i64 [ %shard.stop, %enter ], [ %shard.stop, %repeat ], [ %shard.end, %take ],
                            [ %shard.stop, %another ], [ %shard.stop, %go ], [ %shard.stop, %ran ]
  %shards.next = phi i64 [ %shards, %enter ], [ %shards, %repeat ], [ %take.shards, %take ],
                        [ %another.shards, %another ], [ %shards, %go ], [ %shards, %ran ]
  %i.next = add i64 %from.here, 1
  br label %head
$TURN leave:
  $TURN store i64 %i, ptr %state, align 8
  $TURN store i64 %depth, ptr %depth.at, align 8
  $TURN ret void
done:
  $TURN store i64 %to, ptr %state, align 8
  ret void
}

; All steps of a call, as one thread of the team.
define i32 @dlc_run(ptr %abi, ptr %arenas, ptr %inputs, ptr %outputs, i64 %batch, i64 %capacity,
                    i32 %thread, i32 %threads, ptr %sync) nounwind {
entry:
  %mode = call i32 @enter_mode()
  %control = load ptr, ptr %arenas, align 8
  %count.at = getelementptr i64, ptr %abi, i64 2
  %count = load i64, ptr %count.at, align 8
  %once.at = getelementptr i64, ptr %abi, i64 7
  %once = load i64, ptr %once.at, align 8
  %fresh.at = getelementptr i64, ptr %control, i64 7
  %fresh = load i64, ptr %fresh.at, align 8
  %is.fresh = icmp ne i64 %fresh, 0
  %is.first = icmp eq i32 %thread, 0
  br i1 %is.first, label %prepare, label %meet
prepare:
  call void @resolve(ptr %abi, ptr %arenas, ptr %inputs, ptr %outputs, i64 %batch, i64 %capacity)
  br label %meet
meet:
  br i1 %is.fresh, label %begin, label %head
begin:
  call void @barrier(ptr %sync, i32 %thread, i32 %threads)
  call void @$ENTRIES(ptr %abi, ptr %arenas, i64 0, i64 %once, i64 %batch, i32 %thread, i32 %threads, ptr %sync)
  br label %head
head:
  $STAMP %head.wait = call i64 @ticks()
  call void @barrier(ptr %sync, i32 %thread, i32 %threads)
  $STAMP call void @stamp_around(ptr %abi, i32 %thread, i32 %threads, i64 $HEAD, i64 %head.wait)
  %remaining.at = getelementptr i64, ptr %control, i64 5
  %remaining = load i64, ptr %remaining.at, align 8
  %more = icmp sgt i64 %remaining, 0
  br i1 %more, label %step, label %finish
step:
  call void @$ENTRIES(ptr %abi, ptr %arenas, i64 %once, i64 %count, i64 %batch, i32 %thread, i32 %threads, ptr %sync)
  $STAMP %tail.wait = call i64 @ticks()
  call void @barrier(ptr %sync, i32 %thread, i32 %threads)
  $STAMP call void @stamp_around(ptr %abi, i32 %thread, i32 %threads, i64 $TAIL, i64 %tail.wait)
  br i1 %is.first, label %advance, label %head
advance:
  $PACE call void @balance(ptr %sync, i32 %threads)
  %step.at = getelementptr i64, ptr %control, i64 1
  %step.now = load i64, ptr %step.at, align 8
  %step.next = add i64 %step.now, 1
  store i64 %step.next, ptr %step.at, align 8
  %local.at = getelementptr i64, ptr %control, i64 2
  %local.now = load i64, ptr %local.at, align 8
  %local.next = add i64 %local.now, 1
  store i64 %local.next, ptr %local.at, align 8
  %stop.at = getelementptr i64, ptr %control, i64 6
  $STOPPED %stop = load atomic i64, ptr %stop.at monotonic, align 8
  $ALONE %stop = load i64, ptr %stop.at, align 8
  %stopped = icmp ne i64 %stop, 0
  %fewer = sub i64 %remaining, 1
  %left = select i1 %stopped, i64 0, i64 %fewer
  store i64 %left, ptr %remaining.at, align 8
  br label %head
finish:
  call void @barrier(ptr %sync, i32 %thread, i32 %threads) ; the caller may set up its next call only when all have read %remaining
  call void @leave_mode(i32 %mode)
  ret i32 0
}

; arguments: target, source, bytes of a row, bytes from row to row of the source, control. Gathers the rows of this step
; from the caller's data, where they may overlap, but for those that are read where they lie.
define void @dlc_fetch(ptr %args, i64 %begin, i64 %end, ptr %scratch) nounwind {
entry:
  %target = load ptr, ptr %args, align 8
  %source.at = getelementptr i64, ptr %args, i64 1
  %source = load ptr, ptr %source.at, align 8
  %bytes.at = getelementptr i64, ptr %args, i64 2
  %bytes = load i64, ptr %bytes.at, align 8
  %stride.at = getelementptr i64, ptr %args, i64 3
  %stride = load i64, ptr %stride.at, align 8
  %control.at = getelementptr i64, ptr %args, i64 4
  %control = load ptr, ptr %control.at, align 8
  %local.at = getelementptr i64, ptr %control, i64 2
  %local = load i64, ptr %local.at, align 8
  %batch.at = getelementptr i64, ptr %control, i64 3
  %batch = load i64, ptr %batch.at, align 8
  %rows.at = getelementptr i64, ptr %control, i64 4
  %rows = load ptr, ptr %rows.at, align 8
  %start = mul i64 %local, %batch
  br label %head
head:
  %r = phi i64 [ %begin, %entry ], [ %r.next, %next ]
  %more = icmp slt i64 %r, %end
  br i1 %more, label %body, label %done
body:
  %place = add i64 %start, %r
  %index.at = getelementptr i64, ptr %rows, i64 %place
  %index = load i64, ptr %index.at, align 8
  %from = mul i64 %index, %stride
  %source.row = getelementptr i8, ptr %source, i64 %from
  %to = mul i64 %r, %bytes
  %target.row = getelementptr i8, ptr %target, i64 %to
  %in.place = icmp eq ptr %target.row, %source.row
  br i1 %in.place, label %next, label %copy
copy:
  call void @llvm.memcpy.p0.p0.i64(ptr %target.row, ptr %source.row, i64 %bytes, i1 false)
  br label %next
next:
  %r.next = add i64 %r, 1
  br label %head
done:
  ret void
}

; arguments: source, target, bytes of a row, rows of a step, control. Hands results to the caller, but for those that
; were made in the caller's memory.
define void @dlc_collect(ptr %args, i64 %begin, i64 %end, ptr %scratch) nounwind {
entry:
  %source = load ptr, ptr %args, align 8
  %target.at = getelementptr i64, ptr %args, i64 1
  %target = load ptr, ptr %target.at, align 8
  %bytes.at = getelementptr i64, ptr %args, i64 2
  %bytes = load i64, ptr %bytes.at, align 8
  %each.at = getelementptr i64, ptr %args, i64 3
  %each = load i64, ptr %each.at, align 8
  %control.at = getelementptr i64, ptr %args, i64 4
  %control = load ptr, ptr %control.at, align 8
  %local.at = getelementptr i64, ptr %control, i64 2
  %local = load i64, ptr %local.at, align 8
  %start = mul i64 %local, %each
  %first = add i64 %start, %begin
  %to = mul i64 %first, %bytes
  %target.row = getelementptr i8, ptr %target, i64 %to
  %from = mul i64 %begin, %bytes
  %source.row = getelementptr i8, ptr %source, i64 %from
  %count = sub i64 %end, %begin
  %size = mul i64 %count, %bytes
  %in.place = icmp eq ptr %target.row, %source.row
  br i1 %in.place, label %done, label %copy
copy:
  call void @llvm.memcpy.p0.p0.i64(ptr %target.row, ptr %source.row, i64 %size, i1 false)
  br label %done
done:
  ret void
}

; arguments: target, source, bytes.
define void @dlc_copy(ptr %args, i64 %begin, i64 %end, ptr %scratch) nounwind {
entry:
  %target = load ptr, ptr %args, align 8
  %source.at = getelementptr i64, ptr %args, i64 1
  %source = load ptr, ptr %source.at, align 8
  %bytes.at = getelementptr i64, ptr %args, i64 2
  %bytes = load i64, ptr %bytes.at, align 8
  call void @llvm.memcpy.p0.p0.i64(ptr %target, ptr %source, i64 %bytes, i1 false)
  ret void
}
