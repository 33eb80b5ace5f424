
; Where a library has no threads of its own: in place of `team.ll` and `turns.ll`. From one barrier to the next, each worker
; takes its share in a task: the caller's `parallel` calls all of them, or the only one is called here. At %sync stand
; `parallel`, its context, the number of workers, what the tasks are given (program, arenas, last line, batch), the state of
; the first worker, that of the second, how far apart the others are, and whether some task was not called once.
; A state is as in `turns.ll`; its third word is followed by the number of tasks that the worker has taken.

define internal void @barrier(ptr %sync, i32 %thread, i32 %threads) nounwind {
  ret void
}

define internal ptr @state_of(ptr %sync, i32 %worker) nounwind {
  %first.at = getelementptr i64, ptr %sync, i64 7
  %first = load ptr, ptr %first.at, align 8
  %second.at = getelementptr i64, ptr %sync, i64 8
  %second = load ptr, ptr %second.at, align 8
  %apart.at = getelementptr i64, ptr %sync, i64 9
  %apart = load i64, ptr %apart.at, align 8
  %wide = zext i32 %worker to i64
  %before = sub i64 %wide, 1
  %offset = mul i64 %before, %apart
  %other = getelementptr i8, ptr %second, i64 %offset
  %is.first = icmp eq i32 %worker, 0
  %state = select i1 %is.first, ptr %first, ptr %other
  ret ptr %state
}

; The task of a worker: its share of all lines up to the next barrier, whatever thread this is.
define internal void @take(ptr %sync, i32 %worker) nounwind {
  %workers.at = getelementptr i64, ptr %sync, i64 2
  %workers = load i32, ptr %workers.at, align 8
  %is.known = icmp ult i32 %worker, %workers
  br i1 %is.known, label %known, label %done
known:
  %abi.at = getelementptr i64, ptr %sync, i64 3
  %abi = load ptr, ptr %abi.at, align 8
  %arenas.at = getelementptr i64, ptr %sync, i64 4
  %arenas = load ptr, ptr %arenas.at, align 8
  %to.at = getelementptr i64, ptr %sync, i64 5
  %to = load i64, ptr %to.at, align 8
  %batch.at = getelementptr i64, ptr %sync, i64 6
  %batch = load i64, ptr %batch.at, align 8
  %state = call ptr @state_of(ptr %sync, i32 %worker)
  %line = load i64, ptr %state, align 8
  %taken.at = getelementptr i64, ptr %state, i64 3
  %taken = load i64, ptr %taken.at, align 8
  %taken.now = add i64 %taken, 1
  store i64 %taken.now, ptr %taken.at, align 8
  %mode = call i32 @enter_mode()
  call void @entries(ptr %abi, ptr %arenas, i64 %line, i64 %to, i64 %batch, i32 %worker, i32 %workers, ptr %sync,
                     ptr %state)
  call void @leave_mode(i32 %mode)
  br label %done
done:
  ret void
}

; As `entries`, for all workers.
define internal void @turns(ptr %abi, ptr %arenas, i64 %from, i64 %to, i64 %batch, i32 %thread, i32 %threads,
                            ptr %sync) nounwind {
entry:
  %abi.at = getelementptr i64, ptr %sync, i64 3
  store ptr %abi, ptr %abi.at, align 8
  %arenas.at = getelementptr i64, ptr %sync, i64 4
  store ptr %arenas, ptr %arenas.at, align 8
  %to.at = getelementptr i64, ptr %sync, i64 5
  store i64 %to, ptr %to.at, align 8
  %batch.at = getelementptr i64, ptr %sync, i64 6
  store i64 %batch, ptr %batch.at, align 8
  %failed.at = getelementptr i64, ptr %sync, i64 10
  %parallel = load ptr, ptr %sync, align 8
  %context.at = getelementptr i64, ptr %sync, i64 1
  %context = load ptr, ptr %context.at, align 8
  %is.alone = icmp eq i32 %threads, 1
  %failed.before = load i64, ptr %failed.at, align 8
  %may.run = icmp eq i64 %failed.before, 0
  br i1 %may.run, label %start, label %done
start:
  %s = phi i32 [ 0, %entry ], [ %s.next, %start ]
  %start.state = call ptr @state_of(ptr %sync, i32 %s)
  store i64 %from, ptr %start.state, align 8
  %start.depth = getelementptr i64, ptr %start.state, i64 1
  store i64 0, ptr %start.depth, align 8
  %start.taken = getelementptr i64, ptr %start.state, i64 3
  store i64 0, ptr %start.taken, align 8
  %s.next = add i32 %s, 1
  %unset = icmp ult i32 %s.next, %threads
  br i1 %unset, label %start, label %stretch
stretch:
  %round = phi i64 [ 0, %start ], [ %round.next, %met ]
  %round.next = add i64 %round, 1
  br i1 %is.alone, label %serial, label %parallel.for
serial:
  call void @take(ptr %sync, i32 0)
  br label %check
parallel.for:
  call void %parallel(ptr %context, i32 %threads, ptr @take, ptr %sync)
  br label %check
check:
  %c = phi i32 [ 0, %serial ], [ 0, %parallel.for ], [ %c.next, %same ]
  %c.state = call ptr @state_of(ptr %sync, i32 %c)
  %c.taken.at = getelementptr i64, ptr %c.state, i64 3
  %c.taken = load i64, ptr %c.taken.at, align 8
  %is.same = icmp eq i64 %c.taken, %round.next
  br i1 %is.same, label %same, label %fail
same:
  %c.next = add i32 %c, 1
  %others = icmp ult i32 %c.next, %threads
  br i1 %others, label %check, label %met
met:
  %first = call ptr @state_of(ptr %sync, i32 0)
  %reached = load i64, ptr %first, align 8
  %more = icmp slt i64 %reached, %to
  br i1 %more, label %stretch, label %done
fail:
  store i64 1, ptr %failed.at, align 8
  br label %done
done:
  ret void
}
