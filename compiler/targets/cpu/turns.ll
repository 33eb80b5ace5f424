
; What only the runner has whose first thread takes the shares of all threads in turn: between two barriers that of the
; first, then that of the second, and so on. Each share has the stamps of its own thread.

; As `entries`, for all threads. A state is the line to go on with, how many loops are around it, scratch, and the counters
; of the loops.
define internal void @turns(ptr %abi, ptr %arenas, i64 %from, i64 %to, i64 %batch, i32 %thread, i32 %threads,
                            ptr %sync) nounwind {
entry:
  %width.at = getelementptr i64, ptr %abi, i64 9
  %width = load i64, ptr %width.at, align 8
  %stride = add i64 %width, $COUNTERS
  %scratches.at = getelementptr i64, ptr %arenas, i64 3
  %scratches = load ptr, ptr %scratches.at, align 8
  %wide = zext i32 %threads to i64
  %slots = mul i64 %stride, %wide
  %states = alloca i64, i64 %slots, align 8
  br label %start
start:
  %s = phi i64 [ 0, %entry ], [ %s.next, %start ]
  %start.place = mul i64 %s, %stride
  %start.state = getelementptr i64, ptr %states, i64 %start.place
  store i64 %from, ptr %start.state, align 8
  %start.depth = getelementptr i64, ptr %start.state, i64 1
  store i64 0, ptr %start.depth, align 8
  %start.scratch = getelementptr i64, ptr %start.state, i64 2
  store ptr %scratches, ptr %start.scratch, align 8
  %s.next = add i64 %s, 1
  %unset = icmp ult i64 %s.next, %wide
  br i1 %unset, label %start, label %stretch
stretch:
  br label %turn
turn:
  %t = phi i32 [ 0, %stretch ], [ %t.next, %turn ]
  %t.wide = zext i32 %t to i64
  %place = mul i64 %t.wide, %stride
  %state = getelementptr i64, ptr %states, i64 %place
  %line = load i64, ptr %state, align 8
  call void @entries(ptr %abi, ptr %arenas, i64 %line, i64 %to, i64 %batch, i32 %t, i32 %threads, ptr %sync, ptr %state)
  %t.next = add i32 %t, 1
  %others = icmp ult i32 %t.next, %threads
  br i1 %others, label %turn, label %met
met:
  %reached = load i64, ptr %states, align 8
  %more = icmp slt i64 %reached, %to
  br i1 %more, label %stretch, label %done
done:
  ret void
}

; Stamp a barrier around a step for all threads.
define internal void @stamp_around(ptr %abi, i32 %thread, i32 %threads, i64 %line, i64 %begin) nounwind {
entry:
  br label %each
each:
  %t = phi i32 [ 0, %entry ], [ %t.next, %each ]
  call void @stamp(ptr %abi, i32 %t, i64 %line, i64 %begin, i64 0, i64 $WAITS, i64 -1)
  %t.next = add i32 %t, 1
  %others = icmp ult i32 %t.next, %threads
  br i1 %others, label %each, label %done
done:
  ret void
}
