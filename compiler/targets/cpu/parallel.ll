; The workers of an exported library: a template of `library.py`, as `library.ll` is.

; From this call on, tasks run in a loop of the caller's.
define i32 @$PREFIX_set_parallel(ptr %memory, ptr %parallel, ptr %context, i32 %workers) nounwind {
  %no.memory = icmp eq ptr %memory, null
  br i1 %no.memory, label %null, label %given
given:
  %mark = load i64, ptr %memory, align 8
  %is.ready = icmp eq i64 %mark, $ABI
  br i1 %is.ready, label %ready, label %unready
ready:
  %few = icmp slt i32 %workers, 1
  %many = icmp sgt i32 %workers, $MOST_WORKERS
  %wrong = or i1 %few, %many
  br i1 %wrong, label %wrong.workers, label %counted
counted:
  %is.one = icmp eq i32 %workers, 1
  %has.loop = icmp ne ptr %parallel, null
  %is.given = or i1 %is.one, %has.loop
  br i1 %is.given, label %measure, label %null
measure:
  %rows.at = getelementptr i64, ptr %memory, i64 1
  %rows = load i64, ptr %rows.at, align 8
  %behind = call i64 @$PREFIX_memory(i64 %rows)
  %apart = call i64 @$PREFIX_worker_memory(i64 %rows)
  %wide = zext i32 %workers to i64
  %others = sub i64 %wide, 1
  %added = mul i64 %apart, %others
  %needed = add i64 %behind, %added
  %bytes.at = getelementptr i64, ptr %memory, i64 6
  %bytes = load i64, ptr %bytes.at, align 8
  %is.short = icmp slt i64 %bytes, %needed
  br i1 %is.short, label %too.small, label %seats
seats:
  %begin = getelementptr i8, ptr %memory, i64 %behind
  call void @llvm.memset.p0.i64(ptr %begin, i8 0, i64 %added, i1 false)
  br label %head
head:
  %place = phi i64 [ %behind, %seats ], [ %next, %body ]
  %more = icmp slt i64 %place, %needed
  br i1 %more, label %body, label %seated
body:
  call void @seat(ptr %memory, i64 %place)
  %next = add i64 %place, %apart
  br label %head
seated:
  call void @seat_all(ptr %memory, ptr %parallel, ptr %context, i32 %workers, i64 %behind, i64 %apart)
  ret i32 0
too.small:
  ret i32 2
unready:
  ret i32 4
null:
  ret i32 5
wrong.workers:
  ret i32 9
}
