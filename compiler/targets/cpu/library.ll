; What all functions of an exported library share: a template of `library.py`, which fills in the words that begin with a
; dollar sign. All that changes lies in the caller's memory. It begins with the head: a mark, the most rows of a call, the
; function that ran last, for how many rows that has filled what runs once, the seed, the number of updates, the size of
; the memory, and how many tokens of a sequence the states hold.

declare i64 @llvm.umax.i64(i64, i64)

define internal i64 @rounded(i64 %rows) nounwind {
  %padded = add i64 %rows, $LESS_THAN_ROUNDING
  %whole = and i64 %padded, -$ROUNDING
  %more = add i64 %whole, $ROUNDING
  ret i64 %more
}

; Where values of rows begin, behind scratch.
define internal i64 @batch_place(i64 %rows) nounwind {
  %rounded = call i64 @rounded(i64 %rows)
  %grown = mul i64 %rounded, $SCRATCH_OF_ROW
  %padded = add i64 %grown, 63
  %scratch = and i64 %padded, -64
  %place = add i64 %scratch, $FIXED
  ret i64 %place
}

; Where the numbers of the rows begin, behind their values.
define internal i64 @numbers_place(i64 %rows) nounwind {
  %begin = call i64 @batch_place(i64 %rows)
$VALUES
  %end = add i64 %begin, %values
  ret i64 %end
}

define i64 @$PREFIX_memory(i64 %rows) nounwind {
  %few = icmp slt i64 %rows, 1
  %many = icmp sgt i64 %rows, $MOST_ROWS
  %wrong = or i1 %few, %many
  br i1 %wrong, label %none, label %some
none:
  ret i64 0
some:
  %place = call i64 @numbers_place(i64 %rows)
  %bytes = shl i64 %rows, 3
  %end = add i64 %place, %bytes
  %padded = add i64 %end, 63
  %size = and i64 %padded, -64
  ret i64 %size
}

; The memory of a worker behind the first: its state, and scratch.
define i64 @$PREFIX_worker_memory(i64 %rows) nounwind {
  %few = icmp slt i64 %rows, 1
  %many = icmp sgt i64 %rows, $MOST_ROWS
  %wrong = or i1 %few, %many
  %behind = call i64 @batch_place(i64 %rows)
  %size = sub i64 %behind, $STATE
  %known = select i1 %wrong, i64 0, i64 %size
  ret i64 %known
}

define i32 @$PREFIX_init_abi(i64 %abi, ptr %memory, i64 %bytes, i64 %rows) nounwind {
  %is.known = icmp eq i64 %abi, $ABI
  br i1 %is.known, label %known, label %other.abi
known:
  %is.null = icmp eq ptr %memory, null
  br i1 %is.null, label %no.memory, label %given
given:
  %address = ptrtoint ptr %memory to i64
  %low = and i64 %address, 63
  %is.aligned = icmp eq i64 %low, 0
  br i1 %is.aligned, label %aligned, label %misplaced
aligned:
  %needed = call i64 @$PREFIX_memory(i64 %rows)
  %has.rows = icmp ne i64 %needed, 0
  br i1 %has.rows, label %sized, label %wrong.rows
sized:
  %is.short = icmp slt i64 %bytes, %needed
  br i1 %is.short, label %too.small, label %lay.out
lay.out:
  call void @llvm.memset.p0.i64(ptr %memory, i8 0, i64 %needed, i1 false)
  store i64 $ABI, ptr %memory, align 8
  %rows.at = getelementptr i64, ptr %memory, i64 1
  store i64 %rows, ptr %rows.at, align 8
  %last.at = getelementptr i64, ptr %memory, i64 2
  store i64 -1, ptr %last.at, align 8
  %seed.at = getelementptr i64, ptr %memory, i64 4
  store i64 $SEED, ptr %seed.at, align 8
  %bytes.at = getelementptr i64, ptr %memory, i64 6
  store i64 %bytes, ptr %bytes.at, align 8
  call void @seat(ptr %memory, i64 $STATE)
  call void @seat_all(ptr %memory, ptr null, ptr null, i32 1, i64 %needed, i64 0)
$TENSORS
  %numbers.place = call i64 @numbers_place(i64 %rows)
  %numbers = getelementptr i8, ptr %memory, i64 %numbers.place
  br label %number
number:
  %row = phi i64 [ 0, %lay.out ], [ %row.next, %number ]
  %number.at = getelementptr i64, ptr %numbers, i64 %row
  store i64 %row, ptr %number.at, align 8
  %row.next = add i64 %row, 1
  %more = icmp slt i64 %row.next, %rows
  br i1 %more, label %number, label %functions
functions:
$FUNCTIONS
  ret i32 0
wrong.rows:
  ret i32 1
too.small:
  ret i32 2
misplaced:
  ret i32 3
no.memory:
  ret i32 5
other.abi:
  ret i32 6
}

; Whether a call of so many rows may go on: 0, or the code of the error.
define internal i32 @ready(ptr %memory, i64 %rows) nounwind {
  %mark = load i64, ptr %memory, align 8
  %is.ready = icmp eq i64 %mark, $ABI
  br i1 %is.ready, label %laid.out, label %unready
laid.out:
  %most.at = getelementptr i64, ptr %memory, i64 1
  %most = load i64, ptr %most.at, align 8
  %few = icmp slt i64 %rows, 1
  %many = icmp sgt i64 %rows, %most
  %wrong = or i1 %few, %many
  %code = select i1 %wrong, i32 1, i32 0
  ret i32 %code
unready:
  ret i32 4
}

define ptr @$PREFIX_error_text(i32 %error) nounwind {
  %is.known = icmp ult i32 %error, $ERRORS
  %number = select i1 %is.known, i32 %error, i32 0
  %text.at = getelementptr ptr, ptr @texts, i32 %number
  %text = load ptr, ptr %text.at, align 8
  %found = select i1 %is.known, ptr %text, ptr @unknown
  ret ptr %found
}

; Note where the scratch of a worker is, behind its state.
define internal void @seat(ptr %memory, i64 %offset) nounwind {
  %state = getelementptr i8, ptr %memory, i64 %offset
  %scratch = getelementptr i8, ptr %state, i64 $SCRATCH_BEHIND_STATE
  %scratch.at = getelementptr i64, ptr %state, i64 2
  store ptr %scratch, ptr %scratch.at, align 8
  ret void
}

; Write the words of the team; see `alone.ll`.
define internal void @seat_all(ptr %memory, ptr %parallel, ptr %context, i32 %workers, i64 %behind, i64 %apart) nounwind {
  %team = getelementptr i8, ptr %memory, i64 $TEAM
  store ptr %parallel, ptr %team, align 8
  %context.at = getelementptr i64, ptr %team, i64 1
  store ptr %context, ptr %context.at, align 8
  %workers.at = getelementptr i64, ptr %team, i64 2
  %workers.wide = zext i32 %workers to i64
  store i64 %workers.wide, ptr %workers.at, align 8
  %first = getelementptr i8, ptr %memory, i64 $STATE
  %first.at = getelementptr i64, ptr %team, i64 7
  store ptr %first, ptr %first.at, align 8
  %second = getelementptr i8, ptr %memory, i64 %behind
  %second.at = getelementptr i64, ptr %team, i64 8
  store ptr %second, ptr %second.at, align 8
  %apart.at = getelementptr i64, ptr %team, i64 9
  store i64 %apart, ptr %apart.at, align 8
  ret void
}
