; The functions of an exported library: a template of `library.py`, which fills in the words that begin with a dollar
; sign. All that they keep lies in the caller's memory: the head (what marks it, the most rows, their capacity, the rows that
; what runs once has filled), the tables that the runner reads, its arenas, and the numbers of the rows.

define internal i64 @capacity(i64 %rows) nounwind {
  %padded = add i64 %rows, $LESS_THAN_ROUNDING
  %whole = and i64 %padded, -$ROUNDING
  %more = add i64 %whole, $ROUNDING
  ret i64 %more
}

; Where the batch arena begins.
define internal i64 @batch_place(i64 %rows) nounwind {
  %rounded = call i64 @capacity(i64 %rows)
  %grown = mul i64 %rounded, $SCRATCH_OF_ROW
  %padded = add i64 %grown, 63
  %scratch = and i64 %padded, -64
  %place = add i64 %scratch, $FIXED
  ret i64 %place
}

; Where the numbers of the rows begin.
define internal i64 @rows_place(i64 %rows) nounwind {
  %begin = call i64 @batch_place(i64 %rows)
  %rounded = call i64 @capacity(i64 %rows)
  %capacity = select i1 $IS_ROUNDED, i64 %rounded, i64 %rows
  %values = mul i64 %capacity, $BATCH_OF_ROW
  %end = add i64 %begin, %values
  %slack = add i64 %end, $OVERSHOOT
  %place = and i64 %slack, -64
  ret i64 %place
}

define i64 @model_memory(i64 %rows) nounwind {
  %few = icmp slt i64 %rows, 1
  %many = icmp sgt i64 %rows, $MOST_ROWS
  %wrong = or i1 %few, %many
  br i1 %wrong, label %none, label %some
none:
  ret i64 0
some:
  %place = call i64 @rows_place(i64 %rows)
  %bytes = shl i64 %rows, 3
  %size = add i64 %place, %bytes
  ret i64 %size
}

define i32 @model_init_abi(i64 %abi, ptr %memory, i64 %bytes, i64 %rows) nounwind {
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
  %needed = call i64 @model_memory(i64 %rows)
  %has.rows = icmp ne i64 %needed, 0
  br i1 %has.rows, label %sized, label %wrong.rows
sized:
  %is.short = icmp ult i64 %bytes, %needed
  br i1 %is.short, label %too.small, label %lay.out
lay.out:
  call void @llvm.memset.p0.i64(ptr %memory, i8 0, i64 %needed, i1 false)
  store i64 $ABI, ptr %memory, align 8
  %rows.at = getelementptr i64, ptr %memory, i64 1
  store i64 %rows, ptr %rows.at, align 8
  %rounded = call i64 @capacity(i64 %rows)
  %capacity = select i1 $IS_ROUNDED, i64 %rounded, i64 %rows
  %capacity.at = getelementptr i64, ptr %memory, i64 2
  store i64 %capacity, ptr %capacity.at, align 8
  %batch.place = call i64 @batch_place(i64 %rows)
  %batch = getelementptr i8, ptr %memory, i64 %batch.place
  %arenas = getelementptr i8, ptr %memory, i64 $ARENAS
  %inputs = getelementptr i8, ptr %memory, i64 $INPUTS
  %static = getelementptr i8, ptr %memory, i64 $STATIC
  %control = getelementptr i8, ptr %memory, i64 $CONTROL
$PLACES
  %numbers.place = call i64 @rows_place(i64 %rows)
  %numbers = getelementptr i8, ptr %memory, i64 %numbers.place
  %numbers.at = getelementptr i64, ptr %control, i64 $ROWS_SLOT
  store ptr %numbers, ptr %numbers.at, align 8
  br label %number
number:
  %row = phi i64 [ 0, %lay.out ], [ %row.next, %number ]
  %number.at = getelementptr i64, ptr %numbers, i64 %row
  store i64 %row, ptr %number.at, align 8
  %row.next = add i64 %row, 1
  %more = icmp slt i64 %row.next, %rows
  br i1 %more, label %number, label %done
done:
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

define i32 @model_predict(ptr %memory, i64 %rows$PARAMETERS) nounwind {
$NULLS
nonnull:
  %mark = load i64, ptr %memory, align 8
  %is.ready = icmp eq i64 %mark, $ABI
  br i1 %is.ready, label %ready, label %unready
ready:
  %most.at = getelementptr i64, ptr %memory, i64 1
  %most = load i64, ptr %most.at, align 8
  %few = icmp slt i64 %rows, 1
  %many = icmp sgt i64 %rows, %most
  %wrong = or i1 %few, %many
  br i1 %wrong, label %wrong.rows, label %go
go:
  %capacity.at = getelementptr i64, ptr %memory, i64 2
  %capacity = load i64, ptr %capacity.at, align 8
  %arenas = getelementptr i8, ptr %memory, i64 $ARENAS
  %inputs = getelementptr i8, ptr %memory, i64 $INPUTS
  %outputs = getelementptr i8, ptr %memory, i64 $OUTPUTS
  %sync = getelementptr i8, ptr %memory, i64 $SYNC
  %static = getelementptr i8, ptr %memory, i64 $STATIC
  %control = getelementptr i8, ptr %memory, i64 $CONTROL
$FED
  ; what runs once is run again where more rows are asked for than it has filled
  %filled.at = getelementptr i64, ptr %memory, i64 3
  %filled = load i64, ptr %filled.at, align 8
  %is.fresh = icmp slt i64 %filled, %rows
  %fresh = zext i1 %is.fresh to i64
  %filled.now = select i1 %is.fresh, i64 %rows, i64 %filled
  store i64 %filled.now, ptr %filled.at, align 8
  %seed.at = getelementptr i64, ptr %control, i64 $SEED_SLOT
  store i64 0, ptr %seed.at, align 8
  %step.at = getelementptr i64, ptr %control, i64 $STEP_SLOT
  store i64 0, ptr %step.at, align 8
  %local.at = getelementptr i64, ptr %control, i64 $LOCAL_SLOT
  store i64 0, ptr %local.at, align 8
  %batch.at = getelementptr i64, ptr %control, i64 $BATCH_SLOT
  store i64 %rows, ptr %batch.at, align 8
  %remaining.at = getelementptr i64, ptr %control, i64 $REMAINING_SLOT
  store i64 1, ptr %remaining.at, align 8
  %fresh.at = getelementptr i64, ptr %control, i64 $FRESH_SLOT
  store i64 %fresh, ptr %fresh.at, align 8
  %ran = call i32 @dlc_run(ptr @program, ptr %arenas, ptr %inputs, ptr %outputs, i64 %rows, i64 %capacity, i32 0, i32 1,
                           ptr %sync)
  ret i32 0
wrong.rows:
  ret i32 1
unready:
  ret i32 4
null:
  ret i32 5
}

define ptr @model_error_text(i32 %error) nounwind {
  %is.known = icmp ult i32 %error, $ERRORS
  %number = select i1 %is.known, i32 %error, i32 0
  %text.at = getelementptr ptr, ptr @texts, i32 %number
  %text = load ptr, ptr %text.at, align 8
  %found = select i1 %is.known, ptr %text, ptr @unknown
  ret ptr %found
}
