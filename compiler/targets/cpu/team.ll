
; The barrier of a team of threads, their waiting room, and the calls by which they get their jobs: the runner's other half.

declare i32 @llvm.umin.i32(i32, i32)
$FUTEX declare i64 @syscall(i64, ...)
$ULOCK declare i32 @__ulock_wait(i32, ptr, i64, i32)
$ULOCK declare i32 @__ulock_wake(i32, ptr, i64)
$ADDRESS declare i32 @WaitOnAddress(ptr, ptr, i64, i32)
$ADDRESS declare void @WakeByAddressAll(ptr)
declare i32 @$YIELD()

; Sleep while the i32 at %word is %seen; it may end earlier.
define internal void @sleep(ptr %word, i32 %seen) nounwind {
  $FUTEX %ignored = call i64 (i64, ...) @syscall(i64 $FUTEX_CALL, ptr %word, i64 128, i32 %seen, ptr null, ptr null, i64 0)
  $ULOCK %wide = zext i32 %seen to i64
  $ULOCK %ignored = call i32 @__ulock_wait(i32 1, ptr %word, i64 %wide, i32 0)
  $ADDRESS %same = alloca i32, align 4
  $ADDRESS store i32 %seen, ptr %same, align 4
  $ADDRESS %ignored = call i32 @WaitOnAddress(ptr %word, ptr %same, i64 4, i32 -1)
  $OFFER %ignored = call i32 @$YIELD()
  ret void
}

; Wake all that sleep at %word.
define internal void @wake(ptr %word) nounwind {
  $FUTEX %ignored = call i64 (i64, ...) @syscall(i64 $FUTEX_CALL, ptr %word, i64 129, i32 2147483647, ptr null, ptr null, i64 0)
  $ULOCK %ignored = call i32 @__ulock_wake(i32 257, ptr %word, i64 0)
  $ADDRESS call void @WakeByAddressAll(ptr %word)
  ret void
}

; Wait until the i32 at %word differs from %seen: spin first, then sleep. The spin budget shrinks when it was in vain,
; but not below %floor.
define internal void @await(ptr %word, i32 %seen, ptr %sleepers, ptr %budget.at, i32 %floor) nounwind {
entry:
  %budget = load i32, ptr %budget.at, align 4
  br label %spin
spin:
  %n = phi i32 [ 0, %entry ], [ %n.next, %again ], [ %n.next, %offer ]
  %now = load atomic i32, ptr %word acquire, align 4
  %changed = icmp ne i32 %now, %seen
  br i1 %changed, label %quick, label %check
check:
  %spent = icmp sge i32 %n, %budget
  br i1 %spent, label %slow, label %again
again:
  $X86 call void @llvm.x86.sse2.pause()
  $ARM call void @llvm.aarch64.hint(i32 1)
  %n.next = add i32 %n, 1
  %beat = and i32 %n.next, 63
  %is.beat = icmp eq i32 %beat, 0
  br i1 %is.beat, label %offer, label %spin
offer:
  ; where more threads run than there are processors, one that has work may be waiting for this one's
  %offered = call i32 @$YIELD()
  br label %spin
quick:
  %low = icmp slt i32 %budget, 2500
  br i1 %low, label %grow, label %done
grow:
  %more = add i32 %budget, 64
  store i32 %more, ptr %budget.at, align 4
  br label %done
slow:
  %half = lshr i32 %budget, 1
  %less = or i32 %half, %floor
  store i32 %less, ptr %budget.at, align 4
  %one = atomicrmw add ptr %sleepers, i32 1 seq_cst
  br label %doze
doze:
  call void @sleep(ptr %word, i32 %seen)
  %then = load atomic i32, ptr %word acquire, align 4
  %woken = icmp ne i32 %then, %seen
  br i1 %woken, label %up, label %doze
up:
  %gone = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %done
done:
  ret void
}

; Threads arrive in groups of 8, and the last one of a group for all of it: many do not wait in line for one counter.
define internal void @barrier(ptr %sync, i32 %thread, i32 %threads) nounwind {
entry:
  $TEAM %single = icmp eq i32 %threads, 1
  $TURN %single = icmp uge i32 %threads, 1 ; nobody else is there
  br i1 %single, label %done, label %arrive
arrive:
  %generation.at = getelementptr i8, ptr %sync, i64 $GENERATION
  %arrived.at = getelementptr i8, ptr %sync, i64 $ARRIVED
  %sleepers.at = getelementptr i8, ptr %sync, i64 $SLEEPERS
  %generation = load atomic i32, ptr %generation.at acquire, align 4
  %has.groups = icmp ugt i32 %threads, 8
  br i1 %has.groups, label %join, label %root
join:
  %group = lshr i32 %thread, 3
  %group.wide = zext i32 %group to i64
  %group.offset = shl i64 %group.wide, 6
  %paces = getelementptr i8, ptr %sync, i64 $PACES
  %threads.wide = zext i32 %threads to i64
  %lines = shl i64 %threads.wide, 6
  %groups.at = getelementptr i8, ptr %paces, i64 %lines
  %group.at = getelementptr i8, ptr %groups.at, i64 %group.offset
  %group.first = shl i32 %group, 3
  %group.rest = sub i32 %threads, %group.first
  %group.size = call i32 @llvm.umin.i32(i32 %group.rest, i32 8)
  %group.last = sub i32 %group.size, 1
  %group.before = atomicrmw add ptr %group.at, i32 1 acq_rel
  %is.last.of.group = icmp eq i32 %group.before, %group.last
  br i1 %is.last.of.group, label %speak, label %wait
speak:
  store atomic i32 0, ptr %group.at monotonic, align 4
  %threads.up = add i32 %threads, 7
  %groups = lshr i32 %threads.up, 3
  br label %root
root:
  %parties = phi i32 [ %threads, %arrive ], [ %groups, %speak ]
  %before = atomicrmw add ptr %arrived.at, i32 1 acq_rel
  %last = sub i32 %parties, 1
  %is.last = icmp eq i32 %before, %last
  br i1 %is.last, label %release, label %wait
release:
  store atomic i32 0, ptr %arrived.at monotonic, align 4
  %next = add i32 %generation, 1
  store atomic i32 %next, ptr %generation.at seq_cst, align 4
  %sleeping = load atomic i32, ptr %sleepers.at seq_cst, align 4
  %any = icmp ne i32 %sleeping, 0
  br i1 %any, label %rouse, label %done
rouse:
  call void @wake(ptr %generation.at)
  br label %done
wait:
  %budget.at = getelementptr i8, ptr %sync, i64 $BUDGET
  ; the floor is some 30 microseconds, as long as waking a sleeper takes
  call void @await(ptr %generation.at, i32 %generation, ptr %sleepers.at, ptr %budget.at, i32 512)
  br label %done
done:
  ret void
}

; Run the job that the fields describe, as one member of the team.
define internal void @job(ptr %sync, i32 %thread) nounwind {
  %fields = getelementptr i8, ptr %sync, i64 $JOB_FIELDS
  %abi = load ptr, ptr %fields, align 8
  %arenas.at = getelementptr i64, ptr %fields, i64 1
  %arenas = load ptr, ptr %arenas.at, align 8
  %inputs.at = getelementptr i64, ptr %fields, i64 2
  %inputs = load ptr, ptr %inputs.at, align 8
  %outputs.at = getelementptr i64, ptr %fields, i64 3
  %outputs = load ptr, ptr %outputs.at, align 8
  %batch.at = getelementptr i64, ptr %fields, i64 4
  %batch = load i64, ptr %batch.at, align 8
  %capacity.at = getelementptr i64, ptr %fields, i64 5
  %capacity = load i64, ptr %capacity.at, align 8
  %threads.at = getelementptr i64, ptr %fields, i64 6
  %threads = load i64, ptr %threads.at, align 8
  %team = trunc i64 %threads to i32
  %result = call i32 @dlc_run(ptr %abi, ptr %arenas, ptr %inputs, ptr %outputs, i64 %batch, i64 %capacity,
                              i32 %thread, i32 %team, ptr %sync)
  ret void
}

; A member of the team: waits for a job number to change, runs the job, waits again.
define i32 @dlc_worker(ptr %sync, i32 %thread, i32 %known) nounwind {
entry:
  %job.at = getelementptr i8, ptr %sync, i64 $JOB
  %sleepers.at = getelementptr i8, ptr %sync, i64 $JOB_SLEEPERS
  %budget.at = getelementptr i8, ptr %sync, i64 $JOB_BUDGET
  %quit.at = getelementptr i8, ptr %sync, i64 $QUIT
  br label %wait
wait:
  %seen = phi i32 [ %known, %entry ], [ %now, %work ]
  ; the floor outlasts what Python does between calls
  call void @await(ptr %job.at, i32 %seen, ptr %sleepers.at, ptr %budget.at, i32 1024)
  %now = load atomic i32, ptr %job.at acquire, align 4
  %quit = load atomic i32, ptr %quit.at acquire, align 4
  %leave = icmp ne i32 %quit, 0
  br i1 %leave, label %done, label %work
work:
  call void @job(ptr %sync, i32 %thread)
  br label %wait
done:
  ret i32 0
}

; Run the job that the fields describe, as the first member; with several threads, the others are called.
define void @dlc_call(ptr %sync) nounwind {
entry:
  %threads.at = getelementptr i8, ptr %sync, i64 $JOB_THREADS
  %threads = load i64, ptr %threads.at, align 8
  %several = icmp sgt i64 %threads, 1
  br i1 %several, label %announce, label %go
announce:
  call void @dlc_announce(ptr %sync)
  br label %go
go:
  call void @job(ptr %sync, i32 0)
  ret void
}

; Announce a job (or the end, where the quit word is set) to the team.
define void @dlc_announce(ptr %sync) nounwind {
  %job.at = getelementptr i8, ptr %sync, i64 $JOB
  %sleepers.at = getelementptr i8, ptr %sync, i64 $JOB_SLEEPERS
  %before = atomicrmw add ptr %job.at, i32 1 seq_cst
  %sleeping = load atomic i32, ptr %sleepers.at seq_cst, align 4
  %any = icmp ne i32 %sleeping, 0
  br i1 %any, label %rouse, label %done
rouse:
  call void @wake(ptr %job.at)
  br label %done
done:
  ret void
}
